"""Grade a class: restore the tests, run in the box, run the tests again outside it, keep the
points.

Per submission: (1) nbgrader, outside the box and without running anything, puts the master's test
cells back; (2) the notebook runs in the box; (3) a fresh process runs the master's tests against
the functions in another box; (4) nbgrader takes the points of every test cell that passed both
times. A submission that cannot be graded is reported, and the rest goes on.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbconvert.exporters.exporter import ResourcesDict
from nbgrader.preprocessors import SaveAutoGrades

from kfqn_ref.course import summary
from kfqn_ref.course.classroom import Classroom, Record, put_in_place
from kfqn_ref.course.clock import PATIENCE, OutOfTime
from kfqn_ref.course.prepare import OUT_OF_TIME, prepare
from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.regrade import arguments, is_test, with_cause
from kfqn_ref.course.sandbox import Box, Limits, require_box, require_package


@dataclass(frozen=True)
class Ran:
    """What both runs gave: cells with outputs, test results by id, what ended the box, seconds."""

    cells: list[Any]
    again: dict[str, dict[str, Any]]
    ended: str
    seconds: float


def grade(
    classroom: Classroom,
    assignment: str,
    *,
    students: Iterable[str] | None = None,
    limits: Limits | None = None,
    workers: int = 2,
    progress: Callable[[Record], None] | None = None,
) -> dict[str, Record]:
    """Grade the submissions of an assignment; one after the other is kept as soon as it is done.

    Args:
        students: all that have a folder in ``submitted/`` by default.
        limits: of the box; :class:`~kfqn_ref.course.sandbox.Limits` has the defaults.
        workers: how many at the same time.
        progress: called with each record as it comes.

    Raises:
        NoBox: bubblewrap is missing or does not work, and ``limits.unsafe`` is not set.
        CourseError: the assignment has not been released here.
    """
    limits = limits or Limits()
    master = nbformat.read(classroom.master(assignment), as_version=4)
    if not limits.unsafe:
        require_box()
        require_package()
    records = classroom.records(assignment)
    chosen = classroom.students() if students is None else list(students)

    for record in _as_they_come(classroom, assignment, chosen, master, limits, workers):
        records[record.student] = record
        classroom.keep(assignment, records)
        if progress is not None:
            progress(record)
    return {student: records[student] for student in chosen}


def _as_they_come(
    classroom: Classroom,
    assignment: str,
    students: list[str],
    master: Any,
    limits: Limits,
    workers: int,
) -> Iterator[Record]:
    """One record a student: first of those that cannot run, then of each that has run."""
    with classroom.workspace() as work, ThreadPoolExecutor(workers) as pool:
        running = {}
        for student in students:
            try:
                prepared = prepare(classroom, assignment, student, master, work)
                running[pool.submit(_run, classroom.master(assignment), prepared, limits)] = (
                    student,
                    prepared,
                )
            except Exception as problem:
                yield _not_graded(classroom, assignment, student, master, problem)
        try:
            for future in as_completed(running):
                student, prepared = running[future]
                try:
                    record = _settle(classroom, assignment, student, prepared, future.result())
                except Exception as problem:
                    record = _not_graded(classroom, assignment, student, master, problem)
                yield record
        finally:
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # after Ctrl-C, those in a box end within its limits


def _run(master: Path, prepared: Path, limits: Limits) -> Ran:
    """Steps 2 and 3, in a thread: no gradebook here."""
    begun = time.monotonic()
    path = prepared / f"{prepared.name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    own_time = 0.8 * limits.seconds  # so that the runner in the box can still say what it has
    with Box(
        "kfqn_ref.course.execute", str(limits.cell_seconds), str(own_time), limits=limits
    ) as box:
        out = box.communicate(nbformat.writes(notebook).encode())
        box.process.wait()
        ended = box.ended  # before the box is closed
    cells = _with_outputs(notebook.cells, out, ended or "its own doing")
    if late := box.late or _late(cells):
        raise NotGraded(OUT_OF_TIME, late)
    return Ran(cells, _run_again(master, path, limits), ended, time.monotonic() - begun)


def _late(cells: list[Any]) -> str:
    """Why the runner in the box gave up a cell for want of time, or nothing."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    late = [output for output in outputs if output.get("ename") == OutOfTime.__name__]
    return str(late[0].evalue) if late else ""


