"""The power of the suite as a curve: ``python -m kfqn_ref.testing.variants --out DIR``.

Wrong variants of every kernel are generated from the syntax tree of the reference: another
operator, sign, index, transposition, threshold or default, a comparison that is strict or not, a
dropped term, a cast to float32, a write to an argument. Each is made active on a part of the
inputs only (:data:`ACTIVE`): a share of them, a size, a call count, a layout. The share of variants
that the suite rejects, by the width of the active part and by the number of examples, is its power.

``DIR/variants.json`` holds one row a trial, is written after every few trials, and what it holds is
not tried again: a run that was stopped goes on where it was."""

import ast
import copy
import inspect
import json
import textwrap
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from kfqn_ref import bfgs, damping, factors, kronecker, lbfgs, patches
from kfqn_ref._typing import formulas_only
from kfqn_ref.files import write_atomically
from kfqn_ref.testing.implementation import Implementation
from kfqn_ref.testing.law import Check
from kfqn_ref.testing.runner import Effort, all_checks, run_check
from kfqn_ref.testing.thorough import versions

# For every kernel the functions of the reference that make it, the kernel last.
SOURCES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "bfgs_inverse_update": (bfgs, ("bfgs_inverse_update",)),
    "bfgs_direct_update": (bfgs, ("bfgs_direct_update",)),
    "powell_damp": (damping, ("powell_theta", "powell_damp")),
    "identity_damp": (damping, ("identity_theta", "identity_damp")),
    "lm_damp": (damping, ("lm_damp",)),
    "double_damp": (damping, ("powell_damp", "identity_damp", "double_damp")),
    "dp_dlm_damp": (damping, ("powell_damp", "lm_damp", "dp_dlm_damp")),
    "lbfgs_push": (lbfgs, ("lbfgs_push",)),
    "lbfgs_two_loop": (lbfgs, ("_curvatures", "lbfgs_two_loop")),
    "lbfgs_compact": (lbfgs, ("_curvatures", "lbfgs_compact")),
    "lbfgs_dense": (lbfgs, ("lbfgs_dense",)),
    "kron_matvec": (kronecker, ("kron_matvec",)),
    "im2col": (patches, ("im2col",)),
    "col2im": (patches, ("col2im",)),
    "input_factor": (factors, ("input_factor",)),
    "hessian_action": (factors, ("hessian_action",)),
    "input_pair": (factors, ("input_pair",)),
    "average_pair": (factors, ("average_pair",)),
}

# How wide the part of the inputs is on which a variant is active.
WIDTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
EXAMPLES = (20, 100, 500)
ACTIVE = ("n = 1", "n ≥ 6", "n = 33", "small cosine", "every 500th call", "Fortran order")

# Variants that compute the same numbers as the kernel, and why.
_TIE = "on the threshold both formulas give θ = 1, up to rounding"
_INNER = "the default of an inner function, which is always called with a value"
_V = "np.eye(s.size) - rho * np.outer(y, s)"
EQUIVALENT: dict[str, str] = {
    f"bfgs_inverse_update: {_V} → rho * np.outer(y, s) - np.eye(s.size) (12)": "(−V)ᵀH(−V) = VᵀHV",
    "powell_damp: 0.2 → 0.1 (16)": _INNER,
    "double_damp: 0.2 → 0.1 (17)": _INNER,
    "dp_dlm_damp: 0.2 → 0.1 (16)": _INNER,
    "powell_damp: sy >= mu1 * yHy → sy > mu1 * yHy (21)": _TIE,
    "identity_damp: sy >= mu2 * ss → sy > mu2 * ss (19)": _TIE,
    "lbfgs_two_loop: 1 → 2 (175)": "the shape of zeros that are replaced before they are read",
    "input_pair: A @ s → A.T @ s (21)": "A is symmetric",
    "col2im: 2 → 3 (200)": "the image is cut out of more zeros below it",
    "col2im: 2 → 3 (204)": "the image is cut out of more zeros on its right",
}

Edit = tuple[str, ast.AST]  # the kind of a mistake, and what takes the place of a node


@dataclass(frozen=True)
class Variant:
    """One wrong version of a kernel: its name, the kind of the mistake, and its source."""

    kernel: str
    kind: str
    name: str
    source: str

    def function(self) -> Callable[..., Any]:
        """The function, as the reference's module would hold it without guards."""
        return compiled(self.kernel, self.source)


