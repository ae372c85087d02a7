"""Every small edit of a model, without compiling it anew for each.

Each place of a model where a mistake can sit becomes a call ``_at(place, parts…)``. As it is, it
computes what stood there; while an edit is chosen for the place, it computes the edit's expression
from the same parts. So one compiled function stands for the model and for all its variants, also
those with two edits.
"""

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis import models, primitives
from kfqn_ref.course.diagnosis.words import SYMBOLS, math

SCOPE: dict[str, Any] = vars(primitives) | {"np": np, "Pair": models.Pair}
LONGEST = 60  # signs of an expression that is shown whole
HIDDEN = {"inverse_from_products"}  # whose formula is what a student is to find


@dataclass(frozen=True)
class Edit:
    """One mistake at one place.

    Args:
        place: number of the place.   label: the kind of mistake in words.
        compute: the wrong value from the parts of the place.
        shown: the wrong expression.   rank: the lower, the likelier.
    """

    place: int
    label: str
    compute: Callable[..., Any] = field(compare=False, repr=False)
    shown: ast.expr = field(compare=False, repr=False)
    rank: int = 1
    whole: bool = False  # the label says it all


@dataclass
class Variants:
    """A model and its edits; ``run`` computes one variant."""

    name: str
    edits: list[Edit]
    originals: list[ast.expr]
    parents: dict[ast.AST, ast.AST]
    _function: Callable[..., Any]
    _chosen: dict[int, Callable[..., Any]]

    def run(self, edits: tuple[Edit, ...], args: Any, kwargs: Any) -> Any:
        """What the model gives with these edits; an exception is a result too."""
        self._chosen.clear()
        for edit in edits:
            self._chosen[edit.place] = edit.compute
        try:
            with np.errstate(all="ignore"):
                return self._function(*args, **kwargs)
        except Exception as error:  # a variant may not even run
            return error
        finally:
            self._chosen.clear()

    def words(self, edit: Edit) -> str:
        """An edit as a sentence: its kind, and what stands where something else belongs."""
        node: ast.AST = self.originals[edit.place]
        if edit.whole or self._hidden():
            target = self._target(node)
            return f"{edit.label} (in {target})" if target and not self._hidden() else edit.label
        return self._stands(edit.label, node, edit.shown)

    def both(self, first: Edit, second: Edit) -> str:
        """Two edits as one sentence, where one term holds both."""
        told = f"{self.words(first)}; and {self.words(second)}"
        if first.label == second.label and first.whole and second.whole:
            targets = [self._target(self.originals[edit.place]) for edit in (first, second)]
            places = f" (in {' and in '.join(targets)})" if all(targets) else ""
            return first.label + places
        if first.whole or second.whole or self._hidden():
            return told
        nodes = self.originals[first.place], self.originals[second.place]
        common = next((node for node in self._above(nodes[0]) if node in self._above(nodes[1])), None)
        if not isinstance(common, ast.expr) or common in nodes:
            return told
        wrong = _replaced(common, {nodes[0]: first.shown, nodes[1]: second.shown})
        labels = " and ".join(dict.fromkeys((first.label, second.label)))
        return self._stands(labels, common, wrong)

    def _hidden(self) -> bool:
        return self.name.partition("__")[0] in HIDDEN

    def _target(self, node: ast.AST) -> str:
        """The quantity whose formula the expression stands in, or nothing."""
        line = self.parents.get(self._above(node)[-1])
        target = line.targets[0] if isinstance(line, ast.Assign) else None
        return math(target) if isinstance(target, ast.Name) and target.id in SYMBOLS else ""

    def _above(self, node: ast.AST) -> list[ast.AST]:
        """The expression and those around it, from the inside."""
        found = [node]
        while isinstance(outside := self.parents.get(found[-1]), ast.expr):
            found.append(outside)
        return found

    def _stands(self, label: str, node: ast.AST, wrong: ast.AST) -> str:
        """The widest expression around the mistake that is short enough to read."""
        shown, whole = wrong, node
        for outside in self._above(node)[1:]:
            named = isinstance(outside, ast.Call) and math(outside) == ast.unparse(outside)
            if named or isinstance(outside, ast.Dict) or len(math(outside)) > LONGEST:
                break
            shown, whole = _replaced(outside, {node: wrong}), outside
        target = self._target(node)
        where = f" in {target}" if target else ""
        if math(shown) == math(whole):
            return label + where
        return f"{label}{where}: {math(shown)} stands where {math(whole)} belongs"


