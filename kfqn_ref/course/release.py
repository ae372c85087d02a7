"""From the script of an assignment to what students get: ``source/``, then ``release/`` without
answers.
"""

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbconvert import HTMLExporter
from nbgrader.converters import GenerateAssignment

from kfqn_ref.course import variants
from kfqn_ref.course.classroom import CONFIG, IGNORED, Classroom, CourseError, run, write_whole
from kfqn_ref.course.clean import require_name
from kfqn_ref.course.reading import NotGraded

HERE = Path(__file__).resolve().parents[2] / "notebooks" / "assignments"


def available(sources: Path = HERE) -> dict[str, Path]:
    """The assignments of a folder of percent scripts, by name.

    Raises:
        CourseError: there are none; they come with a clone of the repository, not with the
            installed package.
    """
    found = {path.stem: path for path in sorted(sources.glob("*.py"))}
    if not found:
        raise CourseError(
            f"no assignments (*.py) in {sources}: clone the repository, or name their folder with "
            "--sources"
        )
    return found


def master_notebook(path: Path) -> Any:
    """Read a percent script, and complete the nbgrader marks of its cells."""
    notebook = jupytext.read(path, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        mark = cell.metadata.get("nbgrader")
        if mark is not None:
            solution = bool(mark.get("solution"))
            grade = "points" in mark
            complete = {
                "schema_version": 3,
                "solution": solution,
                "grade": grade,
                "locked": not solution,
                "task": False,
            }
            cell.metadata["nbgrader"] = complete | dict(mark) | {"cell_type": cell.cell_type}
            if grade:
                cell.metadata["nbgrader"]["points"] = float(mark["points"])
        cell["id"] = (
            # the same every time, as ids drawn at random would make every release differ
            f"cell-{number}"
        )
    header = notebook.metadata.get("kfqn", {})
    if "vary" in header:  # YAML reads numbers where words are meant
        vary = header["vary"].items()
        header["vary"] = {str(word): list(map(str, others)) for word, others in vary}
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    # without it, an export as a script is named .txt
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    notebook.metadata.pop("jupytext", None)
    nbformat.validate(notebook)
    return notebook


def with_fresh_seeds(notebook: Any) -> Any:
    """The notebook with other examples in its hidden tests: the seeds of the scripts are public."""
    for cell in notebook.cells:
        head, mark, hidden = cell.source.partition("### BEGIN HIDDEN TESTS")
        cell.source = (
            head + mark + re.sub(r"(?<=seed=)\d+", lambda _: str(secrets.randbelow(2**31)), hidden)
        )
    return notebook


def release(
    classroom: Classroom,
    assignment: str,
    sources: Path = HERE,
    *,
    fresh_seeds: bool = True,
    students: Iterable[str] = (),
) -> Path:
    """Write ``source/`` and ``release/`` of one assignment; return the student's notebook.

    Args:
        students: who get a variant of their own, beside ``release/``'s; who has one keeps it.
        fresh_seeds: draw the hidden examples of this course; no other course, and no student, has
            them.

    Raises:
        CourseError: there is no such assignment, or it is not well formed.
    """
    scripts = available(sources)
    if assignment not in scripts:
        raise CourseError(f"assignment must be one of {', '.join(scripts)}, got {assignment!r}")
    notebook = master_notebook(scripts[assignment])
    if fresh_seeds:
        notebook = with_fresh_seeds(notebook)
    place = classroom.root / "source" / assignment / f"{assignment}.ipynb"
    write_whole(place, nbformat.writes(notebook))
    for name, text in (("nbgrader_config.py", CONFIG), (".gitignore", IGNORED)):
        if not (classroom.root / name).exists():
            write_whole(classroom.root / name, text)
    (classroom.root / "submitted").mkdir(exist_ok=True)
    coursedir = classroom.coursedir(assignment)
    converter = GenerateAssignment(coursedir=coursedir, config=coursedir.config)
    converter.force = True
    converter.create_assignment = True
    run(converter)
    released = classroom.root / "release" / assignment / f"{assignment}.ipynb"
    os.chmod(released, 0o644)
    hand_out = nbformat.read(released, as_version=4)
    if "vary" in hand_out.metadata.get("kfqn", {}):  # what others are asked is not told
        write_whole(released, nbformat.writes(variants.told(hand_out, {})))
    if students := list(students):
        return _release_variants(classroom, assignment, released, students)
    return released


def _release_variants(
    classroom: Classroom, assignment: str, released: Path, students: list[str]
) -> Path:
    """Write a hand-out for each student; return their folder."""
    for student in students:
        _require_name(student)
    hand_out = nbformat.read(released, as_version=4)
    folder = released.parent.with_name(f"{assignment}-for")
    dealt = variants.deal(classroom, assignment, students)
    for student in students:
        text = nbformat.writes(variants.told(hand_out, dealt[student]))
        write_whole(folder / student / assignment / f"{assignment}.ipynb", text)
    return folder


def _require_name(student: str) -> None:
    try:
        require_name(student)
    except NotGraded as refused:
        raise CourseError(f"{refused}; got {student!r}") from refused
    if Path(student).name != student or not student.strip(". "):
        raise CourseError(f"a student's name must be the name of a folder, got {student!r}")


def solutions(classroom: Classroom, assignment: str) -> list[Path]:
    """Write a page with the solution of each variant, or of the one assignment, for the instructor.

    Hidden tests are part of it. The pages lie in no folder that is handed out.
    """
    master = classroom.master_notebook(assignment)
    dealt = classroom.words(assignment) or {assignment: {}}
    pages = []
    for name, words in sorted(dealt.items()):
        page = classroom.root / "solutions" / assignment / f"{name}.html"
        write_whole(page, HTMLExporter().from_notebook_node(variants.told(master, words))[0])
        pages.append(page)
    return pages
