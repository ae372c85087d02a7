"""Outside the box: have a submission run inside it, and hold its functions to the master's tests.

The master notebook is trusted, the submission is not. The student's cells run once, in the order of
the notebook, as in Jupyter; where a test stands, the box keeps the state. After the last cell the
master's test cells run here, hidden tests and all, each against the functions that stood above it.
No test enters the box, and nothing that a test asks can be shown by a cell.
"""

import contextlib
import io
import re
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kfqn_ref.course import known
from kfqn_ref.course.allowed import Allowed
from kfqn_ref.course.clock import OutOfTime
from kfqn_ref.course.lesson import LawBroken, laws
from kfqn_ref.course.remote import Submission, SubmissionError, Woken
from kfqn_ref.course.sandbox import Limits
from kfqn_ref.course.source import defined
from kfqn_ref.course.variants import told

# How a test says that a function is missing: by the laws, or by Python.
MISSING = re.compile(r"✗ (?P<early>\w+) is not defined yet|name '(?P<late>\w+)' is not defined")
# What to do about an error that stops a cell, by a piece of its text.
WAYS_OUT = {
    "No module named": "the grader has only what the hand-out uses: do without that module",
    "U+00A0": "a space was pasted from elsewhere: delete it and type it anew",
    "Missing parentheses": "this is Python 2; the notebook runs Python 3",
}
ENDED = "✗ This test could not run: {}"


def is_test(cell: Any) -> bool:
    """Whether the cell is graded by running it."""
    mark = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(mark.get("grade")) and not mark.get("solution")


def is_solution(cell: Any) -> bool:
    """Whether a student writes in the cell."""
    return cell.cell_type == "code" and bool(cell.metadata.get("nbgrader", {}).get("solution"))


@dataclass
class Graded:
    """What a submission's run gave.

    Args:
        outputs: raw outputs of the cells by their index.   results: {"passed", "text"} by test.
        notes: what the instructor should know.   late: why there was not enough time, or nothing.
    """

    outputs: dict[int, list[Any]] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    late: str = ""


def regrade(master: Any, submitted: Any, limits: Limits) -> Graded:
    """Run a submission, then hold it to the master's tests, in the student's words."""
    words = submitted.metadata.get("kfqn", {}).get("words", {})
    return _Run(told(master, words), submitted, limits).graded()


class _Run:
    """One submission: its cells first, then the tests from the last to the first."""

    def __init__(self, master: Any, submitted: Any, limits: Limits):
        self._limits = limits
        self._cells = submitted.cells
        self._tests = Tests(master)
        self._allowed = Allowed(master)
        self._all = [c for c in master.cells if is_test(c)]
        self._ran: list[tuple[str, str]] = []  # cells with their errors
        self._kept: list[tuple[str, int]] = []  # tests with the number of cells above
        self._found = Graded()
        self._ended = ""

    def graded(self) -> Graded:
        """Do it; whatever ends the box is the reason of the tests that are left."""
        lost = ""
        try:
            with Submission(self._allowed, limits=self._limits) as submission:
                submission.laws = self._tests.asked(submission)
                try:
                    self._run_cells(submission)
                    self._run_tests(submission)
                except SubmissionError as error:
                    lost = str(error)
                self._found.late = submission.late
                self._found.notes += [f"borrowed: {text}" for text in sorted(submission.borrowed)]
        except OutOfTime as late:
            self._found.late = str(late)
        except SubmissionError as error:
            lost = str(error)
        for cell in self._all:
            reason = lost or self._ended or "it is not in the notebook"
            failed = {"passed": False, "text": ENDED.format(reason)}
            self._found.results.setdefault(grade_id(cell), failed)
        return self._found

    def _run_cells(self, submission: Submission) -> None:
        for index, cell in enumerate(self._cells):
            if cell.cell_type != "code":
                continue
            if is_test(cell):
                submission.keep()
                self._kept.append((grade_id(cell), len(self._ran)))
                continue
            try:
                problem, outputs = submission.run(cell.source)
            except Woken:
                self._ended = "an earlier cell ended it"
                self._found.outputs[index] = [_ended_here()]
                return
            self._ran.append((cell.source, problem))
            self._found.outputs[index] = outputs
            if sum(problem.startswith("TimeLimit") for _, problem in self._ran) == 2:
                seconds = self._limits.cell_seconds
                self._ended = f"two cells above it took more than {seconds:g} s each"
                return

    def _run_tests(self, submission: Submission) -> None:
        for depth, (name, above) in reversed(list(enumerate(self._kept))):
            submission.back(depth)
            self._found.results |= self._tests.run(name, submission, self._ran[:above])


def _ended_here() -> dict[str, Any]:
    text = "this cell ended the Python process, perhaps by its use of memory or of time"
    return {"kind": "error", "ename": "KernelDied", "evalue": text, "traceback": text}


class Tests:
    """The master's test cells, each with the cells above it that are not a student's."""

    def __init__(self, master: Any):
        self._own = [c for c in master.cells if c.cell_type == "code" and not is_solution(c)]
        solutions = [cell.source for cell in master.cells if is_solution(cell)]
        self.wanted: set[str] = set().union(*map(defined, solutions))

    def run(
        self, name: str, submission: Submission, ran: list[tuple[str, str]]
    ) -> dict[str, dict[str, Any]]:
        """Run one test cell, and before it the cells that are no tests and stand above it.

        Args:
            ran: cells of the student with their errors up to the test.
        """
        namespace = self._namespace(submission)
        for cell in self._own:
            if grade_id(cell) == name:
                text = with_cause(_run(_code(cell), namespace), ran)
                return {name: {"passed": not text, "text": text}}
            if not is_test(cell):
                _run(_code(cell), namespace)
        return {}

    def _namespace(self, submission: Submission) -> dict[str, Any]:
        known = {name: submission.function(name) for name in self.wanted & set(submission.names)}
        return {"__name__": "regrade", "display": lambda *args: None} | known

    def asked(self, submission: Submission) -> Callable[..., bool]:
        """The laws for a cell of the student's own: whether they hold, and nothing else."""

        def hold(names: tuple[str, ...], examples: int, seed: int | None) -> bool:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    laws(self._namespace(submission), *names[:10], examples=min(examples, 40))
            except LawBroken:
                return False
            return True

        return hold


def grade_id(cell: Any) -> str:
    """The name that nbgrader gave a cell, or nothing."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def _code(cell: Any) -> Any:
    return compile(cell.source, grade_id(cell) or "cell", "exec")


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
    told = f"✗ {name} is not there, because the cell that defines it stops with {errors[-1]}"
    return told + next((f"; {way}" for sign, way in WAYS_OUT.items() if sign in errors[-1]), "")


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


def solve(master: Any) -> None:
    """Hold the master's own answers to its tests, so that the cases of the laws are at hand."""
    namespace: dict[str, Any] = {"__name__": "regrade", "display": lambda *args: None}
    with known.kept():
        for cell in master.cells:
            if cell.cell_type == "code":
                _run(_attempt(cell), namespace)


def _attempt(cell: Any) -> Any:
    """The code of a cell; nothing where it is no Python without IPython's help."""
    try:
        return _code(cell)
    except SyntaxError:
        return ""
