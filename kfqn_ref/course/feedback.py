"""The page that a student gets back, and the table of grades."""

import csv
import html
import io
import re
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.converters import GenerateFeedback
from nbgrader.preprocessors import ClearHiddenTests

from kfqn_ref.course.classroom import Classroom, CourseError, Record, put_in_place, run, write_whole
from kfqn_ref.course.prepare import OUT_OF_TIME
from kfqn_ref.course.summary import first_cell, points_of

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{assignment}</title>
<style>body {{ font: 1.1em/1.5 sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }}</style>
<h1>{assignment}: not graded</h1>
<p><strong>{reason}</strong></p>
<p>{advice}</p>
</html>
"""

ADVICE = """No test was run, so there are 0 of {most:g} points for now. Before you hand in again: Kernel →
Restart Kernel and Run All Cells; File → Save; the file is <code>{assignment}.ipynb</code>."""

LATE = "This is no score: it will be graded again. If a cell waits (sleep, input), take that out."

NOTE = """<p style="margin: 0 1em"><em>Formulas stand here as TeX, so that this page needs no network; your
notebook shows them set.</em></p>
<style>th, td { padding: 0.1em 0.8em 0.1em 0; vertical-align: top }</style>"""

COLUMNS = ("student", "assignment", "state", "score", "max_score", "waits_for_hand", "notes")


def feedback(classroom: Classroom, assignment: str, student: str) -> Path:
    """Write the page of one student, whole or not at all.

    Raises:
        CourseError: the submission has not been graded, or its page cannot be made.
    """
    record = classroom.records(assignment).get(student)
    if record is None:
        raise CourseError(
            f"{student}'s {assignment} has not been graded: run `kfqn course grade` first"
        )
    page = classroom.root / "feedback" / student / assignment / f"{assignment}.html"
    if record.state != "graded":
        reason = html.escape(record.notes[0] if record.notes else record.state)
        name = html.escape(assignment)
        advice = LATE if record.state == OUT_OF_TIME else ADVICE
        advice = advice.format(assignment=name, most=record.max_score)
        write_whole(page, PAGE.format(assignment=name, reason=reason, advice=advice))
        return page
    with classroom.workspace() as work:
        _with_first_cell(classroom, assignment, record, work / "graded")
        coursedir = classroom.coursedir(
            assignment, student, autograded=work / "graded", feedback=work
        )
        converter = GenerateFeedback(coursedir=coursedir, config=coursedir.config)
        converter.force, converter.preprocessors = (
            True,
            [ClearHiddenTests, *converter.preprocessors],
        )
        run(converter)
        made = work / student / assignment / page.name
        write_whole(made, offline(made.read_text(encoding="utf-8")))
        put_in_place(work / student / assignment, page.parent)
    return page


def _with_first_cell(classroom: Classroom, assignment: str, record: Record, folder: Path) -> None:
    """A copy of the graded notebook with the result on top: points by hand come after grading."""
    name = Path(record.student) / assignment / f"{assignment}.ipynb"
    notebook = nbformat.read(classroom.root / "autograded" / name, as_version=4)
    points = points_of(classroom, assignment, record.student)
    notebook.cells.insert(0, first_cell(notebook, record, points))
    write_whole(folder / name, nbformat.writes(notebook))


def offline(text: str) -> str:
    """The page without the scripts that nbconvert loads from the network; its formulas stay as TeX.

    Raises:
        CourseError: a part of the page would still be loaded from elsewhere.
    """
    before, _, rest = text.partition("<!-- Loading mathjax macro -->")
    text = before + rest.partition("<!-- End of mathjax configuration -->")[2] if rest else before
    if re.search(r"<script[^>]*\bsrc\s*=", text):
        raise CourseError(
            "a page of feedback must load no script, and nbconvert wrote one that does"
        )
    return re.sub(r"<body[^>]*>", lambda body: body[0] + NOTE, text, count=1)


def export(classroom: Classroom, path: Path, assignments: list[str]) -> int:
    """Write one line a student and assignment, points given by hand included. Returns how many."""
    out = io.StringIO()
    table = csv.DictWriter(out, list[Any](COLUMNS), lineterminator="\n")
    table.writeheader()
    count = 0
    with classroom.gradebook() as gradebook:
        for assignment in assignments:
            for student, record in sorted(classroom.records(assignment).items()):
                score, waits = record.score, False
                if record.state == "graded":
                    submission = gradebook.find_submission(assignment, student)
                    score, waits = submission.score, submission.needs_manual_grade
                most = gradebook.find_assignment(assignment).max_score
                table.writerow(_row(assignment, record, score, most, waits))
                count += 1
    write_whole(path, out.getvalue())
    return count


def _row(assignment: str, record: Record, score: Any, most: Any, waits: Any) -> dict[str, Any]:
    """A line of the table; a cell that a spreadsheet would take for a formula is made text."""
    row = {"student": record.student, "assignment": assignment, "state": record.state,
           "score": "" if record.state == OUT_OF_TIME else f"{score:g}",
           "max_score": f"{most:g}", "waits_for_hand": "yes" if waits else "",
           # the columns in their order
           "notes": "; ".join(record.notes).replace("\n", " ")}  # fmt: skip
    return {
        key: "'" + text if text.startswith(("=", "+", "-", "@")) else text
        for key, text in row.items()
    }
