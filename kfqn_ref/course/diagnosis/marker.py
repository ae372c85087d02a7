"""Turn a model into one function for all its edits: each place becomes a call."""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis import models, primitives
from kfqn_ref.course.diagnosis.slips import (
    BINARY,
    COMPARISONS,
    OTHER,
    PATHS,
    REFUSALS,
    RESULTS,
    RIVALS,
    SCALARS,
)
from kfqn_ref.course.diagnosis.words import SYMBOLS, math

SCOPE: dict[str, Any] = vars(primitives) | {"np": np, "Pair": models.Pair}


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


class Marker(ast.NodeTransformer):
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

    def _place(
        self, node: ast.expr, base: str, parts: list[ast.expr], known: list[Any]
    ) -> ast.expr:
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
            known = [
                (label, wrong, 1, False),
                ("it is left out", f"0 * {{0}}.{node.attr}", 2, False),
            ]
            return self._place(node, f"{{0}}.{node.attr}", [node.value], known)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        """An operation and its neighbours, or a model called with other arguments."""
        if not isinstance(node.func, ast.Name):
            return self.generic_visit(node)
        name = node.func.id
        values = [*node.args, *(key.value for key in node.keywords)]
        slots = [f"{{{number}}}" for number in range(len(values))]
        named = [
            f"{key.arg}={slot}"
            for key, slot in zip(node.keywords, slots[len(node.args) :], strict=True)
        ]
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
        if "block" in self.names:
            rivals += RIVALS.get(node.id, [])
        parts: list[ast.expr] = [node, *(_later(name) for name in [*rivals, *matrices])]
        known = [("another quantity", f"{{{i + 1}}}()", 1, False) for i in range(len(rivals))]
        if kind == "scalar":
            known += SCALARS
            known += [
                ("an extra factor", f"{{0}} * {{{i + 1}}}()", 3, False) for i in range(len(rivals))
            ]
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
    return ast.Lambda(empty, ast.parse(name, mode="eval").body)


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
