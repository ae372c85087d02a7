"""Outside the box: a student's cells run inside it, and functions as stand-ins that ask there."""

import builtins
import json
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from kfqn_ref.course.allowed import Allowed
from kfqn_ref.course.box import wire
from kfqn_ref.course.clock import OutOfTime, Stopwatch
from kfqn_ref.course.sandbox import Box, Limits

GRACE = 8.0  # seconds of the processor after which what does not stop by itself is ended


class SubmissionError(Exception):
    """An error of the student's code that is no built-in one, or the end of the student's
    process.
    """


class Woken(SubmissionError):
    """The process ended; the one that kept the state at the latest test has taken over."""


def exception(name: str, message: str, where: str) -> Exception:
    """The error that the student's function raised, as the same built-in class where there is
    one.
    """
    known = np.linalg.LinAlgError if name == "LinAlgError" else getattr(builtins, name, None)
    text = f"{message} [{where}]" if where else message
    if name == "Borrowed":
        return AssertionError(message)
    if name == "TimeLimit":
        return SubmissionError(message)
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

    def __init__(self, allowed: Allowed, *, limits: Limits):
        self._allowed = allowed
        self._limits = limits
        self.laws: Callable[..., bool] = lambda *question: False
        self.names: dict[str, int] = {}  # callables of the notebook, with a number each
        self.borrowed: set[str] = set()  # why answers are not the student's own
        self.depth = 0  # states that are kept
        # why there are no answers; whether for want of time
        self._gone = ""
        self.late = ""
        self._slow: set[int | None] = set()  # functions that were stopped, by their numbers
        self._lent: list[Callable[..., Any]] = []
        self._helped = 0.0  # seconds that the grader worked for the box
        self._box = Box("kfqn_ref.worker", limits=limits)
        try:
            self._exchange(allowed.message(limits.cell_seconds))
        except SubmissionError:
            self._box.__exit__()
            raise

    def __enter__(self) -> "Submission":
        return self

    def __exit__(self, *exception: object) -> None:
        self._box.__exit__()

    @property
    def ended(self) -> str:
        """What ended the box, or nothing."""
        return self._box.ended

    def run(self, cell: str) -> tuple[str, list[Any]]:
        """Run one more cell; return its error in one line, or nothing, and its raw outputs.

        Raises:
            SubmissionError: there is no worker any more.
        """
        reply = self._exchange({"run": cell})
        self._know(reply)
        outputs = reply.get("outputs")
        if not isinstance(outputs, list):
            outputs = []
        return str(reply.get("problem", "")), outputs

    def keep(self) -> None:
        """Keep the state of here; :meth:`back` returns to it."""
        self._exchange({"keep": True})

    def back(self, depth: int) -> None:
        """Return to the state that was kept as the one of this number, from 0.

        Raises:
            SubmissionError: that process has gone.
        """
        while self.depth > depth:
            try:
                self._exchange({"leave": True})
            except Woken:
                pass

    def function(self, name: str) -> Callable[..., Any]:
        """A stand-in: numbers go in, numbers or the student's error come out."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            reply = self._call(name, args, kwargs)
            if "error" in reply:
                raise exception(str(reply["error"]), str(reply["message"]), str(reply["where"]))
            return self._read(reply.get("result"))

        stand_in.__name__ = name
        return stand_in

    def _call(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        if self.names.get(name) in self._slow:
            limit = (
                f"a call took more than {self._limits.cell_seconds:g} s: a loop that never ends?"
            )
            raise SubmissionError(limit)
        lent = len(self._lent)
        given = {"args": wire.encode(args, self._lend), "kwargs": wire.encode(kwargs, self._lend)}
        reply = self._exchange({"call": name} | given)
        del self._lent[lent:]
        if reply.get("error") == "TimeLimit":
            self._slow.add(self.names.get(name))
        if reply.get("error") == "Borrowed":
            self.borrowed.add(str(reply.get("message", ""))[:300])
        return reply

    def _too_long(self) -> str:
        return f"a call took more than {self._limits.cell_seconds:g} s: a loop that never ends?"

    def _lend(self, function: Callable[..., Any]) -> int:
        self._lent.append(function)
        return len(self._lent) - 1

    def _read(self, value: Any) -> Any:
        try:
            return self._allowed.reader().read(value)
        except wire.NotData as error:
            raise SubmissionError(str(error)) from error
        except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
            raise SubmissionError(f"numbers and arrays are wanted, got {error}") from error

    def _know(self, reply: dict[str, Any]) -> None:
        names = reply.get("names", {})
        self.names = {str(name): int(number) for name, number in dict(names).items()}

    def _exchange(self, message: Any) -> dict[str, Any]:
        """Send one message; answer what the box asks until its reply comes."""
        if self._gone:
            raise SubmissionError(self._gone)
        try:
            self._send(message)
            while True:
                reply = self._receive(self._limits.cell_seconds)
                if "depth" in reply:
                    return self._depth_is(int(reply["depth"]), reply)
                if "ask" not in reply:
                    return reply
                if self._helped > self._limits.seconds:
                    raise TimeoutError
                self._send({"answer": self._answer(reply)})
        except TimeoutError:
            self._gone = self._too_long()
        except OutOfTime as late:
            self._gone = self.late = str(late)
        except (BrokenPipeError, EOFError, ValueError, TypeError, RecursionError):
            reason = self._box.ended or "its own doing"
            self._gone = f"the student's Python process was ended by {reason}"
            self.late = self._box.late
        self._box.kill("closed")
        raise SubmissionError(self._gone)

    def _depth_is(self, depth: int, reply: dict[str, Any]) -> dict[str, Any]:
        """A state was kept (deeper), or woke (not deeper)."""
        deeper = depth > self.depth
        self.depth = depth
        if deeper:
            return reply
        self._know(reply)
        raise Woken("the student's Python process was ended by its own doing")

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one question of the box; an error goes back as its class and text."""
        begun = time.process_time()
        try:
            kind = str(question["ask"])
            asked = self._allowed.reader().read(question["question"])
            if kind == "lent":
                result = self._lent[int(asked[0])](*asked[1:])
            elif kind == "laws":
                result = self.laws(*asked)
            else:
                result = self._allowed.answer(kind, asked)
            return {"result": wire.encode(result)}
        except Woken:
            raise
        except Exception as error:
            return {"error": type(error).__name__, "message": str(error)[:2000]}
        finally:
            self._helped += time.process_time() - begun

    def _send(self, message: Any) -> None:
        assert self._box.process.stdin is not None, "it is a pipe"
        wire.send(self._box.process.stdin, message)  # type: ignore[arg-type]  # a binary pipe

    def _receive(self, seconds: float) -> dict[str, Any]:
        size = struct.unpack(">I", self._bytes(4, seconds))[0]
        if size > wire.LARGEST:
            raise EOFError(f"an answer of {size} bytes")
        reply = json.loads(self._bytes(size, seconds))
        return reply if isinstance(reply, dict) else {}

    def _used(self) -> float:
        """Processor time of the box, and of what the grader did for it."""
        return self._box.processor_seconds() + self._helped

    def _bytes(self, count: int, seconds: float) -> bytes:
        """Read ``count`` bytes; most come at once, and only what is slow is timed."""
        assert self._box.process.stdout is not None, "it is a pipe"
        pipe = self._box.process.stdout.fileno()
        parts = b""
        watch: Stopwatch | None = None
        while len(parts) < count:
            if not select.select([pipe], [], [], 0.3)[0]:
                watch = watch or Stopwatch(seconds, self._used, GRACE)
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