def _replaced(tree: ast.AST, new: dict[ast.AST, ast.expr | ast.AST]) -> ast.AST:
    """A copy of an expression with some parts replaced."""
    if tree in new:
        return new[tree]
    fresh = copy.copy(tree)
    for name, value in ast.iter_fields(fresh):
        if isinstance(value, list):
            setattr(fresh, name, [_replaced(v, new) if isinstance(v, ast.AST) else v for v in value])
        elif isinstance(value, ast.expr):
            setattr(fresh, name, _replaced(value, new))
    return fresh


@cache
def variants(name: str) -> tuple[Variants, ...]:
    """The models of a function with all edits: its own form first, then the others."""
    forms = [n for n in vars(models) if n == name or n.startswith(f"{name}__")]
    return tuple(_build(form) for form in forms)


def _build(form: str) -> Variants:
    tree = ast.parse(inspect.getsource(getattr(models, form)))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef), "a model is a function"
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    marker = _Marker(function, parents)
    marked = ast.fix_missing_locations(marker.mark(function))
    chosen: dict[int, Callable[..., Any]] = {}
    bases = marker.bases

    def at(place: int, *parts: Any) -> Any:
        return chosen.get(place, bases[place])(*parts)

    namespace = vars(models) | {"_at": at}
    exec(compile(ast.Module([marked], []), f"<{form}>", "exec"), namespace)
    bound = namespace[form]
    marker.globals.update(namespace)
    return Variants(form, marker.edits, marker.originals, parents, bound, chosen)