def _refuses(line: ast.stmt) -> bool:
    """Whether a statement only raises, for arguments that are not valid."""
    return isinstance(line, ast.If) and isinstance(line.body[0], ast.Raise)


@cache
def sources_of(kernel: str) -> ast.Module:
    """The functions that make a kernel, without decorators, docstrings and refusals."""
    module, names = SOURCES[kernel]
    bodies = []
    for name in names:
        function = inspect.unwrap(getattr(module, name))
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(tree, ast.FunctionDef), "a kernel is a function"
        tree.decorator_list = []
        if ast.get_docstring(tree) is not None:
            tree.body = tree.body[1:]
        tree.body = [line for line in tree.body if not _refuses(line)]
        tree.returns = None
        for argument in (*tree.args.args, *tree.args.kwonlyargs):
            argument.annotation = None
        bodies.append(tree)
    return ast.Module(bodies, [])


def compiled(kernel: str, source: str) -> Callable[..., Any]:
    """The kernel of this source, with the other names of the reference's module."""
    module, _ = SOURCES[kernel]
    names = dict(vars(module))
    exec(compile(source, f"<{kernel}>", "exec"), names)
    return names[kernel]


OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
STRICT = {ast.GtE: ast.Gt, ast.Gt: ast.GtE, ast.LtE: ast.Lt, ast.Lt: ast.LtE}
TURNED = {ast.GtE: ast.LtE, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.Lt: ast.Gt}
MATRICES = {"A", "G", "X", "V", "R_inv", "S", "Y", "Psi"}  # those that are not symmetric


