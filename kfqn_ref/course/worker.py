"""Inside the box: run a student's cells, then answer calls of the student's functions.

Requests come pickled from the trusted side. Answers go back as JSON with arrays as plain numbers,
since a pickle from here could run code there. Arrays arrive read-only, so that a write to an
argument is seen.
"""

import base64
import importlib
import json
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from kfqn_ref.course.cells import Cells


def send(stream: BinaryIO, data: bytes) -> None:
    """Write one message: its length, then its bytes."""
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


def encode(value: Any) -> Any:
    """Turn a result into what JSON can hold; whatever is not data becomes its type's name."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return {"number": float(value).hex()} if isinstance(value, float) else int(value)
    if isinstance(value, np.ndarray | np.generic) and np.asarray(value).dtype.kind in "fiubc":
        array = np.ascontiguousarray(value)
        data = base64.b64encode(array.tobytes()).decode()
        return {"array": data, "dtype": array.dtype.str, "shape": list(np.shape(value))}
    if isinstance(value, dict):
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"fields": list(value._fields), "values": [encode(v) for v in value]}  # type: ignore[attr-defined]  # the test before it says it is a NamedTuple
    if isinstance(value, list | tuple):
        return {
            type(value).__name__ if type(value) in (list, tuple) else "list": [
                encode(v) for v in value
            ]
        }
    return {"other": type(value).__name__}


def freeze(value: Any) -> Any:
    """Make every array in a structure read-only, in place."""
    if isinstance(value, np.ndarray):
        value.setflags(write=False)
    elif isinstance(value, dict):
        for v in value.values():
            freeze(v)
    elif isinstance(value, list | tuple):
        for v in value:
            freeze(v)
    elif hasattr(value, "__dict__"):
        for v in vars(value).values():
            freeze(v)
    return value


def refuse(names: list[str]) -> None:
    """Put a refusal in place of the package's own functions of these names, wherever they are
    bound.
    """

    def refusal(name: str) -> Callable[..., Any]:
        def refused(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError(
                f"{name} was to be written, and this calls the package's own {name}"
            )

        return refused

    importlib.import_module("kfqn_ref.course.lesson")  # which binds them, and must do so before
    for module in [m for key, m in sys.modules.items() if key.split(".")[0] == "kfqn_ref"]:
        for name in names:
            if callable(getattr(module, name, None)):
                setattr(module, name, refusal(name))


def answer(namespace: dict[str, Any], name: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """Call one function; its result, or its error with the line that raised it."""
    if name not in namespace:
        return {"error": "NameError", "message": f"{name} is not defined", "where": ""}
    try:
        return {"result": encode(namespace[name](*args, **kwargs))}
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return {
            "error": type(error).__name__,
            "message": str(error)[:2000],
            "where": f"{last.name}, line {last.lineno}",
        }


def main() -> None:
    """A message: a cell to run and names to refuse before it, or one call; until stdin ends."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # a print of the student's goes nowhere
    cells = Cells()
    while head := source.read(4):
        kind, *rest = pickle.loads(source.read(struct.unpack(">I", head)[0]))
        if kind == "cell":
            refuse(rest[1])
            problem = cells.run(rest[0])
            known = sorted(name for name, value in cells.namespace.items() if callable(value))
            reply: Any = {"problem": problem, "names": known}
        else:
            name, args, kwargs = rest
            reply = answer(cells.namespace, name, freeze(args), freeze(kwargs))
        send(
            sink, json.dumps(reply, default=lambda value: {"other": type(value).__name__}).encode()
        )


if __name__ == "__main__":
    main()
