"""What a graded notebook says at a glance: the record for the teacher, the first cell for the
student.
"""

import re
from typing import Any

import nbformat
from nbgrader.utils import determine_grade, is_grade

from kfqn_ref.course.classroom import Classroom, Record
from kfqn_ref.course.lesson import SAME
from kfqn_ref.course.regrade import is_test

ADVICE = (
    "Where several parts fail, the first failure often explains the others. Below, every failed test shows "
    "the law, the smallest example that breaks it, and both sides of the equation on that example: compute "
    "it by hand."
)
AGAIN = "CheckedAgain"  # the name of an error that only the second run has
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def record(classroom: Classroom, assignment: str, student: str, notebook: Any, ran: Any) -> Record:
    """The record of a notebook whose points nbgrader has taken."""
    tests = [cell for cell in notebook.cells if is_test(cell)]
    points = {
        cell.metadata.nbgrader.grade_id: float(determine_grade(cell)[0] or 0) for cell in tests
    }
    most = sum(float(cell.metadata.nbgrader.points) for cell in tests)
    with classroom.gradebook() as gradebook:
        grades = gradebook.find_submission(assignment, student).notebooks[0].grades
        by_hand = sum(float(grade.max_score) for grade in grades if grade.needs_manual_grade)
    notes = list(notebook.metadata.get("kfqn", {}).get("notes", []))
    notes += [f"the box was ended by {ran.ended}"] if ran.ended else []
    notes += [note for cell in tests if (note := _difference(cell, points, ran.again))]
    score = sum(points.values())
    return Record(
        student, "graded", score, most, by_hand, round(ran.seconds, 2), points, tuple(notes)
    )


def _difference(cell: Any, points: dict[str, float], again: dict[str, dict[str, Any]]) -> str:
    """Where the two runs of a test differ, in words; nothing where they agree."""
    name = cell.metadata.nbgrader.grade_id
    errors = [output.ename for output in cell.outputs if output.output_type == "error"]
    if again.get(name, {}).get("passed", False) and not points[name]:
        return f"{name}: passes alone, fails in the notebook"
    if errors == [AGAIN]:
        return f"{name}: passes in the notebook, fails alone with other examples"
    return ""


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
    wanted = [line.strip() for line in text.splitlines() if line.strip().startswith("✗")]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (wanted or lines or [""])[0 if wanted else -1].removeprefix("✗").strip()


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


def first_cell(notebook: Any, result: Record, points: dict[str, tuple[float | None, float]]) -> Any:
    """The cell on top: points, those given by hand included, what to fix first, and a line for
    every part.
    """
    given = [(score, most) for score, most in points.values() if score is not None]
    score, most = sum(score for score, _ in given), sum(most for _, most in given)
    waits = sum(most for _, most in points.values()) - most
    lines = [f"## Your result: {score:g} of {most:g} points", ""]
    if waits:
        lines += [f"{waits:g} more points are given by a person, who reads your answers.", ""]
    failed = [cell for cell in notebook.cells if is_test(cell) and reason(cell)]
    if failed:
        first = failed[0].metadata.nbgrader.grade_id
        lines += [f"Start with **{first}**: {_plain(likeliest(reason(failed[0])))}", ""]
        lines += [ADVICE, ""]
    else:
        lines += [
            "All tests pass, in your notebook and in a fresh process with other examples.",
            "",
        ]
    lines += ["| test | points | what it says |", "|---|---|---|"]
    for cell in filter(is_grade, notebook.cells):
        name = cell.metadata.nbgrader.grade_id
        score, most = points[name]
        text = _plain(likeliest(reason(cell))) or "passed" if is_test(cell) else "by hand"
        lines.append(f"| {name} | {'…' if score is None else f'{score:g}'} / {most:g} | {text} |")
    if result.notes:
        lines += ["", *[f"Note: {_plain(note)}" for note in result.notes]]
    return nbformat.v4.new_markdown_cell("\n".join(lines))


def _plain(text: str) -> str:
    """Text that Markdown leaves alone, short enough for a table."""
    text = text if len(text) <= 300 else text[:297] + "…"
    return re.sub(r"([\\`*_{}\[\]<>#|$~])", r"\\\1", text)
