"""Outside the box, in a fresh process: run the master's test cells against a student's functions.

The master notebook is trusted, the submission is not. Each function that the master's solution
cells define is replaced by a stand-in that asks the worker in the box; then the master's own test
cells run here, hidden tests and all.
"""

import contextlib
import io
import json
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat

from kfqn_ref.course.clock import OutOfTime
from kfqn_ref.course.lesson import LawBroken
from kfqn_ref.course.remote import Submission, SubmissionError
from kfqn_ref.course.sandbox import Limits
from kfqn_ref.course.source import defined

# How a test says that a function is missing: by the laws, or by Python.
MISSING = re.compile(r"✗ (?P<early>\w+) is not defined yet|name '(?P<late>\w+)' is not defined")


def is_test(cell: Any) -> bool:
    """Whether the cell is graded by running it."""
    mark = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(mark.get("grade")) and not mark.get("solution")


def is_solution(cell: Any) -> bool:
    """Whether a student writes in the cell."""
    return cell.cell_type == "code" and bool(cell.metadata.get("nbgrader", {}).get("solution"))


def regrade(master: Any, submitted: Any, limits: Limits) -> dict[str, dict[str, Any]]:
    """Return {"passed": bool, "text": str} for every test cell of the master notebook, by its id.

    The student's cells run in the order of the notebook, and each test where it stands: what
    counts is the last definition that runs before it.

    Raises:
        OutOfTime: the wall clock ran out.
    """
    wanted = set().union(*(defined(cell.source) for cell in master.cells if is_solution(cell)))
    refuse = sorted(wanted | set(master.metadata.get("kfqn", {}).get("refuse", [])))
    results: dict[str, dict[str, Any]] = {}
    try:
        with Submission([], refuse=refuse, limits=limits) as submission:
            tests, ran = Tests(master), []
            for cell in submitted.cells:
                if is_test(cell):
                    results |= tests.run(cell.metadata.nbgrader.grade_id, wanted, submission, ran)
                elif cell.cell_type == "code":
                    ran.append((cell.source, submission.run(cell.source, refuse)))
            if submission.late:
                raise OutOfTime(submission.late)
    except SubmissionError as error:
        lost = {"passed": False, "text": f"✗ The functions could not be loaded: {error}"}
        marks = [cell.metadata.nbgrader.grade_id for cell in master.cells if is_test(cell)]
        results = dict.fromkeys(marks, lost) | results
    return results


class Tests:
    """The master's cells that are not a student's, run in their order in one namespace."""

    def __init__(self, master: Any):
        self._left = [c for c in master.cells if c.cell_type == "code" and not is_solution(c)]
        self._namespace: dict[str, Any] = {"__name__": "regrade", "display": lambda *args: None}

    def run(
        self, grade_id: str, wanted: set[str], submission: Submission, ran: list[tuple[str, str]]
    ) -> dict[str, dict[str, Any]]:
        """Run one test cell, and before it the cells that are no tests and stand above it.

        Args:
            wanted: names of the functions that a student writes.
            ran: cells of the student with their errors so far.
        """
        test = next((cell for cell in self._left if _grade_id(cell) == grade_id), None)
        if test is None:
            return {}
        known = wanted & submission.names
        self._namespace |= {name: submission.function(name) for name in known}
        for cell in self._left[: self._left.index(test)]:
            if not is_test(cell):
                self._left.remove(cell)
                self._run(cell)
        self._left.remove(test)
        text = with_cause(self._run(test), ran)
        return {grade_id: {"passed": not text, "text": text}}

    def _run(self, cell: Any) -> str:
        return _run(compile(cell.source, _grade_id(cell) or "cell", "exec"), self._namespace)


def _grade_id(cell: Any) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def with_cause(text: str, ran: Iterable[tuple[str, str]]) -> str:
    """The text of a failure; where a function is missing, with the error that stopped its cell.

    Args:
        ran: cells with their errors, in the order in which they ran.
    """
    missing = MISSING.search(text)
    if missing is None:
        return text
    name = missing["early"] or missing["late"]
    writes = re.compile(rf"^\s*((async\s+)?def\s+{name}\b|class\s+{name}\b|{name}\s*=)", re.M)
    errors = [error for source, error in ran if error and writes.search(source)]
    if not errors:
        return text
    return f"✗ {name} is not there, because the cell that defines it stops with {errors[-1]}"


def _run(code: Any, namespace: dict[str, Any]) -> str:
    """Run a trusted cell; return the text of its failure, or nothing."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, namespace)
    except LawBroken as broken:
        return str(broken)
    except Exception as error:
        return "✗ " + "".join(traceback.format_exception_only(error)).strip()
    return ""


def main() -> None:
    """Arguments: master notebook, submitted notebook, limits as JSON. The results go to stdout as
    JSON, or a string: why there was not enough time for them.
    """
    master, submitted = (nbformat.read(Path(path), as_version=4) for path in sys.argv[1:3])
    try:
        results: Any = regrade(master, submitted, Limits(**json.loads(sys.argv[3])))
    except OutOfTime as late:
        results = str(late)
    print(json.dumps(results))


def arguments(master: Path, submitted: Path, limits: Limits) -> list[str]:
    """The command line of a fresh process that regrades."""
    return [
        sys.executable,
        "-m",
        "kfqn_ref.course.regrade",
        str(master),
        str(submitted),
        json.dumps(asdict(limits)),
    ]


if __name__ == "__main__":
    main()
