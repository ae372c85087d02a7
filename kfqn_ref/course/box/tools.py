"""What ``kfqn_ref`` is in the box: names that ask the grader, and names that are refused.

An assignment allows some names of the package. A function of these sends its arguments out and
returns the answer. An object of a class of these holds its fields here; its methods ask. Every
other name can be imported, and refuses to be called: it may be what was to be written.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from . import wire
from .line import Line

PACKAGE = __name__.rpartition(".")[0]


class Borrowed(AssertionError):
    """An answer was taken from a function that does what was to be written."""


class Refused:
    """A name of the package, or of a library, that the assignment does not allow."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise Borrowed(refusal(self._name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Refused(f"{self._name}.{name}")

    def __repr__(self) -> str:
        return f"<{self._name}: not part of this assignment>"


def refusal(name: str) -> str:
    """Why a name does not work."""
    if "." not in name:
        return f"{name} was to be written, and this calls the package's own {name}"
    return f"the function was to be written, and this calls {name}"


class Thing(wire.Crossing):
    """An object of an allowed class: its fields are here, its methods are answered outside."""

    def __init__(self, *args: Any, **kwargs: Any):
        made = _box.line.ask("make", type(self).__name__, args, kwargs)
        self.__dict__.update(made.__dict__)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = _box.line.ask("attribute", self, name)
        if found == {"method": name}:
            return partial(_box.method, self, name)
        return found

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self).__name__, *self.__dict__))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"


class _Box:
    """What the assignment allows; filled when the grader says so."""

    def __init__(self) -> None:
        self.line: Line
        self.functions: set[str] = set()
        self.classes: dict[str, type] = {}
        self.records: dict[str, Any] = {}
        self.refused: tuple[str, ...] = ()

    def method(self, thing: Thing, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._with_generators("method", args, kwargs, thing, name)

    def function(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._with_generators("function", args, kwargs, name)

    def _with_generators(self, kind: str, args: Any, kwargs: Any, *what: Any) -> Any:
        """Ask; the generators of random numbers go on from where the grader left them."""
        result, after = self.line.ask(kind, *what, args, kwargs)
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, np.random.Generator)]
        for mine, theirs in zip(given, after, strict=True):
            mine.bit_generator.state = theirs.bit_generator.state
        return result


_box = _Box()


def allow(line: Line, allowance: dict[str, Any]) -> None:
    """Take what an assignment allows: functions, classes, and named tuples with their fields."""
    _box.line = line
    _box.functions = set(allowance["functions"])
    _box.classes = {name: type(name, (Thing,), {}) for name in allowance["classes"]}
    records = allowance["records"].items()
    _box.records = {name: wire.any_record(name, fields) for name, fields in records}
    _box.refused = tuple(allowance["refused"])
    line.thing = _thing
    line.record = _record


def lookup(name: str) -> Any:
    """The value of a name of the package."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _box.functions:
        function = partial(_box.function, name)
        function.__name__ = name  # type: ignore[attr-defined]  # reports call it so
        return function
    return _box.classes.get(name) or _box.records.get(name) or Refused(name)


def _thing(name: str, fields: dict[str, Any]) -> Any:
    if name not in _box.classes:
        _box.classes[name] = type(name, (Thing,), {})
    made = object.__new__(_box.classes[name])
    made.__dict__.update(fields)
    return made


def _record(name: str, fields: list[str]) -> Any:
    known = _box.records.get(name)
    if known is None or list(known._fields) != fields:
        known = _box.records[name] = wire.any_record(name, fields)
    return known


def refuse_in_libraries(namespace: dict[str, Any]) -> None:
    """Refuse, from now on, the functions and classes of libraries that give the answer away."""
    for dotted in _box.refused:
        module, _, name = dotted.rpartition(".")
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, type):
            found.__init__ = _refusing(dotted)  # for its users, wherever bound
        elif callable(found) and not isinstance(found, Refused):
            for place in (vars(sys.modules[module]), namespace):
                bound = [key for key, value in place.items() if value is found]
                place.update(dict.fromkeys(bound, Refused(dotted)))


def _refusing(dotted: str) -> Any:
    def refused(self: Any, *args: Any, **kwargs: Any) -> None:
        raise Borrowed(refusal(dotted))

    return refused


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes every other module of the package: one that has the same names."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        """Answer for modules of the package only."""
        if not name.startswith(f"{PACKAGE}."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its names."""
        module.__getattr__ = lookup  # PEP 562