def edits(node: ast.AST) -> Iterator[Edit]:
    """The mistakes that can be made at one node of a syntax tree."""
    if isinstance(node, ast.BinOp):
        yield from _edits_of_operation(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node.operand
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in STRICT:
        yield from _edits_of_comparison(node)
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "index", ast.Constant(node.value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is float:
        yield "constant", ast.Constant(node.value / 2)
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield "transposition", node.value
    elif isinstance(node, ast.Call):
        yield from _edits_of_call(node)


def _edits_of_operation(node: ast.BinOp) -> Iterator[Edit]:
    kind = type(node.op)
    if kind in OPPOSITE:
        yield "operator", ast.BinOp(node.left, OPPOSITE[kind](), node.right)
        yield "dropped term", node.left
    if kind in (ast.Add, ast.Mult):
        yield "dropped term", node.right
    if kind is ast.Sub:
        yield "sign", ast.BinOp(node.right, ast.Sub(), node.left)
    if kind is ast.MatMult:
        for side in ("left", "right"):
            operand = getattr(node, side)
            if isinstance(operand, ast.Name) and operand.id in MATRICES:
                turned = ast.Attribute(operand, "T", ast.Load())
                parts = {"left": node.left, "right": node.right, side: turned}
                yield "transposition", ast.BinOp(parts["left"], ast.MatMult(), parts["right"])


def _edits_of_comparison(node: ast.Compare) -> Iterator[Edit]:
    right = node.comparators[0]
    yield "strictness", ast.Compare(node.left, [STRICT[type(node.ops[0])]()], [right])
    yield "comparison", ast.Compare(node.left, [TURNED[type(node.ops[0])]()], [right])
    for factor in (0.9, 1.01):
        moved = ast.BinOp(ast.Constant(factor), ast.Mult(), right)
        yield "threshold", ast.Compare(node.left, node.ops, [moved])


def _edits_of_call(node: ast.Call) -> Iterator[Edit]:
    called = ast.unparse(node.func)
    if called in ("np.outer", "np.multiply.outer") and len(node.args) == 2:
        yield "argument order", ast.Call(node.func, node.args[::-1], node.keywords)
    if called == "reversed":
        yield "order of a loop", node.args[0]


class _Replacing(ast.NodeTransformer):
    """Puts a new node into the place of one old node."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old = old
        self.new = new

    def visit(self, node: ast.AST) -> Any:
        """Return the new node for the old one, and every other node with its children visited."""
        if node is self.old:
            return ast.copy_location(self.new, node)
        return self.generic_visit(node)


def _with_edit(tree: ast.Module, index: int, choice: int) -> str:
    """The source of the tree with one edit at one node."""
    fresh = copy.deepcopy(tree)
    node = list(ast.walk(fresh))[index]
    _, new = list(edits(node))[choice]
    return ast.unparse(ast.fix_missing_locations(_Replacing(node, new).visit(fresh)))


def _with_line(tree: ast.Module, line: str) -> str:
    """The source of the tree with a line before the body of its last function."""
    fresh = copy.deepcopy(tree)
    last = fresh.body[-1]
    assert isinstance(last, ast.FunctionDef), "a kernel is a function"
    last.body = [*ast.parse(line).body, *last.body]
    return ast.unparse(ast.fix_missing_locations(fresh))


@cache
def variants_of(kernel: str) -> tuple[Variant, ...]:
    """All variants of a kernel; those that do not differ in their source are left out."""
    tree = sources_of(kernel)
    same = ast.unparse(tree)
    found: dict[str, Variant] = {}
    for index, node in enumerate(ast.walk(tree)):
        for choice, (kind, new) in enumerate(edits(node)):
            name = f"{kernel}: {ast.unparse(node)} → {ast.unparse(new)}"
            source = _with_edit(tree, index, choice)
            if source == same:
                continue
            found.setdefault(source, Variant(kernel, kind, f"{name} ({index})", source))
    last = tree.body[-1]
    assert isinstance(last, ast.FunctionDef), "a kernel is a function"
    arrays = [argument.arg for argument in last.args.args]
    for name in (name for name in arrays if name not in ("kernel_size", "x_shape", "old", "new")):
        cast = f"{name} = np.asarray({name}).astype(np.float32).astype(np.float64)"
        write = f"{name} *= 1"
        for kind, line in (("float32 cast", cast), ("in-place write", write)):
            source = _with_line(tree, line)
            found[source] = Variant(kernel, kind, f"{kernel}: {line}", source)
    return tuple(found.values())


def all_variants() -> tuple[Variant, ...]:
    """The variants of all kernels that are not equivalent to the reference."""
    every = (variant for kernel in SOURCES for variant in variants_of(kernel))
    return tuple(variant for variant in every if variant.name not in EQUIVALENT)


# --------------------------------------------------------------------------- where one is active


def _arrays(args: tuple[Any, ...]) -> list[np.ndarray]:
    flat: list[Any] = []
    for arg in args:
        if isinstance(arg, tuple):
            flat.extend(arg)
        else:
            flat.append(arg)
    return [part for part in flat if isinstance(part, np.ndarray)]


def share_of(args: tuple[Any, ...]) -> float:
    """A number in [0, 1) that the arguments decide, spread evenly over random arguments."""
    code = 0
    for array in _arrays(args):
        code = zlib.crc32(array.tobytes(), code)
    return code / 2**32


def _cosine(args: tuple[Any, ...]) -> float:
    vectors = [a for a in _arrays(args) if a.ndim == 1 and a.size > 1]
    if len(vectors) < 2 or vectors[-1].shape != vectors[-2].shape:
        return 1.0
    s, y = vectors[-2:]
    size = np.linalg.norm(s) * np.linalg.norm(y)
    if size == 0:
        return 1.0
    return float(abs(s @ y) / size)


def _length(args: tuple[Any, ...]) -> int:
    return max((a.shape[-1] for a in _arrays(args) if a.ndim), default=0)


def _fortran(args: tuple[Any, ...]) -> bool:
    arrays = [a for a in _arrays(args) if a.ndim > 1]
    return any(a.flags.f_contiguous and not a.flags.c_contiguous for a in arrays)


def is_active(where: str | float, args: tuple[Any, ...], calls: int) -> bool:
    """Whether a variant is active: for a share of the arguments, or for one class of them."""
    if not isinstance(where, str):
        return where >= 1 or share_of(args) < where
    answers = {
        "n = 1": lambda: _length(args) == 1,
        "n ≥ 6": lambda: _length(args) >= 6,
        "n = 33": lambda: _length(args) == 33,
        "small cosine": lambda: _cosine(args) < 0.02,
        "every 500th call": lambda: calls % 500 == 0,
        "Fortran order": lambda: _fortran(args),
    }
    return answers[where]()


def activated(variant: Variant, where: str | float) -> Callable[..., Any]:
    """The kernel, with the variant in its place where it is active."""
    wrong = variant.function()
    right = compiled(variant.kernel, ast.unparse(sources_of(variant.kernel)))
    calls = [0]

    def function(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        chosen = wrong if is_active(where, args, calls[0]) else right
        with formulas_only():
            return chosen(*args, **kwargs)

    return function


# ---------------------------------------------------------------------------------------- trials


@cache
def checks_of(kernel: str) -> tuple[Check, ...]:
    """The checks that need this kernel alone, those of formulas first: they reject most."""
    own = [check for check in all_checks() if check.requires == (kernel,)]
    order = {"laws": 0, "protocol": 1}
    return tuple(sorted(own, key=lambda c: (not c.sizes, order.get(c.group, 2), c.cost)))


def killer(variant: Variant, where: str | float, examples: int, seed: int) -> str:
    """The first check that rejects a variant, or nothing."""
    implementation = Implementation({variant.kernel: activated(variant, where)})
    effort = Effort(examples, seed, shrink=False)
    for check in checks_of(variant.kernel):
        if run_check(check, implementation, effort).outcome == "failed":
            return check.name
    return ""


Row = dict[str, Any]


def plan(cell: int, seed: int) -> list[Row]:
    """The trials: every variant active everywhere, and then so many drawn ones in every cell, one
    a cell in turn: what is stopped has tried as much in each.
    """
    variants = all_variants()
    rows = [
        {"variant": v.name, "kind": v.kind, "where": 1.0, "examples": 100, "seed": seed}
        for v in variants
    ]
    rng = np.random.default_rng(seed)
    cells = [(width, examples) for examples in EXAMPLES for width in WIDTHS]
    cells += [(where, 100) for where in ACTIVE]
    orders = [rng.permutation(len(variants)) for _ in cells]
    for turn in range(min(cell, len(variants))):
        for (where, examples), order in zip(cells, orders, strict=True):
            v = variants[order[turn]]
            row = {"variant": v.name, "kind": v.kind, "where": where, "examples": examples}
            rows.append(row | {"seed": seed})
    return rows


def key_of(row: Row) -> str:
    """What a trial is told apart by."""
    return json.dumps([row[k] for k in ("variant", "where", "examples", "seed")])


def interval(killed: int, tried: int) -> tuple[float, float]:
    """The Clopper-Pearson interval of a share, at 95 %."""
    from scipy.stats import binomtest

    found = binomtest(killed, tried).proportion_ci(method="exact")
    return float(found.low), float(found.high)


def shares(trials: list[Row]) -> dict[tuple[str | float, int], tuple[int, int]]:
    """Variants rejected and tried, by the part on which they are active and by the examples."""
    found: dict[tuple[str | float, int], tuple[int, int]] = {}
    for row in trials:
        cell = row["where"], row["examples"]
        killed, tried = found.get(cell, (0, 0))
        found[cell] = killed + bool(row["killed_by"]), tried + 1
    return found


def write(out: Path, rows: list[Row], command: str) -> None:
    """Write the trials, one a line."""
    head = {"command": command, "versions": versions()}
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    text = json.dumps(head)[:-1] + ', "trials": [\n' + lines + "\n]}\n"
    write_atomically(out / "variants.json", text.encode())


def read(path: Path) -> list[Row]:
    """The trials of an earlier run with the same versions."""
    if not path.is_file():
        return []
    data = json.loads(path.read_text(encoding="utf-8"))
    return data["trials"] if data["versions"] == versions() else []


def command(
    out: Annotated[Path, typer.Option(help="Directory for variants.json.", file_okay=False)],
    cell: Annotated[int, typer.Option(min=1, help="Variants in every cell of the table.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the cases and of the choice.")] = 0,
    minutes: Annotated[float, typer.Option(min=0.0, help="Processor time to use.")] = 25.0,
) -> None:
    """Put variants of every kernel through the checks, until the time is used up."""
    console = Console(highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    rows = read(out / "variants.json")
    done = {key_of(row) for row in rows}
    by_name = {variant.name: variant for variant in all_variants()}
    asked = f"python -m kfqn_ref.testing.variants --out DIR --cell {cell} --seed {seed}"
    end = time.process_time() + 60 * minutes
    for row in plan(cell, seed):
        if time.process_time() > end:
            break
        if key_of(row) in done:
            continue
        variant = by_name[row["variant"]]
        found = killer(variant, row["where"], row["examples"], row["seed"])
        rows.append(row | {"killed_by": found})
        if not found:
            console.print(f"survived: {row}", markup=False, soft_wrap=True)
        if len(rows) % 20 == 0:
            write(out, rows, asked)
    write(out, rows, asked)
    killed = sum(bool(row["killed_by"]) for row in rows)
    console.print(f"{killed} of {len(rows)} trials ended in a rejection")


if __name__ == "__main__":
    typer.run(command)
