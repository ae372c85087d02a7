"""Expressions of the models in the notation of the book: ``rho * outer(s, y)`` is ρ s yᵀ."""

import ast

# What a name stands for, and its kind: a scalar, vector, matrix, or record of a pass.
SYMBOLS = {
    "H": ("H", "matrix"), "B": ("B", "matrix"), "V": ("V", "matrix"), "A": ("A", "matrix"),
    "G": ("G", "matrix"), "X": ("X", "matrix"), "R": ("R⁻¹", "matrix"), "D": ("D", "matrix"),
    "S": ("S", "rows"), "Y": ("Y", "rows"), "H_a": ("H_a", "matrix"), "H_g": ("H_g", "matrix"),
    "M": ("M", "gradient"), "g": ("∇f", "gradient"), "W": ("W", "gradient"),
    "left": ("(I − ρ s yᵀ)", "matrix"), "right": ("(I − ρ y sᵀ)", "matrix"),
    "corner": ("R⁻ᵀ(D + γ Y Yᵀ)R⁻¹", "matrix"), "middle": ("the middle matrix", "matrix"),
    "outside": ("[S; γ Y]", "matrix"), "e": ("e", "vector"),
    "s": ("s", "vector"), "y": ("y", "vector"), "q": ("q", "vector"), "r": ("r", "vector"),
    "v": ("v", "vector"), "u": ("u", "vector"), "a_mean": ("ā̄", "vector"),
    "s_tilde": ("s̃", "vector"), "y_tilde": ("ỹ", "vector"), "Hy": ("H y", "vector"),
    "Bs": ("B s", "vector"), "As": ("A s", "vector"), "s_g": ("s_g", "vector"),
    "y_g": ("y_g", "vector"), "s_kept": ("s_g", "vector"), "y_kept": ("y_g", "vector"),
    "sy": ("sᵀy", "scalar"), "yHy": ("yᵀH y", "scalar"), "sBs": ("sᵀB s", "scalar"),
    "rho": ("ρ", "scalar"), "theta": ("θ", "scalar"), "mu1": ("mu1", "scalar"),
    "lam": ("λ", "scalar"), "lam_a": ("λ_A", "scalar"), "lam_g": ("λ_G", "scalar"),
    "gamma": ("γ", "scalar"), "alpha": ("α", "scalar"), "beta": ("β", "scalar"),
    "decay": ("decay", "scalar"), "weight": ("(1 − decay)", "scalar"),
    "pair_decay": ("decay", "scalar"), "momentum": ("momentum", "scalar"),
    "lr": ("lr", "scalar"), "damping": ("λ", "scalar"), "N": ("N", "scalar"),
    "T": ("|T|", "scalar"), "scale": ("‖exact‖", "scalar"), "bias": ("the bias", "scalar"),
    "first": ("the first pass", "record"), "second": ("the second pass", "record"),
    "before": ("the first pass", "record"), "behind": ("the second pass", "record"),
    "old": ("old", "record"), "new": ("new", "record"), "block": ("", "other"),
    "S_new": ("S", "rows"), "Y_new": ("Y", "rows"), "keep": ("decay", "scalar"),
    "last": ("the bias entry", "scalar"), "average": ("the average", "pair"),
    "start": ("q₀", "vector"),
    "damped": ("the damped pair", "pair"), "pair": ("the new pair", "pair"),
    "A_t": ("A_t", "tensor"), "G_t": ("G_t", "tensor"),
    "exact": ("exact", "tensor"), "sud": ("SUD", "tensor"), "iad": ("IAD", "tensor"),
    "both": ("A ⊗ G", "tensor"), "a": ("a", "tensor"), "a_bar": ("ā", "tensor"),
    "weights": ("Σ u ā", "tensor"), "kernel": ("v", "vector"), "seen": ("ā", "tensor"),
}  # fmt: skip  # several names a line

SIGNS = {ast.Add: " + ", ast.Sub: " − ", ast.Mult: " ", ast.Div: " / ", ast.Pow: "^"}
TESTS = {ast.Gt: ">", ast.GtE: "≥", ast.Lt: "<", ast.LtE: "≤", ast.Eq: "="}
FUNCTIONS = {
    "identity": "I", "root": "√{0}", "inverse": "{0}⁻¹", "zeros": "0",
    "upper": "triu({0})", "diag": "diag({0})", "joined": "[{0}; {1}]",
    "mean_locations": "{0}", "mean_samples": "mean({0})", "Pair": "({0}, {1})",
    "powell_damp": "(2.1) with {0}, {1}, {2}", "lm_damp": "(2.3) with {0}, {1}",
    "hessian_action": "A {1}", "bfgs_inverse_update": "BFGS({0}, {1}, {2})",
    "tensor_product": "{0} ⊗ {1}", "sqrt": "√{0}", "ones_last": "({0}, 1)",
}  # fmt: skip  # several functions a line


