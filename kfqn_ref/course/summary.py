"""What a graded notebook says at a glance: the record for the teacher, the overview for the
student.
"""

import re
from dataclasses import dataclass
from typing import Any

from nbgrader.utils import determine_grade, is_grade

from kfqn_ref.course.classroom import Classroom, Record
from kfqn_ref.course.lesson import SAME
from kfqn_ref.course.regrade import grade_id, is_test

ADVICE = (
    "Where several parts fail, the first failure often explains the others. Below, every failed "
    "test shows the law, the smallest example that breaks it, and both sides of the equation on "
    "that example: compute it by hand."
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def record(
    classroom: Classroom,
    assignment: str,
    student: str,
    notebook: Any,
    told: list[str],
    seconds: float,
) -> Record:
    """The record of a notebook whose points nbgrader has taken.

    Args:
        told: notes of the run.   seconds: how long it took.
    """
    tests = [cell for cell in notebook.cells if is_test(cell)]
    points = {
        cell.metadata.nbgrader.grade_id: float(determine_grade(cell)[0] or 0) for cell in tests
    }
    most = sum(float(cell.metadata.nbgrader.points) for cell in tests)
    with classroom.gradebook() as gradebook:
        grades = gradebook.find_submission(assignment, student).notebooks[0].grades
        by_hand = sum(float(grade.max_score) for grade in grades if grade.needs_manual_grade)
    notes = [*notebook.metadata.get("kfqn", {}).get("notes", []), *told]
    score = sum(points.values())
    return Record(student, "graded", score, most, by_hand, round(seconds, 2), points, tuple(notes))


def reason(cell: Any) -> str:
    """The failure of a test cell in full, without colours; nothing where it passed."""
    texts = [
        "\n".join(output.get("traceback", []))
        for output in cell.outputs
        if output.output_type == "error"
    ]
    return ANSI.sub("", "\n".join(texts)).strip()


def likeliest(text: str) -> str:
    """The most telling line of a failure."""
    _, found, rest = text.partition("Likeliest mistake:")
    if found:
        return " ".join(rest.partition("\n\n")[0].split()).removesuffix(SAME).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    wanted = [line for line in lines if line.startswith("✗")]
    if wanted:
        return wanted[0].removeprefix("✗").strip()
    return lines[-1] if lines else ""


def points_of(
    classroom: Classroom, assignment: str, student: str
) -> dict[str, tuple[float | None, float]]:
    """Points and their maximum by cell, as the gradebook has them now; None: a person has yet to
    give them.

    Points given by hand stand when the submission is graded again, until a person changes them.
    """
    with classroom.gradebook() as gradebook:
        grades = gradebook.find_submission(assignment, student).notebooks[0].grades
        return {grade.name: (_given(grade), float(grade.max_score)) for grade in grades}


def _given(grade: Any) -> float | None:
    return None if grade.needs_manual_grade and grade.manual_score is None else float(grade.score)


@dataclass(frozen=True)
class Overview:
    """What stands on top of a page: points, those given by hand included, what to repair first, and
    a line for every part.
    """

    score: str
    most: str
    waits: str
    first: tuple[str, str] | None
    rows: list[dict[str, str]]
    notes: tuple[str, ...]


def overview(
    notebook: Any, result: Record, points: dict[str, tuple[float | None, float]]
) -> Overview:
    """Sum up a graded notebook.

    Args:
        points: as :func:`points_of` returns them.
    """
    given = [(score, most) for score, most in points.values() if score is not None]
    score = sum(score for score, _ in given)
    most = sum(most for _, most in given)
    waits = sum(most for _, most in points.values()) - most
    failed = [cell for cell in notebook.cells if is_test(cell) and reason(cell)]
    first = (grade_id(failed[0]), _short(likeliest(reason(failed[0])))) if failed else None
    rows = [_row(cell, *points[grade_id(cell)]) for cell in notebook.cells if is_grade(cell)]
    left = f"{waits:g}" if waits else ""
    return Overview(f"{score:g}", f"{most:g}", left, first, rows, result.notes)


def _row(cell: Any, score: float | None, most: float) -> dict[str, str]:
    told = _short(likeliest(reason(cell))) or "passed" if is_test(cell) else "by hand"
    given = "…" if score is None else f"{score:g}"
    return {"name": grade_id(cell), "score": given, "most": f"{most:g}", "text": told}


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "…"
