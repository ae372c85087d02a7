"""What an assignment allows in the box, and the grader's answers to what a submission asks.

The names of the package that the assignment's own cells import are allowed, and those that its
header adds (``allow``). They do not work inside the box: each call comes out as arrays, is computed
here, and its result goes back.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from kfqn_ref import layers, losses, network, pooling, transposed
from kfqn_ref.course import tasks
from kfqn_ref.course.box import wire

# What every hand-out imports, and the stub has of its own.
LESSON = {"laws", "raises", "untampered", "LawBroken"}


def imported(source: str) -> dict[str, Any]:
    """What a cell imports from the package, by name."""
    froms = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    own = [(node.module or "", alias.name) for node in froms for alias in node.names]
    return {name: _named(module, name) for module, name in own if _of_package(module, name)}


def _of_package(module: str, name: str) -> bool:
    return module.split(".")[0] == "kfqn_ref" and name not in LESSON


class Allowed:
    """The names of the package that one assignment allows, and their use from the box."""

    def __init__(self, master: Any):
        header = master.metadata.get("kfqn", {})
        self.values = {name: _named("kfqn_ref", name) for name in header.get("allow", [])}
        for cell in master.cells:
            if cell.cell_type == "code":
                self.values |= imported(cell.source)
        refused = [str(name) for name in header.get("refuse", [])]
        self.refused = [name for name in refused if "." in name and _of_library(name)]
        self.hidden = {name for name in refused if "." in name and name not in self.refused}

    def message(self, seconds: float) -> dict[str, Any]:
        """What the box is told at its start."""
        kinds: dict[str, Any] = {"functions": [], "classes": [], "records": {}}
        for name, value in self.values.items():
            if hasattr(value, "_fields"):
                kinds["records"][name] = list(value._fields)
            elif isinstance(value, type):
                kinds["classes"].append(name)
            else:
                kinds["functions"].append(name)
        return {"start": kinds | {"refused": self.refused, "seconds": seconds}}

    def reader(self) -> wire.Reader:
        """Reads what the box sends: numbers, and objects of the classes that are allowed."""
        return wire.Reader(self._thing, self._record, wire.refuse_function)

    def _thing(self, name: str, fields: dict[str, Any]) -> Any:
        known = self.values.get(name, _classes().get(name))
        if not isinstance(known, type) or not dataclasses.is_dataclass(known):
            return wire.refuse_thing(name, fields)
        return known(**fields)

    def _record(self, name: str, fields: list[str]) -> Any:
        known = self.values.get(name, _classes().get(name))
        matches = isinstance(known, type) and list(getattr(known, "_fields", ())) == fields
        return known if matches else wire.any_record(name, fields)

    def answer(self, kind: str, question: list[Any]) -> Any:
        """Answer one question of the box: (result, generators of random numbers after it).

        Raises:
            NotData: the question is none that the stub asks.
        """
        match kind, question:
            case "make", [str(name), tuple(args), dict(kwargs)] if isinstance(
                self.values.get(name), type
            ):
                return self.values[name](*args, **kwargs)
            case "function", [str(name), tuple(args), dict(kwargs)] if name in self.values:
                return _with_generators(self.values[name], args, kwargs)
            case "method", [thing, str(name), tuple(args), dict(kwargs)]:
                return _with_generators(self._public(thing, name), args, kwargs)
            case "attribute", [thing, str(name)]:
                found = self._public(thing, name)
                return {"method": name} if callable(found) else found
        raise wire.NotData(f"no such question: {kind}")

    def _public(self, thing: Any, name: str) -> Any:
        known = type(thing).__name__
        if name.startswith("_") or not dataclasses.is_dataclass(thing):
            raise AttributeError(f"{known!r} object has no attribute {name!r}")
        if f"{known}.{name}" in self.hidden:
            raise AssertionError(f"{known}.{name} is not part of this assignment")
        return getattr(thing, name)


def _with_generators(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    given = (*args, *kwargs.values())
    result = function(*args, **kwargs)
    return result, [part for part in given if isinstance(part, np.random.Generator)]


def _named(module: str, name: str) -> Any:
    """The public value of a name that an assignment allows.

    Raises:
        ValueError: the package has no such name.
    """
    if not name.startswith("_"):
        for place in (import_module(module), tasks):
            if hasattr(place, name):
                return getattr(place, name)
    raise ValueError(f"an assignment can allow public names of kfqn_ref, got {name!r}")


@cache
def _classes() -> dict[str, type]:
    """Classes of what tests and allowed functions hand over: values, such as layers and records."""
    places = (layers, pooling, transposed, losses, network, tasks)
    found = [inspect.getmembers(place, inspect.isclass) for place in places]
    values = [pair for members in found for pair in members if _is_value(pair[1])]
    return dict(values)


def _is_value(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")


def _of_library(dotted: str) -> bool:
    """Whether a dotted name is one of another library: ``scipy.optimize.BFGS``."""
    return bool(re.match(r"[a-z_]", dotted))