PATHS = {
    "nta,ntb->ab": "Σ ā āᵀ", "ntgth->gh": "Σ ∂²f/∂h_t²", "tgh->gh": "Σ_t G_t", "tab->ab": "Σ_t A_t",
    "nt,nta->a": "Σ u ā", "nta,ntb->tab": "Σ_n ā āᵀ", "ntgth->tgh": "Σ_n ∂²f/∂h_t²",
    "tab,tgh->agbh": "Σ_t A_t ⊗ G_t", "ab,gh->agbh": "A ⊗ G",
    "nta,nub,ntguh->agbh": "Σ_{t,u}", "nta,ntb,ntgth->agbh": "Σ_{t=u}",
}  # fmt: skip  # several sums a line


def math(node: ast.AST) -> str:
    """An expression as the book writes it."""
    match node:
        case ast.Name(id=name):
            return SYMBOLS.get(name, (name, ""))[0] or name
        case ast.Constant(value=value):
            return f"{value:g}" if isinstance(value, int | float) else str(value)
        case ast.Attribute(value=value, attr="T"):
            return _transposed(math(value), value)
        case ast.Attribute(value=value, attr=attr):
            return _attribute(value, attr)
        case ast.UnaryOp(op=ast.USub(), operand=value):
            return f"−{_factor(value)}"
        case ast.UnaryOp(op=ast.Not(), operand=value):
            return math(value)
        case ast.BinOp(left=left, op=ast.MatMult(), right=right):
            return _product(left, right)
        case ast.BinOp(left=left, op=op, right=right):
            return _binary(left, op, right)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return f"{math(left)} {TESTS.get(type(op), '?')} {math(right)}"
        case ast.Call(func=ast.Name(id="entries"), args=[ast.Constant(value=str(path)), *_]):
            return PATHS.get(path, "the sum")
        case ast.Call(func=ast.Attribute(value=value, attr="sum")):
            return f"Σ {math(value)}"
        case ast.Call(func=ast.Attribute(attr="eye")):
            return "I"
        case ast.Call(func=ast.Attribute(attr="norm"), args=[value]):
            return f"‖{math(value)}‖"
        case ast.Call(func=ast.Name(id="outer"), args=[column, row]):
            return f"{_factor(column)} {_transposed(math(row), row)}"
        case ast.Call(func=ast.Name(id=name), args=args) if name in FUNCTIONS:
            return FUNCTIONS[name].format(*map(math, args))
        case ast.Call(func=ast.Attribute(attr=name), args=args) if name in FUNCTIONS:
            return FUNCTIONS[name].format(*map(math, args))
    return ast.unparse(node)


def _binary(left: ast.AST, op: ast.AST, right: ast.AST) -> str:
    sign = SIGNS.get(type(op), " ? ")
    if isinstance(op, ast.Mult) and isinstance(left, ast.Constant) and left.value == 0:
        return "0"
    if isinstance(op, ast.Add | ast.Sub):
        after = _factor(right) if isinstance(op, ast.Sub) else math(right)
        return f"{math(left)}{sign}{after}"
    return f"{_factor(left)}{sign}{_factor(right)}"


def _factor(node: ast.AST) -> str:
    """In brackets where it is a sum."""
    if isinstance(node, ast.Name) and node.id in ("Hy", "Bs", "As"):
        return f"({math(node)})"
    is_sum = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
    return f"({math(node)})" if is_sum else math(node)


def _product(left: ast.AST, right: ast.AST) -> str:
    space = "" if _is_vector(left) and _is_single(right) else " "
    front = _transposed(math(left), left) if _is_vector(left) else _factor(left)
    return f"{front}{space}{_factor(right)}"


def _is_single(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and len(math(node)) <= 2


def _is_vector(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return SYMBOLS.get(node.id, ("", ""))[1] == "vector"
    return isinstance(node, ast.Attribute) and node.attr in ("s", "y", "s_g", "y_g")


def _transposed(text: str, node: ast.AST) -> str:
    if text.endswith("⁻¹"):
        return text.removesuffix("⁻¹") + "⁻ᵀ"
    single = isinstance(node, ast.Name | ast.Attribute) and " " not in text
    return f"{text}ᵀ" if single else f"({text})ᵀ"


def _attribute(value: ast.AST, attr: str) -> str:
    symbol = SYMBOLS.get(attr, (attr, ""))[0]
    owner = math(value) if isinstance(value, ast.Name) else ""
    if attr == "M":
        return "the old M"
    return f"{symbol} of {owner}" if owner not in ("", "block") else symbol
