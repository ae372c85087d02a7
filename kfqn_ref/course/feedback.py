"""The page that a student gets back, and the table of grades.

A page is one file without scripts: its policy lets a browser load nothing, run nothing and send
nothing, whatever stands in it.
"""

import base64
import csv
import hashlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, PackageLoader, StrictUndefined
from nbgrader.api import MissingEntry

from kfqn_ref.course import clean
from kfqn_ref.course.classroom import Classroom, CourseError, Record, write_whole
from kfqn_ref.course.prepare import OUT_OF_TIME
from kfqn_ref.course.regrade import grade_id
from kfqn_ref.course.summary import ADVICE, overview, points_of

AGAIN = (
    "No test was run, so there are 0 of {most:g} points for now. Before you hand in again: Kernel "
    "→ Restart Kernel and Run All Cells; File → Save; the file is {assignment}.ipynb."
)
LATE = "This is no score: it will be graded again. If a cell waits (sleep, input), take that out."
HIDDEN = re.compile(
    r"^[ \t]*### BEGIN HIDDEN TESTS.*?(^[ \t]*### END HIDDEN TESTS[^\n]*\n?|\Z)",
    re.DOTALL | re.MULTILINE,
)
COLUMNS = ("student", "assignment", "state", "score", "max_score", "waits_for_hand", "notes")


@cache
def _style() -> tuple[str, str]:
    """The style of a page, and the policy under which it alone is allowed."""
    style = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    parts = (
        "default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:",
        "base-uri 'none'", "form-action 'none'",
    )  # fmt: skip  # one directive after the other
    return style, "; ".join(parts)


def _rendered(assignment: str, title: str, **content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("kfqn_ref.course"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip  # options
    style, policy = _style()
    template = environment.get_template("page.html")
    fields = {"problem": "", "advice": "", "help": ADVICE, "cells": [], "overview": None} | content
    return template.render(assignment=assignment, title=title, style=style, policy=policy, **fields)


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
        problem = record.notes[0] if record.notes else record.state
        advice = LATE if record.state == OUT_OF_TIME else AGAIN
        advice = advice.format(assignment=assignment, most=record.max_score)
        write_whole(page, _rendered(assignment, "not graded", problem=problem, advice=advice))
        return page
    name = Path(student) / assignment / f"{assignment}.ipynb"
    notebook = nbformat.read(classroom.root / "autograded" / name, as_version=4)
    points = points_of(classroom, assignment, student)
    over = overview(notebook, record, points)
    comments = _comments(classroom, assignment, student)
    parts = {row["name"]: (number, row) for number, row in enumerate(over.rows, 1)}
    cells = [_cell(n, cell, parts, comments) for n, cell in enumerate(notebook.cells, 1)]
    write_whole(page, _rendered(assignment, "your result", overview=over, cells=cells))
    return page


def _comments(classroom: Classroom, assignment: str, student: str) -> dict[str, str]:
    """What a person wrote to the parts."""
    with classroom.gradebook() as gradebook:
        try:
            found = gradebook.find_submission_notebook(assignment, assignment, student).comments
        except MissingEntry:
            return {}
        return {comment.name: comment.comment or "" for comment in found}


def _cell(
    number: int, cell: Any, parts: dict[str, tuple[int, dict[str, str]]], comments: dict[str, str]
) -> dict[str, Any]:
    """What the page shows of a cell: hidden tests are taken out."""
    name = grade_id(cell)
    part, row = parts.get(name, (0, {}))
    shown = {
        "number": number,
        "kind": "code" if cell.cell_type == "code" else "text",
        "outputs": [],
    }
    shown |= {"part": part, "name": name if part else "", "comment": comments.get(name, "")}
    shown["points"] = f"{row['score']} of {row['most']} points" if row else ""
    if cell.cell_type == "code":
        shown["source"] = HIDDEN.sub("", cell.source).rstrip()
        shown["outputs"] = [_output(output) for output in cell.outputs]
    else:
        shown["html"] = clean.markdown(cell.source)
    return shown


def _output(output: Any) -> dict[str, Any]:
    """Text, or a picture in base64."""
    if output.output_type == "error":
        return {"picture": "", "text": clean.text("\n".join(output.traceback)), "failed": True}
    data = output.get("data", {})
    text = output.get("text", data.get("text/plain", ""))
    return {"picture": clean.picture(data.get("image/png", "")), "text": clean.text(text),
            "failed": False}  # fmt: skip  # one output


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
        key: "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
        for key, text in row.items()
    }
