"""Processes for tests, forked from one that has imported what takes seconds to import.

The fork server of the standard library imports ``PRELOADED`` once a worker. A process made here is
a fork of it: it knows no thread and no state of other tests. Tests of imports, and of what a fresh
interpreter does, start one instead.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

PRELOADED = [
    "torch._dynamo",  # torch imports it when the first optimizer is made
    "matplotlib.pyplot",
    "sklearn.datasets",
    "IPython",
    "matplotlib_inline.backend_inline",
    "kfqn_ref.cli",
    "kfqn_ref.bridge",
    "kfqn_ref.testing",
    "kfqn_ref.experiments.train.command",
]
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(PRELOADED)


class Process:
    """A running ``work(*args)``, whose arguments can be pickled; all that it prints is a file."""

    def __init__(self, work: Callable[..., Any], *args: Any) -> None:
        reader, writer = FORKED.Pipe(duplex=False)
        self.process = FORKED.Process(target=_speaking, args=(writer, work, args))
        self.process.start()
        writer.close()
        self.output: TextIO = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()

    def end(self) -> tuple[int | None, str]:
        """Return the exit code and what was printed and not read yet, once the process ends."""
        with self.output as output:
            printed = output.read()
        self.process.join()
        return self.process.exitcode, printed

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def _speaking(writer: Any, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    for stream in (1, 2):
        os.dup2(writer.fileno(), stream)
    writer.close()
    work(*args)


def command(*arguments: str) -> None:
    """Run ``kfqn`` with arguments, as its script does."""
    from kfqn_ref.cli import app

    sys.argv = ["kfqn", *arguments]
    app()
