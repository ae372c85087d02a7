"""Outside the box: a student's functions as stand-ins, each call of which asks the worker in the
box.
"""

import base64
import builtins
import json
import os
import pickle
import select
import struct
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from kfqn_ref.course.clock import OutOfTime, Stopwatch
from kfqn_ref.course.sandbox import Box, Limits
from kfqn_ref.course.worker import send

LARGEST = 64 * 2**20  # bytes of an answer


class SubmissionError(Exception):
    """An error of the student's code that is no built-in one, or the end of the student's
    process.
    """


def decode(value: Any) -> Any:
    """Turn an answer into numbers, arrays, strings, tuples, lists, dicts; nothing of it is
    executed.
    """
    if not isinstance(value, dict):
        return value
    match value:
        case {"number": text}:
            return float.fromhex(text)
        case {"array": data, "dtype": dtype, "shape": shape}:
            kind = np.dtype(str(dtype))
            if kind.kind not in "fiubc":
                raise SubmissionError(f"an array of numbers is wanted, got dtype {kind}")
            return (
                np.frombuffer(base64.b64decode(data), dtype=kind)
                .reshape([int(n) for n in shape])
                .copy()
            )
        case {"dict": items}:
            return {decode(key): decode(item) for key, item in items}
        case {"fields": fields, "values": values}:
            return namedtuple("Result", [str(name) for name in fields], rename=True)(
                *map(decode, values)
            )  # the fields are known at run time only
        case {"tuple": values}:
            return tuple(map(decode, values))
        case {"list": values}:
            return list(map(decode, values))
    raise SubmissionError(
        f"numbers and arrays are wanted, got a {value.get('other', 'strange answer')}"
    )


def exception(name: str, message: str, where: str) -> Exception:
    """The error that the student's function raised, as the same built-in class where there is
    one.
    """
    known = np.linalg.LinAlgError if name == "LinAlgError" else getattr(builtins, name, None)
    text = f"{message} [{where}]" if where else message
    if isinstance(known, type) and issubclass(known, Exception):
        try:
            return known(text)
        except TypeError:
            pass  # a class whose constructor wants more than a message
    return SubmissionError(f"{name}: {text}")


class Submission:
    """A student's cells in a worker; ``function(name)`` is a stand-in for one of the student's
    functions.
    """

    def __init__(self, cells: list[str], *, refuse: list[str], limits: Limits):
        self._limits = limits
        self._box = Box("kfqn_ref.course.worker", limits=limits)
        self._gone, self.late = (
            "",
            "",
        )  # why there are no more answers; whether only for want of time
        self.names: set[str] = set()
        self.problems = [self.run(cell, refuse) for cell in cells]  # "" where there is none

    def run(self, cell: str, refuse: list[str] | None = None) -> str:
        """Run one more cell; return its error in one line, or nothing.

        Args:
            refuse: names of functions of the package that refuse to work from now on.

        Raises:
            SubmissionError, OutOfTime: there is no worker any more.
        """
        try:
            reply = self._ask(("cell", cell, refuse or []), self._limits.seconds / 2)
        except SubmissionError:
            self._box.__exit__()
            if self.late:
                raise OutOfTime(self.late) from None
            raise
        self.names = {str(name) for name in reply.get("names", [])}
        return str(reply.get("problem", ""))

    def __enter__(self) -> "Submission":
        return self

    def __exit__(self, *exception: object) -> None:
        self._box.__exit__()

    def function(self, name: str) -> Callable[..., Any]:
        """A stand-in: numbers go in, numbers or the student's error come out."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            reply = self._ask(("call", name, args, kwargs), self._limits.cell_seconds)
            if "error" in reply:
                raise exception(str(reply["error"]), str(reply["message"]), str(reply["where"]))
            return decode(reply.get("result"))

        stand_in.__name__ = name
        return stand_in

    def _ask(self, message: Any, seconds: float) -> dict[str, Any]:
        if self._gone:
            raise SubmissionError(self._gone)
        try:
            assert self._box.process.stdin is not None, "it is a pipe"
            # a buffered binary pipe
            send(self._box.process.stdin, pickle.dumps(message))  # type: ignore[arg-type]
            size = struct.unpack(">I", self._read(4, seconds))[0]
            if size > LARGEST:
                raise EOFError(f"an answer of {size} bytes")
            reply = json.loads(self._read(size, seconds))
            return reply if isinstance(reply, dict) else {}
        except TimeoutError:
            self._gone = f"a call took more than {seconds:g} s: a loop that never ends?"
        except OutOfTime as late:
            self._gone = self.late = str(late)
        except (BrokenPipeError, EOFError, ValueError):
            reason = self._box.ended or "its own doing"
            self._gone = f"the student's Python process was ended by {reason}"
            self.late = self._box.late
        self._box.kill("closed")
        raise SubmissionError(self._gone)

    def _read(self, count: int, seconds: float) -> bytes:
        """Read so many bytes; most come at once, and only what is slow is timed."""
        assert self._box.process.stdout is not None, "it is a pipe"
        pipe, parts = self._box.process.stdout.fileno(), b""
        watch: Stopwatch | None = None
        while len(parts) < count:
            if not select.select([pipe], [], [], 0.3)[0]:
                watch = watch or Stopwatch(seconds, self._box.processor_seconds)
                if watch.over():
                    raise TimeoutError
                if watch.late():
                    raise OutOfTime(watch.report("a call"))
                continue
            part = os.read(pipe, min(count - len(parts), 2**20))
            if not part:
                raise EOFError
            parts += part
        return parts
