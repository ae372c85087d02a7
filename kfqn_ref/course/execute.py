"""Inside the box: read a notebook from stdin, run it, write it with its outputs to stdout.

The notebook is never a file in the box, stdout is never that of the student's kernel, and this
process cannot be looked into by its own user: the tests that it holds stay with it until they run.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from kfqn_ref.course.clock import PATIENCE, OutOfTime, Stopwatch

LONGEST = 20_000  # characters of one output that are worth reading
PR_SET_DUMPABLE = 4
LAST_SECONDS = 5.0  # of the processor, for a cell that is told to stop


def _private_stdout() -> int:
    """Take stdout away from child processes and make this process unreadable; return the new
    descriptor.
    """
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    private = os.dup(1)
    os.set_inheritable(private, False)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return private


def _message(ename: str, evalue: str) -> Any:
    return nbformat.v4.new_output(
        "error", ename=ename, evalue=evalue, traceback=[f"{ename}: {evalue}"]
    )


def run(notebook: Any, *, cell_seconds: float, seconds: float) -> Any:
    """Run all cells; one that fails or takes too long does not stop the rest. What never ran says
    why.

    Args:
        cell_seconds, seconds: processor time of the kernel for one cell, and for all.
    """
    patience = int(PATIENCE * cell_seconds) + 1
    client = NotebookClient(notebook, kernel_name="python3", timeout=patience, startup_timeout=patience + 60,
                            # as one types it
                            allow_errors=True, interrupt_on_timeout=True)  # fmt: skip
    client.iopub_timeout, client.raise_on_iopub_timeout = 2, False
    why, stopped = "", 0
    with client.setup_kernel():
        kernel = _Kernel(client)
        whole = Stopwatch(seconds, kernel.used)
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            if not why and whole.over():
                why = f"the whole notebook took more than {seconds:g} s"
            why = why or _run_cell(client, kernel, cell, index, cell_seconds)
            if why and not any(output.output_type == "error" for output in cell.outputs):
                cell.outputs.append(_message("NotRun", f"this cell did not run to its end: {why}"))
            cell.outputs = [_shortened(output) for output in cell.outputs]
            stopped += any(output.get("ename") == "TimeLimit" for output in cell.outputs)
            if stopped == 2:
                why = why or f"two cells before it took more than {cell_seconds:g} s each"
    return notebook


class _Kernel:
    """The kernel's process: what it has used of the processor, and how it is told to stop."""

    def __init__(self, client: NotebookClient):
        self._latest = 0.0
        # the client has a kernel by now
        self._process = psutil.Process(client.km.provisioner.pid)  # type: ignore[union-attr]

    def used(self) -> float:
        """Processor time so far, in seconds; once it has ended, as last seen."""
        try:
            self._latest = sum(self._process.cpu_times()[:4])
        except psutil.Error:
            pass
        return self._latest

    @contextmanager
    def guarded(self, watch: Stopwatch) -> Iterator[None]:
        """Interrupt what runs in here when its processor time is over, and end it where it goes
        on.
        """
        done = threading.Event()
        guard = threading.Thread(target=self._guard, args=(watch, done), daemon=True)
        guard.start()
        try:
            yield
        finally:
            done.set()
            guard.join()

    def _guard(self, watch: Stopwatch, done: threading.Event) -> None:
        while not done.wait(0.2):
            if watch.over():
                self._process.send_signal(signal.SIGINT)
                last = Stopwatch(LAST_SECONDS, self.used)
                while not done.wait(0.2):
                    if last.over() or last.late():
                        self._process.kill()
                        return
                return


def _run_cell(
    client: NotebookClient, kernel: _Kernel, cell: Any, index: int, cell_seconds: float
) -> str:
    """Run one cell; return why nothing can run after it, or nothing."""
    watch, why = Stopwatch(cell_seconds, kernel.used), ""
    try:
        with kernel.guarded(watch):
            client.execute_cell(cell, index)
    except (DeadKernelError, CellTimeoutError, RuntimeError):
        why = "an earlier cell ended the Python process, or could not be stopped"
    if watch.over():
        limit = f"this cell took more than {cell_seconds:g} s: a loop that never ends?"
        cell.outputs.append(_message("TimeLimit", limit))
    elif watch.late():
        cell.outputs.append(_message(OutOfTime.__name__, watch.report("a cell")))
        return "the grader ran out of time"
    elif why:
        ended = "this cell ended the Python process, perhaps by its use of memory"
        cell.outputs.append(_message("KernelDied", ended))
    return why


def _shortened(output: Any) -> Any:
    """An output short enough to read; warnings become text, as nbgrader takes stderr for a
    failure.
    """
    if output.output_type == "stream":
        output.name = "stdout"
        if len(output.text) > LONGEST:
            output.text = (
                output.text[:LONGEST] + f"\n[… {len(output.text) - LONGEST} more characters]\n"
            )
    return output


def main() -> None:
    """Notebook in, notebook out; the limits are the arguments."""
    private = _private_stdout()
    notebook = nbformat.reads(sys.stdin.read(), as_version=4)
    notebook = run(notebook, cell_seconds=float(sys.argv[1]), seconds=float(sys.argv[2]))
    with os.fdopen(private, "w", encoding="utf-8") as out:
        out.write(nbformat.writes(notebook))
        out.flush()


if __name__ == "__main__":
    main()
