"""Processes that are ready to regrade: everything imported, and the cases of the laws at hand.

A desk is asked for one submission after the other. It forks for each, so a submission meets a
process that no other one has touched, without waiting for imports. When the grader goes, whatever
ended it, its desks see that their input has ended, stop what runs, and go too.
"""

import gc
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat

from kfqn_ref.course import clean
from kfqn_ref.course.clock import OUT_OF_TIME, PATIENCE
from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.regrade import Graded, regrade, solve
from kfqn_ref.course.sandbox import Limits

MEMORY = 8 * 2**30  # bytes that a desk may address: it computes what a box asks for
GRACE = 5.0  # seconds in which a desk that is not needed any more ends what runs
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Desks:
    """As many desks as submissions are graded at the same time. Use it in a ``with`` block.

    Args:
        master: the master notebook.
        count: how many desks.
        solved: whether each first holds the solution to the laws, to have their cases at hand. That
            costs about as much as it saves on one submission.
    """

    def __init__(self, master: Path, limits: Limits, count: int, *, solved: bool):
        self._desks = [_Desk(master, limits, solved=solved) for _ in range(count)]
        self._free: queue.SimpleQueue[_Desk] = queue.SimpleQueue()
        for desk in self._desks:
            self._free.put(desk)

    def __enter__(self) -> "Desks":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them, and what they do."""
        for desk in self._desks:
            desk.end()

    def regrade(self, submitted: Path) -> Graded:
        """Have one submission regraded by a desk that is free, which is waited for.

        Raises:
            NotGraded: there is no outcome; the state and the message say why.
        """
        desk = self._free.get()
        try:
            return desk.ask(submitted)
        finally:
            self._free.put(desk)


class _Desk:
    """One process, started when it is first asked."""

    def __init__(self, master: Path, limits: Limits, *, solved: bool):
        told = json.dumps({"limits": asdict(limits), "solved": solved})
        self._command = [sys.executable, "-m", "kfqn_ref.course.desk", str(master), told]
        self._patience = PATIENCE * limits.seconds + 60  # the box ends before
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._closed = False

    def ask(self, submitted: Path) -> Graded:
        """Regrade one submission."""
        process = self._started()
        assert process.stdin is not None, "it is a pipe"
        try:
            process.stdin.write(json.dumps(str(submitted)).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process)
        except BrokenPipeError:
            line = b""
        if not line:
            self.end(for_good=False)
            raise NotGraded("not graded", "the tests could not be run: their process has ended")
        answer = json.loads(line)
        if "problem" in answer:
            reason = f"the tests could not be run: {clean.line(answer['problem'], 500)}"
            raise NotGraded("not graded", reason)
        found = Graded(**answer)
        found.outputs = {int(index): raw for index, raw in found.outputs.items()}
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise NotGraded("not graded", "the grader was stopped")
        if self._process is None:
            self._folder = TemporaryDirectory()  # hypothesis leaves its notes where it runs
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                env=os.environ | ONE_THREAD,
                start_new_session=True,  # Ctrl-C is for the grader, which ends its desks
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None, "it is a pipe"
        if not select.select([process.stdout], [], [], self._patience)[0]:
            self.end(for_good=False)
            took = f"the tests took more than {self._patience:g} s"
            raise NotGraded(OUT_OF_TIME, f"the grader ran out of time: {took}")
        return process.stdout.readline()

    def end(self, *, for_good: bool = True) -> None:
        """End the process; unless for good, another one is started when it is asked again."""
        self._closed = self._closed or for_good
        process = self._process
        self._process = None
        if process is None or self._folder is None:
            return
        for stream in (process.stdin, process.stdout):
            assert stream is not None, "both are pipes"
            try:
                stream.close()
            except BrokenPipeError:
                pass  # what was not yet sent to a process that has ended is not needed
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._folder.cleanup()


# ---- inside the process


def main() -> None:
    """Arguments: the master notebook, and what else to know as JSON. A line of stdin names a
    submitted notebook; a line of stdout says what came of it.
    """
    master = nbformat.read(Path(sys.argv[1]), as_version=4)
    told = json.loads(sys.argv[2])
    limits = Limits(**told["limits"])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # a shell starts what it puts in the background with interrupts ignored; children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    questions = os.fdopen(0, "rb", buffering=0)  # a buffer would hide the end of the questions
    sink = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        if told["solved"]:
            solve(master)
        gc.freeze()  # what is here is shared by all forks
        while line := questions.readline():
            sink.write(_in_fork(master, Path(json.loads(line)), limits) + b"\n")
            sink.flush()


def _in_fork(master: Any, submitted: Path, limits: Limits) -> bytes:
    """What a fork says of one submission."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as out:
            out.write(_outcome(master, submitted, limits))
        os._exit(0)
    os.close(writing)
    said = _all_of(reading, child)
    _, status = os.waitpid(child, 0)
    ended = f"their process ended with code {os.waitstatus_to_exitcode(status)}"
    return said or json.dumps({"problem": ended}).encode()


def _outcome(master: Any, submitted: Path, limits: Limits) -> bytes:
    try:
        return json.dumps(
            asdict(regrade(master, nbformat.read(submitted, as_version=4), limits))
        ).encode()
    except BaseException as error:  # Ctrl-C too: a fork must not go on as if it were its parent
        last = traceback.format_exception_only(error)[-1]
        return json.dumps({"problem": last}).encode()


def _all_of(pipe: int, child: int) -> bytes:
    """All that comes out of a pipe; the child is stopped once the grader has gone.

    It is told so again and again: Python drops an interrupt that arrives in a finalizer or a
    callback.
    """
    parts = []
    watched = [pipe, 0]
    patience: float | None = None
    while True:
        ready = select.select(watched, [], [], patience)[0]
        if pipe in ready:
            part = os.read(pipe, 2**20)
            if not part:
                os.close(pipe)
                return b"".join(parts)
            parts.append(part)
        else:  # nothing is asked before an answer, so this is the end of questions
            os.kill(child, signal.SIGINT)
            watched = [pipe]
            patience = GRACE


if __name__ == "__main__":
    main()
