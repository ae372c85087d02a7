"""A class looked at as a whole, and points that a person gives in place of a test's."""

import ast
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any

import nbformat
from nbgrader.api import MissingEntry

from kfqn_ref.course import clean
from kfqn_ref.course.classroom import Classroom, CourseError, Record
from kfqn_ref.course.regrade import grade_id, is_solution, is_test
from kfqn_ref.course.source import plain
from kfqn_ref.course.summary import likeliest, reason

ALIKE = 0.95  # of the shape of two answers, from which on a pair is listed
SHORTEST = 150  # parts of a shape below which right answers look alike anyway


@dataclass(frozen=True)
class Part:
    """One test: its points, how many of the graded failed it, and the mistakes named most."""

    name: str
    points: float
    failed: int
    mistakes: list[tuple[str, int]]


@dataclass(frozen=True)
class Statistics:
    """A class: how many in each state, scores, the tests from the hardest, answers alike."""

    states: dict[str, int]
    scores: list[float]
    most: float
    parts: list[Part]
    alike: list[tuple[str, str, float]]


def statistics(classroom: Classroom, assignment: str) -> Statistics:
    """Sum up what was graded.

    Raises:
        CourseError: nothing was.
    """
    records = classroom.records(assignment)
    graded = [record for record in records.values() if record.state == "graded"]
    if not graded:
        raise CourseError(
            f"nothing of {assignment} has been graded: run `kfqn course grade {assignment}` first"
        )
    notebooks = {r.student: _notebook(classroom, assignment, r.student) for r in graded}
    master = classroom.master_notebook(assignment)
    tests = [cell for cell in master.cells if is_test(cell)]
    parts = [_part(cell, graded, notebooks) for cell in tests]
    parts.sort(key=lambda part: -part.failed)
    states = Counter(record.state for record in records.values())
    scores = sorted(record.score for record in graded)
    return Statistics(dict(states), scores, graded[0].max_score, parts, alike(notebooks, master))


def _notebook(classroom: Classroom, assignment: str, student: str) -> Any:
    path = classroom.root / "autograded" / student / assignment / f"{assignment}.ipynb"
    return nbformat.read(path, as_version=4)


def _part(test: Any, graded: list[Record], notebooks: dict[str, Any]) -> Part:
    name = grade_id(test)
    points = float(test.metadata.nbgrader.points)
    failed = [record.student for record in graded if record.cells.get(name, 0.0) < points]
    told = Counter(_mistake(notebooks[student], name) for student in failed)
    return Part(name, points, len(failed), told.most_common(3))


def _mistake(notebook: Any, name: str) -> str:
    cells = [cell for cell in notebook.cells if grade_id(cell) == name]
    return clean.line(likeliest(reason(cells[0]))) if cells else "the test is missing"


def alike(notebooks: dict[str, Any], master: Any) -> list[tuple[str, str, float]]:
    """Pairs of students whose answers have the same shape: a hint to look, and no verdict.

    The names of variables, comments and the layout do not count, and neither do answers that are
    short or that have the shape of the master's.
    """
    own = _shape(master)
    shapes = {student: _shape(notebook) for student, notebook in notebooks.items()}
    long = {student: shape for student, shape in shapes.items() if len(shape) >= SHORTEST}
    found = []
    for left, right in combinations(sorted(long), 2):
        pair = SequenceMatcher(None, long[left], long[right], autojunk=False)
        if pair.real_quick_ratio() < ALIKE or pair.quick_ratio() < ALIKE:
            continue
        ratio = pair.ratio()
        if ratio >= ALIKE and long[left] != own:
            found.append((left, right, ratio))
    return sorted(found, key=lambda pair: -pair[2])


def _shape(notebook: Any) -> list[str]:
    """The kinds of the parts of all answers, in their order."""
    kinds = []
    for cell in filter(is_solution, notebook.cells):
        try:
            tree = ast.parse(plain(re.sub(r"(?m)^.*### (BEGIN|END) SOLUTION.*$", "", cell.source)))
        except (SyntaxError, ValueError, RecursionError):
            continue
        kinds += [type(node).__name__ for node in ast.walk(tree)]
    return kinds


def override(
    classroom: Classroom, assignment: str, student: str, part: str, points: float, why: str
) -> None:
    """Give points by hand for one part, with a reason that the student reads.

    Raises:
        CourseError: there is no such part, the points are not possible, or the reason is missing.
    """
    if not why.strip():
        raise CourseError("points by hand need a reason, which the student reads: --reason '…'")
    with classroom.gradebook() as gradebook:
        try:
            grade: Any = gradebook.find_grade(part, assignment, assignment, student)
        except MissingEntry as error:
            reason = f"{student}'s {assignment} has no part {part} that was graded"
            raise CourseError(reason) from error
        if not 0 <= points <= grade.max_score:
            raise CourseError(f"points must lie in 0 … {grade.max_score:g}, got {points:g}")
        grade.manual_score = points
        grade.needs_manual_grade = False
        gradebook.db.commit()
    given = {"student": student, "part": part, "points": points, "reason": clean.line(why, 1000)}
    about = [
        e for e in classroom.by_hand(assignment) if (e["student"], e["part"]) == (student, part)
    ]
    if about and given.items() <= about[-1].items():
        return  # said twice, it is still one decision
    classroom.note_by_hand(assignment, given | {"when": datetime.now(UTC).isoformat()})
