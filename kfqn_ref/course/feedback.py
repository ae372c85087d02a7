"""The page that a student gets back.

A page is one file without scripts: its policy lets a browser load nothing, run nothing and send
nothing, whatever stands in it.
"""

import base64
import hashlib
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, PackageLoader, StrictUndefined
from nbgrader.api import MissingEntry

from kfqn_ref.course import clean
from kfqn_ref.course.classroom import Classroom, CourseError, write_whole
from kfqn_ref.course.clock import OUT_OF_TIME
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
    given = [entry for entry in classroom.by_hand(assignment) if entry["student"] == student]
    hand = [f"{e['part']}: {e['points']:g} points by hand, because {e['reason']}" for e in given]
    over = overview(notebook, replace(record, notes=(*record.notes, *hand)), points)
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
    kind = "code" if cell.cell_type == "code" else "text"
    heading = name if part else ""
    shown = {"number": number, "kind": kind, "outputs": []}
    shown |= {"part": part, "name": heading, "comment": comments.get(name, "")}
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
