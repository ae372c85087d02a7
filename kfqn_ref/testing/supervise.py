"""Checks of a stranger's file in processes of their own: one that hangs, exits or prints without
end does not take the report with it.

Every law has a time limit. A law that does not end within it is a named failure; its process is
ended, and the laws that use the same functions are not tried again. What the file prints is read,
counted and not shown.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from kfqn_ref.testing.implementation import Described, UnusableImplementation, load
from kfqn_ref.testing.law import Check
from kfqn_ref.testing.report import CheckResult, Failure, Report
from kfqn_ref.testing.runner import Effort, all_checks, check_named, described, run_check

Progress = Callable[[CheckResult], None]


class _Printed:
    """Reads what a process prints, counts it, and throws it away."""

    def __init__(self) -> None:
        self.size = 0
        read, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.stdout = sys.stderr = os.fdopen(write, "w", buffering=1)
        threading.Thread(target=self._drain, args=(read,), daemon=True).start()

    def _drain(self, read: int) -> None:
        while data := os.read(read, 1 << 16):
            self.size += len(data)


def _work(
    connection: Connection,
    target: str,
    namespace: str | None,
    names: Sequence[str],
    effort: Effort,
) -> None:
    """Check one law after the other, and tell the parent of each."""
    printed = _Printed()
    all_checks()  # a process that is no fork has to fill the list of laws
    try:
        implementation = load(target, namespace)
    except UnusableImplementation as error:
        connection.send(("unusable", str(error)))
        return
    connection.send(("loaded", described(implementation)))
    for name in names:
        result = run_check(check_named(name), implementation, effort)
        _send(connection, result, printed.size)
    connection.send(("end", None))


def _send(connection: Connection, result: CheckResult, printed: int) -> None:
    outcome = result.check.name, result.outcome, result.examples, result.note
    try:
        connection.send(("result", (*outcome, result.failure, result.visited, printed)))
    except Exception:  # the case holds an object of the stranger that cannot be sent
        failure = result.failure and replace(result.failure, case=None)
        connection.send(("result", (*outcome, failure, result.visited, printed)))


def _context() -> Any:
    """Return how processes are made.

    A fork has everything imported at once, but threads of torch do not survive one; then the forks
    are those of a process that has imported the checks and nothing of torch.
    """
    methods = get_all_start_methods()
    if "fork" in methods and "torch" not in sys.modules:
        return get_context("fork")
    if "forkserver" in methods:
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        return context
    return get_context("spawn")


class _Worker:
    """One process with its list of laws."""

    def __init__(self, target: str, namespace: str | None, names: Sequence[str], effort: Effort):
        context = _context()
        self.connection, theirs = context.Pipe(duplex=False)
        work = theirs, target, namespace, list(names), effort
        self.process = context.Process(target=_work, args=work, daemon=True)
        self.process.start()
        theirs.close()

    def next(self, limit: float) -> tuple[str, Any]:
        """The next message, or ("hangs", None), or ("died", exit code)."""
        if not self.connection.poll(limit):
            return "hangs", None
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            return "died", self.process.exitcode

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class _Supervisor:
    """Works off a list of laws, with as many processes, one after the other, as it takes."""

    def __init__(
        self,
        target: str,
        namespace: str | None,
        effort: Effort,
        limit: float,
        progress: Progress | None,
    ):
        self.target, self.effort, self.limit = target, effort, limit
        self.namespace = namespace
        self.progress = progress
        self.described = Described(target)
        self.printed = 0
        self.results: dict[str, CheckResult] = {}

    def run(self, checks: Sequence[Check]) -> None:
        """Check all these laws."""
        left = list(checks)
        while left:
            names = [check.name for check in left]
            worker = _Worker(self.target, self.namespace, names, self.effort)
            try:
                broken = self._listen(worker, left)
            finally:
                worker.end()
            if broken is None:
                return
            left = self._without(left, broken)

    def _listen(self, worker: _Worker, left: list[Check]) -> str | None:
        """Take results until the process has ended well (None) or badly (in these words)."""
        loaded = False
        while True:
            kind, content = worker.next(self.limit)
            if kind == "end":
                return None
            if kind == "unusable":
                raise UnusableImplementation(content)
            if kind == "loaded":
                loaded = True
                self.described = content
            elif kind == "result":
                self._take(left.pop(0), content)
            else:
                words = f"no answer within {self.limit:g} s"
                if kind == "died":
                    words = f"the process ended with exit code {content}"
                if not loaded:
                    raise UnusableImplementation(
                        f"{self.target} cannot be loaded: {words} during its import"
                    )
                return words

    def _take(self, check: Check, content: tuple[Any, ...]) -> None:
        _, outcome, examples, note, failure, visited, self.printed = content
        self._add(CheckResult(check, outcome, examples, failure, visited, note))

    def _add(self, result: CheckResult) -> None:
        self.results[result.check.name] = result
        if self.progress is not None:
            self.progress(result)

    def _without(self, left: list[Check], words: str) -> list[Check]:
        """Report the law at which the process stopped; leave out those of the same functions."""
        stopped = left[0]
        same = [check for check in left if set(check.requires) & set(stopped.requires)]
        for check in same:
            at = words if check is stopped else f"not tried: {words} in {stopped.name}"
            failure = Failure({}, "the call", at, "a result", "", np.inf, 0.0)
            self._add(CheckResult(check, "failed", 0, failure))
        return [check for check in left if check not in same]


def supervised(
    target: str,
    checks: Sequence[Check],
    *,
    effort: Effort | None = None,
    limit: float = 60.0,
    workers: int = 1,
    progress: Progress | None = None,
    namespace: str | None = None,
) -> tuple[Report, int]:
    """Put a file, or an object of a module, through the checks in processes of their own.

    Args:
        target: path of a ``.py`` file, ``module`` or ``module:Object``.
        checks: the laws to state.
        effort: examples a law.
        limit: seconds for the import, and for each law.
        workers: processes at a time.
        progress: called with each result as it comes.
        namespace: whose arrays the functions take, as "torch"; NumPy's by default.

    Returns:
        The report, and how many bytes the file printed (they are not shown).

    Raises:
        UnusableImplementation: it or the namespace cannot be loaded, or it has none of the
            names.
    """
    shares = [share for k in range(workers) if (share := list(checks)[k::workers])]
    how = target, namespace, effort or Effort(), limit, progress
    supervisors = [_Supervisor(*how) for _ in shares]
    with ThreadPoolExecutor(max(1, len(shares))) as pool:
        list(pool.map(lambda pair: pair[0].run(pair[1]), zip(supervisors, shares, strict=True)))
    results = {name: r for each in supervisors for name, r in each.results.items()}
    ordered = tuple(results[check.name] for check in checks)
    report = Report.of(supervisors[0].described, ordered)
    return report, sum(each.printed for each in supervisors)
