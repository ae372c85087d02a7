"""Every small edit of a model, without compiling it anew for each.

Each place of a model where a mistake can sit becomes a call ``_at(place, parts…)``. As it is, it
computes what stood there; while an edit is chosen for the place, it computes the edit's expression
from the same parts. So one compiled function stands for the model and for all its variants, also
those with two edits.
"""

import ast
import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis import models
from kfqn_ref.course.diagnosis.marker import Edit, Marker
from kfqn_ref.course.diagnosis.words import SYMBOLS, math

LONGEST = 60  # signs of an expression that is shown whole
HIDDEN = {"inverse_from_products"}  # whose formula is what a student is to find


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
        common = next(
            (node for node in self._above(nodes[0]) if node in self._above(nodes[1])), None
        )
        if not isinstance(common, ast.expr) or common in nodes:
            return told
        wrong = _replaced(common, {nodes[0]: first.shown, nodes[1]: second.shown})
        labels = " and ".join(dict.fromkeys((first.label, second.label)))
        return self._stands(labels, common, wrong)

    def groups(self) -> list[tuple[Edit, ...]]:
        """The same edit of the same quantity wherever it stands: in one line, or in all."""
        found: dict[tuple[str, ...], list[Edit]] = {}
        for edit in self.edits:
            node = self.originals[edit.place]
            line = str(id(self.parents.get(self._above(node)[-1])))
            same = math(node), edit.label, math(edit.shown)
            for key in (same, (*same, line)):
                found.setdefault(key, []).append(edit)
        many = {tuple(e.place for e in group): tuple(group) for group in found.values()}
        return [group for places, group in many.items() if len(set(places)) > 1]

    def all_words(self, group: tuple[Edit, ...]) -> str:
        """The same edit at several places, as one sentence."""
        if len(group) == 1:
            return self.words(group[0])
        nodes = [self.originals[edit.place] for edit in group]
        around = [node for node in self._above(nodes[0]) if isinstance(node, ast.expr)]
        common = [c for c in around if all(c in self._above(node) for node in nodes)]
        if not common or group[0].whole or self._hidden():
            return f"{self.words(group[0])}; and so in {len(group)} places"
        new: dict[ast.AST, Any] = {
            node: edit.shown for node, edit in zip(nodes, group, strict=True)
        }
        return self._stands(group[0].label, common[0], _replaced(common[0], new))

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
        shown = wrong
        whole = node
        for outside in self._above(node)[1:]:
            named = isinstance(outside, ast.Call) and math(outside) == ast.unparse(outside)
            if named or isinstance(outside, ast.Dict) or len(math(outside)) > LONGEST:
                break
            shown = _replaced(outside, {node: wrong})
            whole = outside
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
            setattr(fresh, name, [_replaced_part(part, new) for part in value])
        elif isinstance(value, ast.expr):
            setattr(fresh, name, _replaced(value, new))
    return fresh


def _replaced_part(part: Any, new: dict[ast.AST, ast.expr | ast.AST]) -> Any:
    return _replaced(part, new) if isinstance(part, ast.AST) else part


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
    marker = Marker(function, parents)
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
