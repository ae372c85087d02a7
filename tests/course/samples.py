"""What a sample submission is, and the pieces that samples are made of."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from kfqn_ref.course.regrade import is_solution, is_test
from kfqn_ref.course.release import available, master_notebook

MASTERS = {name: master_notebook(path) for name, path in available().items()}


@dataclass(frozen=True)
class Sample:
    """One submission: which cells it answers and how, what else it does, what it must score and be
    told.
    """

    student: str
    assignment: str
    score: float
    told: str = ""  # words of the feedback; empty: nothing is wrong with the answers
    cells: dict[str, str] = field(
        default_factory=dict
    )  # solution cells by id; the master's where not given
    own: str = ""  # a cell of the student's own after the setup cell
    change: Callable[[Any], Any] = lambda notebook: notebook
    write: Callable[[Path, Any], None] | None = (
        None  # how the file is written, if not as a notebook
    )
    state: str = "graded"


def grade_id(cell: Any) -> str:
    """The id of a cell, or nothing."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def cell_of(assignment: str, name: str) -> str:
    """A cell of the master's."""
    return next(cell.source for cell in MASTERS[assignment].cells if grade_id(cell) == name)


def build(sample: Sample) -> Any:
    """The student's notebook: tests without their hidden part, answers filled in."""
    notebook = copy.deepcopy(MASTERS[sample.assignment])
    for cell in notebook.cells:
        if is_test(cell):
            cell.source = cell.source.split("### BEGIN HIDDEN TESTS")[0].rstrip()
        cell.source = sample.cells.get(grade_id(cell), cell.source)
    if sample.own:
        setup = next(
            index for index, cell in enumerate(notebook.cells) if grade_id(cell) == "setup"
        )
        notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(sample.own))
    return sample.change(notebook)


def hand_in(sample: Sample, course: Path) -> None:
    """Write the submission where a course expects it."""
    folder = course / "submitted" / sample.student / sample.assignment
    folder.mkdir(parents=True)
    notebook = build(sample)
    if sample.write is not None:
        sample.write(folder, notebook)
    else:
        (folder / f"{sample.assignment}.ipynb").write_text(
            nbformat.writes(notebook), encoding="utf-8"
        )


def stubs(assignment: str) -> dict[str, str]:
    """All solution cells of an assignment as students get them."""
    found = {}
    for cell in MASTERS[assignment].cells:
        if is_solution(cell):
            pieces = cell.source.split("### BEGIN SOLUTION")
            rests = [piece.partition("### END SOLUTION")[2] for piece in pieces[1:]]
            found[grade_id(cell)] = pieces[0] + "".join(
                "raise NotImplementedError()" + rest for rest in rests
            )
    return found


def changed(assignment: str, name: str, old: str, new: str) -> dict[str, str]:
    """The master's answer with one piece replaced."""
    source = cell_of(assignment, name)
    assert old in source, (assignment, name, old)
    return {name: source.replace(old, new)}


def points(assignment: str, *lost: str) -> float:
    """All points of the tests but those of the parts lost."""
    tests = {
        grade_id(cell): cell.metadata.nbgrader.points
        for cell in MASTERS[assignment].cells
        if is_test(cell)
    }
    assert set(lost) <= set(tests), (assignment, lost)
    return sum(value for name, value in tests.items() if name not in lost)
