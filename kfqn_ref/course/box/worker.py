"""Inside the box: run a student's cells, keep the state at each test, answer calls.

At a test the process forks. The parent keeps the state at this place and sleeps; the child goes on
with the next cells. When the child ends, by itself or because it was told to leave, the parent
wakes: so the tests are answered after the last cell, each by the functions that stood above it, and
no cell can show what a test asked.
"""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from . import tools
from .cells import Cells
from .line import Line

LAST_SECONDS = 3.0  # of the processor, for code that is told to stop


class TimeLimit(BaseException):
    """The processor time of a cell or of a call is over."""


class Worker:
    """The student's namespace, and what the grader asks of it."""

    def __init__(self, line: Line):
        self._line = line
        self._cells = Cells()
        self._seconds = 30.0
        self._told = 0
        self._depth = 0
        self._refused_in: tuple[int, int] = (0, 0)
        line.serve = self.serve
        signal.signal(signal.SIGPROF, self._stop)

    def serve(self, message: dict[str, Any]) -> None:
        """Do what one message says."""
        match message:
            case {"start": allowance}:
                tools.allow(self._line, allowance)
                sys.meta_path.append(tools.Finder())
                self._seconds = float(allowance["seconds"])
                self._line.send({"ready": True})
            case {"run": str(source)}:
                self._run(source)
            case {"keep": _}:
                self._keep()
            case {"call": str(name), "args": args, "kwargs": kwargs}:
                self._line.send(self._call(name, args, kwargs))
            case {"leave": _}:
                os._exit(0)

    def _run(self, source: str) -> None:
        seconds = self._seconds
        problem = ""
        try:
            with self._limited():
                problem = self._cells.run(source)
        except TimeLimit:
            problem = "TimeLimit"
        if problem.startswith("TimeLimit"):
            problem = f"TimeLimit: this cell took more than {seconds:g} s: a loop that never ends?"
        outputs = self._cells.outputs
        self._line.send({"problem": problem, "outputs": outputs, "names": self._names()})

    def _keep(self) -> None:
        """Fork: the child goes on; this process wakes with its state when the child has ended."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of threads; a thread stays in the parent
            child = os.fork()
        if child == 0:
            self._depth += 1
            self._line.send({"depth": self._depth})
            return
        while True:
            try:
                os.waitpid(child, 0)
                break
            except InterruptedError:
                continue
        self._line.send({"depth": self._depth, "names": self._names()})

    def _call(self, name: str, args: Any, kwargs: Any) -> dict[str, Any]:
        """Call one function; its result, or its error with the line that raised it."""
        namespace = self._cells.namespace
        if name not in namespace:
            return {"error": "NameError", "message": f"{name} is not defined", "where": ""}
        try:
            given = self._line.read(args, writable=False), self._line.read(kwargs, writable=False)
            self._refuse()
            with self._limited():
                result = namespace[name](*given[0], **given[1])
            return {"result": tools.wire.encode(result)}
        except TimeLimit:
            limit = f"a call took more than {self._seconds:g} s: a loop that never ends?"
            return {"error": "TimeLimit", "message": limit, "where": ""}
        except (Exception, SystemExit) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.name}, line {last.lineno}"
            kind = type(error).__name__
            return {"error": kind, "message": str(error)[:2000], "where": where}
        finally:
            self._refuse()

    def _refuse(self) -> None:
        """Refuse what libraries have that gives the answer away, as soon as they are there."""
        seen = len(sys.modules), len(self._cells.namespace)
        if seen != self._refused_in:
            tools.refuse_in_libraries(self._cells.namespace)
            self._refused_in = seen

    def _names(self) -> dict[str, int]:
        """Callables of the notebook, each with a number that tells it from others of its name."""
        found = list(self._cells.namespace.items())
        return {key: id(value) for key, value in found if callable(value) and key.isidentifier()}

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Raise ``TimeLimit`` in here once the processor time is over; end what goes on then."""
        self._told = 0
        around = signal.setitimer(signal.ITIMER_PROF, self._seconds, LAST_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, *around)  # a call may come while a cell runs

    def _stop(self, *signal_and_frame: Any) -> None:
        self._told += 1
        if self._told > 1:
            os._exit(1)
        raise TimeLimit


def main() -> None:
    """Serve until the grader has gone."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # a print of the student's goes nowhere
    serve(source, sink)


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer message after message."""
    line = Line(source, sink)
    worker = Worker(line)
    while (message := line.receive()) is not None:
        worker.serve(message)


if __name__ == "__main__":
    main()