def _run_again(master: Path, path: Path, limits: Limits) -> dict[str, dict[str, Any]]:
    """Step 3: results of the master's tests by id, from a fresh process."""
    patience = PATIENCE * limits.seconds + 60  # its box ends before
    command = arguments(master, path, limits)
    try:
        with TemporaryDirectory() as folder:  # hypothesis leaves its notes where it runs
            fresh = subprocess.run(
                command, capture_output=True, text=True, timeout=patience, cwd=folder
            )
    except subprocess.TimeoutExpired as error:
        reason = f"the grader ran out of time: the tests took more than {patience:g} s in a fresh process"
        raise NotGraded(OUT_OF_TIME, reason) from error
    try:
        again = json.loads(fresh.stdout)
    except ValueError as error:
        raise NotGraded(
            "not graded", f"the tests could not be run again: {fresh.stderr[-500:]}"
        ) from error
    if isinstance(again, str):
        raise NotGraded(OUT_OF_TIME, again)
    return again


def _with_outputs(cells: list[Any], out: bytes, ended: str) -> list[Any]:
    """The cells as they were sent, with the outputs that came back: nothing else out of the box is
    used.
    """
    try:
        executed = nbformat.reads(out.decode("utf-8"), as_version=4).cells
    except Exception:
        executed = []
    lost = error_output("BoxEnded", f"The notebook was ended by {ended}.")
    for index, cell in enumerate(cells):
        if cell.cell_type == "code":
            cell.outputs = (
                executed[index].get("outputs", []) if len(executed) == len(cells) else [lost]
            )
            cell.execution_count = index if len(executed) == len(cells) else None
    return cells


def first_error(cell: Any) -> str:
    """The first error among the outputs of a cell, in one line, or nothing."""
    errors = [output for output in cell.get("outputs", []) if output.output_type == "error"]
    return f"{errors[0].ename}: {errors[0].evalue}" if errors else ""


def without_source(output: Any, before: list[tuple[str, str]]) -> Any:
    """An error of a test cell as its own text: a Python traceback would show the hidden tests
    around it.

    Args:
        before: cells above it with their errors: one may be why a function is missing.
    """
    if output.output_type == "error":
        text = "\n".join(output.traceback)
        own = text if text.startswith("✗") else f"{output.ename}: {output.evalue}"
        output.traceback = [with_cause(own, before)]
    return output


def error_output(name: str, *lines: str) -> Any:
    """An error that nbgrader counts and a reader sees."""
    return nbformat.v4.new_output(
        "error", ename=name, evalue=lines[-1][:200], traceback=list(lines)
    )


def _settle(
    classroom: Classroom, assignment: str, student: str, prepared: Path, ran: Ran
) -> Record:
    """Step 4: what passed both times counts; the graded notebook and the gradebook get it."""
    path = prepared / f"{assignment}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = ran.cells
    before: list[tuple[str, str]] = []  # cells with their errors
    for cell in notebook.cells:
        before.append((cell.source, first_error(cell)))
        if is_test(cell):
            cell.outputs = [without_source(output, before) for output in cell.outputs]
        again = ran.again.get(cell.metadata.get("nbgrader", {}).get("grade_id", ""))
        if is_test(cell) and again is not None and not again["passed"]:
            cell.outputs = [
                output for output in cell.outputs if output.output_type != "execute_result"
            ]
            text = str(again["text"])
            if not any(text in "\n".join(output.get("traceback", [])) for output in cell.outputs):
                head = "Checked again in a fresh process, with other examples:"
                cell.outputs.append(error_output(summary.AGAIN, head, "", text))
    about: Any = {"notebook": assignment, "assignment": assignment, "student": student}
    about["db_url"] = classroom.coursedir(assignment).db_url
    notebook, _ = SaveAutoGrades().preprocess(notebook, ResourcesDict(nbgrader=about))
    record = summary.record(classroom, assignment, student, notebook, ran)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    put_in_place(prepared, classroom.root / "autograded" / student / assignment)
    return record


def _not_graded(
    classroom: Classroom, assignment: str, student: str, master: Any, problem: Exception
) -> Record:
    """Zero points, with the reason, in the gradebook too."""
    state = problem.state if isinstance(problem, NotGraded) else "not graded"
    with classroom.gradebook() as gradebook:
        gradebook.update_or_create_student(student)
        submission = gradebook.update_or_create_submission(assignment, student)
        for notebook in submission.notebooks:
            for score in notebook.grades:
                score.auto_score, score.needs_manual_grade = 0, False
        gradebook.db.commit()
    most = sum(cell.metadata.nbgrader.points for cell in master.cells if is_test(cell))
    return Record(student, state, 0.0, most, notes=(f"{problem}" or type(problem).__name__,))
