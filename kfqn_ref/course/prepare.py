"""Before a submission runs: read it, or say why it cannot be graded; put the master's tests
back.
"""

import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.converters import Autograde

from kfqn_ref.course.classroom import Classroom, run

LARGEST = 20 * 2**20  # bytes of a notebook
OUT_OF_TIME = "out of time"  # the state of a submission that the machine was too slow for


class NotGraded(Exception):
    """A submission that cannot be graded: its state, and what to do about it."""

    def __init__(self, state: str, reason: str):
        super().__init__(reason)
        self.state = state


def prepare(classroom: Classroom, assignment: str, student: str, master: Any, work: Path) -> Path:
    """Step 1: a copy of the notebook alone, with the master's tests. Returns its place in the
    workspace.
    """
    if set(student) & set("[]*?+"):  # nbgrader takes them for patterns
        raise NotGraded(
            "wrong name",
            "the name of the student's folder must not have any of [ ] * ? +: rename it",
        )
    folder = classroom.root / "submitted" / student / assignment
    clean = work / "submitted" / student / assignment
    clean.mkdir(parents=True)
    notebook = complete(read(folder, assignment), master)
    (clean / f"{assignment}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    stamp = folder / "timestamp.txt"
    if stamp.is_file() and not stamp.is_symlink():
        shutil.copyfile(stamp, clean / "timestamp.txt")
    coursedir = classroom.coursedir(
        assignment, student, submitted=work / "submitted", autograded=work / "autograded"
    )
    converter = Autograde(coursedir=coursedir, config=coursedir.config)
    converter.force, converter.create_student, converter.permissions = True, True, 644
    converter.autograde_preprocessors = []  # restore the tests, run nothing
    run(converter)
    return work / "autograded" / student / assignment


def read(folder: Path, assignment: str) -> Any:
    """The notebook that was handed in.

    Raises:
        NotGraded: there is none, or it is no notebook; the message says what to do.
    """
    path = folder / f"{assignment}.ipynb"
    if not folder.is_dir():
        raise NotGraded("missing", f"nothing was handed in: there is no folder {assignment}/")
    if path.is_symlink():
        raise NotGraded(
            "wrong name", f"{assignment}.ipynb is a link and not a file: hand in the file itself"
        )
    if not path.is_file():
        names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise NotGraded(
            "wrong name", f"the notebook must be named {assignment}.ipynb, found {names}: rename it"
        )
    if path.stat().st_size > LARGEST:
        raise NotGraded(
            "corrupt", "the notebook is larger than 20 MB: clear its outputs and hand it in again"
        )
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(notebook)
    except Exception as error:
        first = (
            str(error).strip().splitlines()[0].split(":")[0][:100]
            if str(error).strip()
            else type(error).__name__
        )
        raise NotGraded(
            "corrupt",
            f"the file is not a notebook ({first}): save it in Jupyter and hand it in again",
        ) from error
    return notebook


def complete(notebook: Any, master: Any) -> Any:
    """The notebook with the marked cells that it lost, each after the one before it."""
    notebook.nbformat_minor = 5
    place = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    after = -1
    for cell in master.cells:
        mark = cell.metadata.get("nbgrader")
        if mark is None:
            continue
        if mark.grade_id in place:
            after = next(i for i, own in enumerate(notebook.cells) if own is place[mark.grade_id])
            continue
        new = (
            nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
        )
        source = "# This cell was missing." if mark.solution else cell.source
        after += 1
        notebook.cells.insert(after, new(source, metadata={"nbgrader": dict(mark)}))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # one each, whatever was handed in
    return notebook
