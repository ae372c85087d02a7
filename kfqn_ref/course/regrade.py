"""Outside the box, in a fresh process: run the master's test cells against a student's functions.

The master notebook is trusted, the submission is not. Each function that the master's solution
cells define is replaced by a stand-in that asks the worker in the box; then the master's own test
cells run here, hidden tests and all.
"""

import ast
import contextlib
import io
import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat

from kfqn_ref.course.clock import OutOfTime
from kfqn_ref.course.lesson import LawBroken
from kfqn_ref.course.remote import Submission, SubmissionError
from kfqn_ref.course.sandbox import Limits


def is_test(cell: Any) -> bool:
    """Whether the cell is graded by running it."""
    mark = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(mark.get("grade")) and not mark.get("solution")


def is_solution(cell: Any) -> bool:
    """Whether a student writes in the cell."""
    return cell.cell_type == "code" and bool(cell.metadata.get("nbgrader", {}).get("solution"))


def defined(source: str) -> set[str]:
    """Names of the functions that a cell defines; none where it is not Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def regrade(master: Any, submitted: Any, limits: Limits) -> dict[str, dict[str, Any]]:
    """Return {"passed": bool, "text": str} for every test cell of the master notebook, by its id.

    Raises:
        OutOfTime: the wall clock ran out.
    """
    wanted = set().union(*(defined(cell.source) for cell in master.cells if is_solution(cell)))
    own = [
        cell.source for cell in submitted.cells if cell.cell_type == "code" and not is_test(cell)
    ]
    refuse = sorted(wanted | set(master.metadata.get("kfqn", {}).get("refuse", [])))
    try:
        with Submission(own, refuse=refuse, limits=limits) as submission:
            namespace = {name: submission.function(name) for name in wanted & submission.names}
            results = _run_tests(master, namespace, wanted - submission.names, submission.problems)
            if submission.late:
                raise OutOfTime(submission.late)
            return results
    except SubmissionError as error:
        lost = {"passed": False, "text": f"✗ The functions could not be loaded: {error}"}
        return {cell.metadata.nbgrader.grade_id: lost for cell in master.cells if is_test(cell)}


def _run_tests(
    master: Any, stand_ins: dict[str, Any], missing: set[str], problems: list[str]
) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "regrade", "display": lambda *args: None}
    results = {}
    for cell in master.cells:
        if cell.cell_type != "code" or is_solution(cell):
            continue
        namespace |= stand_ins
        code = compile(
            cell.source, cell.metadata.get("nbgrader", {}).get("grade_id", "cell"), "exec"
        )
        text = _run(code, namespace)
        if is_test(cell):
            if text and missing and problems:
                text += f"\n(While its cells ran: {'; '.join(problems[:3])})"
            results[cell.metadata.nbgrader.grade_id] = {"passed": not text, "text": text}
    return results


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
