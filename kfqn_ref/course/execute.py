"""Inside the box: read a notebook from stdin, run it, write it with its outputs to stdout.

The notebook is never a file in the box, stdout is never that of the student's kernel, and this process
cannot be looked into by its own user: the tests that it holds stay with it until they run.
"""

import ctypes
import os
import sys
import time
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

LONGEST = 20_000  # characters of one output that are worth reading
PR_SET_DUMPABLE = 4


def _private_stdout() -> int:
    """Take stdout away from child processes and make this process unreadable; return the new descriptor."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    private = os.dup(1)
    os.set_inheritable(private, False)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return private


def _message(ename: str, evalue: str) -> Any:
    return nbformat.v4.new_output("error", ename=ename, evalue=evalue, traceback=[f"{ename}: {evalue}"])


def run(notebook: Any, *, cell_seconds: float, seconds: float) -> Any:
    """Run all cells; one that fails or takes too long does not stop the rest. What never ran says why."""
    client = NotebookClient(notebook, kernel_name="python3", timeout=int(cell_seconds), startup_timeout=60,
                            allow_errors=True, interrupt_on_timeout=True)  # fmt: skip  # as one types it
    client.iopub_timeout, client.raise_on_iopub_timeout = 2, False
    deadline, why, late = time.monotonic() + seconds, "", 0
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            if time.monotonic() > deadline:
                why = why or f"the whole notebook took more than {seconds:g} s"
            why = why or _run_cell(client, cell, index, cell_seconds)
            if why and not any(output.output_type == "error" for output in cell.outputs):
                cell.outputs.append(_message("NotRun", f"this cell did not run to its end: {why}"))
            cell.outputs = [_shortened(output) for output in cell.outputs]
            late += any(output.get("ename") == "TimeLimit" for output in cell.outputs)
            if late == 2:
                why = why or f"two cells before it took more than {cell_seconds:g} s each"
    return notebook


def _run_cell(client: NotebookClient, cell: Any, index: int, cell_seconds: float) -> str:
    """Run one cell; return why nothing can run after it, or nothing."""
    begun = time.monotonic()
    try:
        client.execute_cell(cell, index)
    except DeadKernelError:
        cell.outputs.append(
            _message("KernelDied", "this cell ended the Python process, perhaps by its use of memory")
        )
        return "an earlier cell ended the Python process"
    except (CellTimeoutError, RuntimeError):
        cell.outputs.append(_message("TimeLimit", f"this cell could not be stopped after {cell_seconds:g} s"))
        return "an earlier cell could not be stopped"
    if time.monotonic() - begun > cell_seconds:
        limit = f"this cell took more than {cell_seconds:g} s: a loop that never ends?"
        cell.outputs.append(_message("TimeLimit", limit))
    return ""


def _shortened(output: Any) -> Any:
    """An output short enough to read; warnings become text, as nbgrader takes stderr for a failure."""
    if output.output_type == "stream":
        output.name = "stdout"
        if len(output.text) > LONGEST:
            output.text = output.text[:LONGEST] + f"\n[… {len(output.text) - LONGEST} more characters]\n"
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
