"""The grades as a table, for a spreadsheet or for a learning platform."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfqn_ref.course.classroom import Classroom, Record, write_whole
from kfqn_ref.course.clock import OUT_OF_TIME

Lines = list[dict[str, Any]]


def export(classroom: Classroom, path: Path, assignments: list[str], form: str = "table") -> int:
    """Write the grades, points given by hand included. Returns the number of lines.

    Args:
        form: one of :data:`FORMS`. "table" has a line a student and assignment; "canvas" and
            "moodle" have a line a student, in the columns that their imports take.
    """
    rows = _rows(classroom, assignments)
    columns, lines = FORMS[form](rows, assignments)
    out = io.StringIO()
    table = csv.DictWriter(out, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _as_text(line.get(key, "")) for key in columns} for line in lines)
    write_whole(path, out.getvalue())
    return len(lines)


def _rows(classroom: Classroom, assignments: list[str]) -> Lines:
    """One line a student and assignment."""
    rows = []
    with classroom.gradebook() as gradebook:
        for assignment in assignments:
            most = gradebook.find_assignment(assignment).max_score
            for student, record in sorted(classroom.records(assignment).items()):
                score = record.score
                waits = False
                if record.state == "graded":
                    submission = gradebook.find_submission(assignment, student)
                    score = submission.score
                    waits = submission.needs_manual_grade
                rows.append(_row(assignment, record, score, most, waits))
    return rows


def _row(assignment: str, record: Record, score: Any, most: Any, waits: Any) -> dict[str, Any]:
    notes = "; ".join(record.notes).replace("\n", " ")
    given = "" if record.state == OUT_OF_TIME else f"{score:g}"
    by_hand = "yes" if waits else ""
    return {"student": record.student, "assignment": assignment, "state": record.state,
            "score": given, "max_score": f"{most:g}", "waits_for_hand": by_hand,
            "notes": notes}  # fmt: skip  # the columns in their order


def _as_text(value: Any) -> str:
    """A cell; one that a spreadsheet would take for a formula is made text."""
    text = str(value)
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _plain(rows: Lines, assignments: list[str]) -> tuple[list[str], Lines]:
    columns = ["student", "assignment", "state", "score", "max_score", "waits_for_hand", "notes"]
    return columns, rows


def _canvas(rows: Lines, assignments: list[str]) -> tuple[list[str], Lines]:
    """Canvas' gradebook: students by their login, and a first line with the points possible."""
    columns = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *assignments]
    most = {row["assignment"]: row["max_score"] for row in rows}
    students = _by_student(rows, "SIS Login ID", "Student")
    return columns, [{"Student": "    Points Possible"} | most, *students]


def _moodle(rows: Lines, assignments: list[str]) -> tuple[list[str], Lines]:
    """Moodle's import of grades: students by their user name."""
    return ["Username", *assignments], _by_student(rows, "Username")


def _by_student(rows: Lines, *names: str) -> Lines:
    lines: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(row["student"], dict.fromkeys(names, row["student"]))
        line[row["assignment"]] = row["score"]
    return list(lines.values())


FORMS: dict[str, Callable[[Lines, list[str]], tuple[list[str], Lines]]] = {
    "table": _plain,
    "canvas": _canvas,
    "moodle": _moodle,
}
