"""Before a submission runs: read it, or say why it cannot be graded; put the master's tests
back.
"""

import shutil
import warnings
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.converters import Autograde
from nbgrader.utils import parse_utc

from kfqn_ref.course import clean, variants
from kfqn_ref.course.classroom import Classroom, run
from kfqn_ref.course.handed_in import find
from kfqn_ref.course.marks import Marks
from kfqn_ref.course.reading import read
from kfqn_ref.course.regrade import grade_id, is_solution


def prepare(classroom: Classroom, assignment: str, student: str, master: Any, work: Path) -> Path:
    """Step 1: a copy of the notebook alone, with the master's tests. Returns its place in the
    workspace.

    What student and teacher should know of the file stands in ``metadata.kfqn.notes``.
    """
    clean.require_name(student)
    place = work / "submitted" / student / assignment
    place.mkdir(parents=True)
    words = classroom.words(assignment).get(student, {})
    asked = variants.told(master, words)
    path, notes = find(classroom.root / "submitted", student, assignment)
    notes += _copy_date(path.parent / "timestamp.txt", place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbformat's are about what is put right here
        notebook = completed(path.read_bytes(), asked, notes)
        notebook.metadata["kfqn"]["notes"] += variants.strangers(notebook, master, words)
        notebook.metadata["kfqn"]["words"] = words
        (place / f"{assignment}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
        _put_tests_back(classroom, assignment, student, work)
    prepared = work / "autograded" / student / assignment
    if words:
        _say_in_words(prepared / f"{assignment}.ipynb", asked)
    return prepared


def completed(data: bytes, master: Any, notes: list[str]) -> Any:
    """The notebook in a file with every marked cell of the master, in an order that can run."""
    notebook, told = read(data)
    notes = [*notes, *told, *Marks(notebook, master).restore()]
    notebook.metadata["kfqn"] = {"notes": notes}
    return notebook


def _say_in_words(path: Path, asked: Any) -> None:
    """Put the student's variant where nbgrader put what the source says."""
    notebook = nbformat.read(path, as_version=4)
    sources = {grade_id(cell): cell.source for cell in asked.cells if not is_solution(cell)}
    for cell in notebook.cells:
        if grade_id(cell) and cell.cell_type == "code":
            cell.source = sources.get(grade_id(cell), cell.source)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")


def _copy_date(stamp: Path, clean: Path) -> list[str]:
    """Copy the date of handing in, where there is one; say so where it is no date."""
    if not stamp.is_file() or stamp.is_symlink():
        return []
    try:
        date = parse_utc(stamp.read_text(encoding="utf-8").strip())
    except (ValueError, OverflowError, AttributeError, TypeError):  # dateutil's own ones
        date = None
    if date is None:
        return ["timestamp.txt holds no date: whether it came late is not known"]
    shutil.copyfile(stamp, clean / "timestamp.txt")
    return []


def _put_tests_back(classroom: Classroom, assignment: str, student: str, work: Path) -> None:
    """Let nbgrader restore what a student does not write, and enter the submission."""
    coursedir = classroom.coursedir(
        assignment, student, submitted=work / "submitted", autograded=work / "autograded"
    )
    converter = Autograde(coursedir=coursedir, config=coursedir.config)
    converter.force = True
    converter.create_student = True
    converter.permissions = 644
    converter.autograde_preprocessors = []  # restore the tests, run nothing
    run(converter)