class _Marker(ast.NodeTransformer):
    """Puts a call in place of each expression that has edits."""

    def __init__(self, function: ast.FunctionDef, parents: dict[ast.AST, ast.AST]):
        self.edits: list[Edit] = []
        self.originals: list[ast.expr] = []
        self.bases: list[Callable[..., Any]] = []
        self.globals: dict[str, Any] = {}
        self.names = _names(function)
        self.parents = parents

    def mark(self, function: ast.FunctionDef) -> ast.FunctionDef:
        """The function with calls in its body; defaults and annotations stay."""
        new = copy.copy(function)
        new.body = [self.visit(copy.deepcopy(line)) for line in _linked(function, self.parents)]
        new.decorator_list = []
        return new

    def _place(self, node: ast.expr, base: str, parts: list[ast.expr], known: list[Any]) -> ast.expr:
        """A call for an expression; ``known``: (label, template, rank, whole) of its edits."""
        place = len(self.bases)
        count = len(parts)
        self.bases.append(self._compiled(base, count))
        self.originals.append(_original(node))
        for label, template, rank, whole in known:
            shown = _shown(template, [_original(part) for part in parts])
            compute = self._compiled(template, count)
            self.edits.append(Edit(place, label, compute, shown, rank, whole))
        new = [self.visit(part) for part in parts]
        head = ast.Name("_at", ast.Load())
        return ast.Call(head, [ast.Constant(place), *new], [])

    def _compiled(self, template: str, count: int) -> Callable[..., Any]:
        names = [f"p{number}" for number in range(count)]
        source = f"lambda {', '.join(names)}: {template.format(*names)}"
        self.globals.update({k: v for k, v in SCOPE.items() if k not in self.globals})
        return eval(source, self.globals)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Signs, factors, and the order of a product."""
        base, known = BINARY[type(node.op)]
        return self._place(node, base, [node.left, node.right], known)

    def visit_Compare(self, node: ast.Compare) -> Any:
        """A test that is made the other way, or never."""
        test = self.parents[_original(node)]
        refusal = isinstance(test, ast.UnaryOp)
        sign = ast.unparse(ast.Compare(ast.Name("a"), node.ops, [ast.Name("b")])).split()[1]
        known = REFUSALS if refusal else COMPARISONS[sign]
        return self._place(node, f"{{0}} {sign} {{1}}", [node.left, node.comparators[0]], known)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        """A minus that is missing."""
        if isinstance(node.op, ast.USub):
            return self._place(node, "-{0}", [node.operand], [("a sign", "{0}", 0, False)])
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """A transpose that is missing, or the other quantity of a record."""
        if node.attr == "T":
            missing = [("a transpose is missing", "{0}", 0, False)]
            return self._place(node, "{0}.T", [node.value], missing)
        if node.attr in OTHER:
            wrong = f"{{0}}.{OTHER[node.attr]}"
            label = f"{math(ast.Name(OTHER[node.attr]))} where {math(ast.Name(node.attr))} belongs"
            known = [(label, wrong, 1, False), ("it is left out", f"0 * {{0}}.{node.attr}", 2, False)]
            return self._place(node, f"{{0}}.{node.attr}", [node.value], known)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        """An operation and its neighbours, or a model called with other arguments."""
        if not isinstance(node.func, ast.Name):
            return self.generic_visit(node)
        name = node.func.id
        values = [*node.args, *(key.value for key in node.keywords)]
        slots = [f"{{{number}}}" for number in range(len(values))]
        named = [f"{key.arg}={slot}" for key, slot in zip(node.keywords, slots[len(node.args) :], strict=True)]
        plain = slots[: len(node.args)]
        base = f"{name}({', '.join([*plain, *named])})"
        known = [(*pair, 1, True) for pair in primitives.NEIGHBOURS.get(name, [])]
        known += _handed_on(name, plain, node.keywords, named)
        if name == "entries":
            path = values[0].value if isinstance(values[0], ast.Constant) else ""
            known = [(label, base.replace("{0}", repr(new), 1), 1, True)
                     for label, new in PATHS.get(str(path), [])]  # fmt: skip  # a path a line
        if not known:
            return self.generic_visit(node)
        return self._place(node, base, values, known)

    def visit_Name(self, node: ast.Name) -> Any:
        """Another quantity of the same kind, or a function of this one."""
        kind = SYMBOLS.get(node.id, ("", ""))[1]
        if not isinstance(node.ctx, ast.Load) or not kind:
            return node
        rivals = [n for n in self.names if n != node.id and SYMBOLS.get(n, ("", ""))[1] == kind]
        matrices = [n for n in self.names if SYMBOLS.get(n, ("", ""))[1] == "matrix"]
        parts: list[ast.expr] = [node, *(_later(name) for name in [*rivals, *matrices])]
        known = [("another quantity", f"{{{i + 1}}}()", 1, False) for i in range(len(rivals))]
        if kind == "scalar":
            known += SCALARS
            known += [("an extra factor", f"{{0}} * {{{i + 1}}}()", 3, False) for i in range(len(rivals))]
        if kind in ("vector", "matrix", "gradient"):
            known.append(("a sign", "-{0}", 2, False))
        if kind == "vector":
            known += [("an extra factor", f"{{{len(rivals) + 1 + i}}}() @ {{0}}", 3, False)
                      for i in range(len(matrices))]  # fmt: skip  # a factor a line
        if kind == "matrix":
            known.append(("a transpose", "{0}.T", 2, False))
        return self._named(node, parts, known)

    def _named(self, node: ast.Name, parts: list[ast.expr], known: list[Any]) -> ast.expr:
        place = len(self.bases)
        self.bases.append(_first)
        self.originals.append(_original(node))
        bare = [_original(node), *(part.body for part in parts[1:] if isinstance(part, ast.Lambda))]
        for label, template, rank, whole in known:
            shown = _shown(template.replace("()", ""), bare)
            compute = self._compiled(template, len(parts))
            self.edits.append(Edit(place, label, compute, shown, rank, whole))
        head = ast.Name("_at", ast.Load())
        return ast.Call(head, [ast.Constant(place), *parts], [])

    def visit_Return(self, node: ast.Return) -> Any:
        """The right result, and then something done to it."""
        assert node.value is not None, "a model returns something"
        if isinstance(node.value, ast.Tuple | ast.Dict):
            return self.generic_visit(node)
        scalars = [n for n in self.names if SYMBOLS.get(n, ("", ""))[1] == "scalar"]
        parts: list[ast.expr] = [node.value, *(_later(name) for name in scalars)]
        known = list(RESULTS)
        for i, name in enumerate(scalars):
            symbol = math(ast.Name(name))
            told = f"the result has an extra factor {symbol}"
            known.append((told, f"{{0}} * {{{i + 1}}}()", 3, True))
            known.append((f"the result is divided by {symbol}", f"{{0}} / {{{i + 1}}}()", 3, True))
        place = len(self.bases)
        self.bases.append(_first)
        self.originals.append(_original(node.value))
        for label, template, rank, whole in known:
            compute = self._compiled(template, len(parts))
            self.edits.append(Edit(place, label, compute, _original(node.value), rank, whole))
        head = ast.Name("_at", ast.Load())
        new = [self.visit(node.value), *parts[1:]]
        return ast.Return(ast.Call(head, [ast.Constant(place), *new], []))


def _first(*parts: Any) -> Any:
    return parts[0]


def _later(name: str) -> ast.Lambda:
    """A quantity that is looked up only if an edit asks for it."""
    empty = ast.arguments([], [], None, [], [], None, [])
    return ast.Lambda(empty, ast.Name(name, ast.Load()))


def _names(function: ast.FunctionDef) -> list[str]:
    """Arguments and variables of a model, in their order."""
    found = [arg.arg for arg in [*function.args.args, *function.args.kwonlyargs]]
    stored = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
    found += [node.id for node in stored if isinstance(node.ctx, ast.Store)]
    return list(dict.fromkeys(found))


def _linked(function: ast.FunctionDef, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.stmt]:
    """The lines of a model, each node of which knows where it came from."""
    for node in ast.walk(function):
        if isinstance(node, ast.expr):
            node._origin = _Origin(node)  # type: ignore[attr-defined]  # a note for the marker
    yield from function.body


class _Origin:
    """Survives a deep copy as the same object: the expression before it was marked."""

    def __init__(self, node: ast.expr):
        self.node = node

    def __deepcopy__(self, memo: Any) -> "_Origin":
        return self


def _original(node: ast.AST) -> Any:
    origin = getattr(node, "_origin", None)
    return node if origin is None else origin.node


def _shown(template: str, parts: list[ast.expr]) -> ast.expr:
    """The expression of a template with its parts in it."""
    names = [f"part_{number}" for number in range(len(parts))]
    tree = ast.parse(template.format(*names), mode="eval").body

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> Any:
            return parts[names.index(node.id)] if node.id in names else node

    return Fill().visit(tree)


def _handed_on(
    name: str, plain: list[str], keywords: list[ast.keyword], named: list[str]
) -> list[Any]:
    """Calls of another function of the assignment, with an option left out."""
    if not hasattr(models, name) or name in primitives.NEIGHBOURS:
        return []
    found = []
    for number, keyword in enumerate(keywords):
        rest = [slot for index, slot in enumerate(named) if index != number]
        label = f"{keyword.arg} is not handed on to {name}"
        found.append((label, f"{name}({', '.join([*plain, *rest])})", 1, True))
    return found


OTHER = {"H_a": "H_g", "H_g": "H_a", "s_g": "y_g", "y_g": "s_g", "h": "Dh", "Dh": "h",
         "s": "y", "y": "s"}  # fmt: skip  # a quantity, and the one it is taken for

BINARY: dict[Any, tuple[str, list[Any]]] = {
    ast.Add: ("{0} + {1}", [
        ("a sign", "{0} - {1}", 0, False), ("a sign", "{1} - {0}", 1, False),
        ("a term is missing", "{0}", 0, False), ("a term is missing", "{1}", 0, False),
        ("a product, where a sum belongs", "{0} * {1}", 3, False)]),
    ast.Sub: ("{0} - {1}", [
        ("a sign", "{0} + {1}", 0, False), ("a sign, old minus new", "{1} - {0}", 0, False),
        ("a term is missing", "{0}", 0, False), ("a term is missing", "-{1}", 1, False),
        ("a term is missing", "{1}", 1, False)]),
    ast.Mult: ("{0} * {1}", [
        ("a factor is missing", "{0}", 0, False), ("a factor is missing", "{1}", 0, False),
        ("a quotient, where a product belongs", "{0} / {1}", 1, False),
        ("a term is missing", "0 * {0} * {1}", 1, False),
        ("a factor twice", "2 * {0} * {1}", 3, False)]),
    ast.Div: ("{0} / {1}", [
        ("a factor is missing", "{0}", 0, False),
        ("a product, where a quotient belongs", "{0} * {1}", 0, False),
        ("a quotient the wrong way round", "{1} / {0}", 2, False),
        ("the complement", "1 - {0} / {1}", 2, False),
        ("a factor is missing", "1 / {1}", 1, False)]),
    ast.MatMult: ("{0} @ {1}", [
        ("a product in the wrong order", "{1} @ {0}", 0, False),
        ("a transpose too many", "{0}.T @ {1}", 1, False),
        ("a transpose too many", "{0} @ {1}.T", 1, False),
        ("a factor is missing", "{0}", 0, False), ("a factor is missing", "{1}", 0, False),
        ("a product entry by entry, where a matrix product belongs", "{0} * {1}", 1, False)]),
}  # fmt: skip  # a mistake a line

SCALARS = [
    ("its complement", "1 - {0}", 1, False), ("a square", "{0} ** 2", 2, False),
    ("a root", "np.sqrt({0})", 1, False), ("its inverse", "1 / {0}", 1, False),
    ("a sign", "-{0}", 2, False), ("a factor is missing", "1.0 + 0 * {0}", 2, False),
    ("a term is missing", "0 * {0}", 2, False),
]  # fmt: skip  # several mistakes a line

RESULTS = [
    ("the result is transposed", "{0}.T", 2, True),
    ("the result has the wrong sign", "-{0}", 0, True),
    ("the result is made symmetric, which hides a mistake", "({0} + {0}.T) / 2", 3, True),
    ("only the upper triangle of the result is filled", "np.triu({0})", 2, True),
    ("only the diagonal of the result is filled", "diag({0})", 2, True),
    ("the order of the result's rows is reversed", "{0}[::-1]", 2, True),
    ("the result is rounded to single precision", "{0}.astype(np.float32).astype(float)", 3, True),
    ("the result is rounded to whole numbers", "{0}.astype(int).astype(float)", 3, True),
]

COMPARISONS: dict[str, list[Any]] = {
    ">=": [
        ("the inequality is the wrong way round", "{0} <= {1}", 0, False),
        ("the threshold is 0", "{0} >= 0", 1, False),
        ("the case below the threshold is not treated", "True", 1, True),
        ("the damping always acts, also where it is not needed", "False", 1, True)],
    ">": [("what is tested for a positive value is always used", "True", 2, True),
          ("it is never used", "False", 2, True)],
    "==": [("only one of the two cases is treated", "True", 1, True),
           ("only one of the two cases is treated", "False", 1, True)],
}  # fmt: skip  # a mistake a line

REFUSALS = [
    ("nothing is refused: sᵀy is not tested", "True", 0, True),
    ("everything is refused", "False", 1, True),
    ("sᵀy = 0 is accepted: the inequality must be strict", "{0} >= {1}", 0, True),
    ("NaN passes the test: it must be `not sᵀy > 0`", "not {0} <= {1}", 0, True),
    ("NaN and 0 pass the test: it must be `not sᵀy > 0`", "not {0} < {1}", 0, True),
    ("negative sᵀy is accepted, and positive refused", "{0} < {1}", 1, True),
]

PATHS = {
    "ntgth->gh": [("all pairs of locations t, u are summed, where only t = u belongs", "ntguh->gh")],
    "nta,nub,ntguh->agbh": [
        ("the exact block has only the terms t = u", "nta,ntb,ntgth->agbh")],
    "nta,ntb,ntgth->agbh": [
        ("SUD keeps all pairs of locations t, u", "nta,nub,ntguh->agbh")],
    "tab,tgh->agbh": [("IAD multiplies all pairs of locations", "tab,ugh->agbh")],
    "nta,ntb->ab": [("all pairs of locations t, u are summed, where only t = u belongs",
                     "nta,nub->ab")],
}  # fmt: skip  # a path a line
