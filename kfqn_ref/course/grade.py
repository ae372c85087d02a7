"""Grade a class: restore the tests, run in the box, hold the functions to the tests, keep the
points.

Per submission: (1) nbgrader, without running anything, puts the master's test cells back; (2) in a
process of its own, the student's cells run in the box, and the master's tests run outside it
against the functions in the box; (3) what the box showed is made inert; (4) nbgrader takes the
points. Step 2 is done once for submissions whose code is the same. A submission that cannot be
graded is reported, and the rest goes on.
"""

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters.exporter import ResourcesDict
from nbgrader.preprocessors import SaveAutoGrades

from kfqn_ref.course import clean, summary
from kfqn_ref.course.classroom import Classroom, Record, put_in_place
from kfqn_ref.course.clock import OUT_OF_TIME
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.prepare import prepare
from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.regrade import Graded, grade_id, is_test
from kfqn_ref.course.sandbox import Limits, require_box, require_package
from kfqn_ref.course.variants import told
from kfqn_ref.course.whole import CourseError, copy_gradebook

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # there is no room for anybody's result
NOT_RUN = clean.error("NotRun", "this cell did not run", "This cell did not run.")
NO_RESULT = {"passed": False, "text": "✗ This test did not run."}


@dataclass(frozen=True)
class Ran:
    """What a run gave: the outcome of cells and tests, and the seconds that it took."""

    found: Graded
    seconds: float


def grade(
    classroom: Classroom,
    assignment: str,
    *,
    students: Iterable[str] | None = None,
    limits: Limits | None = None,
    workers: int = 2,
    progress: Callable[[Record], None] | None = None,
    again: bool = True,
) -> dict[str, Record]:
    """Grade the submissions of an assignment; one after the other is kept as soon as it is done.

    Args:
        again: grade those as well that are as they were when they were graded, against the tests
            that are as they were.
        students: all that have a folder in ``submitted/`` by default.
        limits: of the box; :class:`~kfqn_ref.course.sandbox.Limits` has the defaults.
        workers: how many at the same time.
        progress: called with each record as it comes.

    Raises:
        NoBox: bubblewrap is missing or does not work, and ``limits.unsafe`` is not set.
        CourseError: the assignment has not been released here.
    """
    limits = limits or Limits()
    master = classroom.master_notebook(assignment)
    if not limits.unsafe:
        require_box()
        require_package()
    records = classroom.records(assignment)
    copy_gradebook(classroom.root / "gradebook.db")
    chosen = classroom.students() if students is None else list(students)
    keys = {student: _key(classroom, assignment, student) for student in chosen}
    waiting = [s for s in chosen if again or not _is_done(records.get(s), keys[s])]
    for record in _as_they_come(classroom, assignment, waiting, master, limits, workers):
        record = records[record.student] = replace(record, key=keys[record.student])
        classroom.keep(assignment, records)
        if progress is not None:
            progress(record)
    return {student: records[student] for student in chosen}


def _key(classroom: Classroom, assignment: str, student: str) -> str:
    try:
        return classroom.key(assignment, student)
    except OSError:
        return ""  # what cannot be read is tried again, and its record says why


def _is_done(record: Record | None, key: str) -> bool:
    """Whether the same submission has been graded against the same tests."""
    if record is None or record.state in (OUT_OF_TIME, "not graded"):
        return False
    return bool(key) and record.key == key


def _as_they_come(
    classroom: Classroom,
    assignment: str,
    students: list[str],
    master: Any,
    limits: Limits,
    workers: int,
) -> Iterator[Record]:
    """One record a student: first of those that cannot run, then of each that has run."""
    path = classroom.master(assignment)
    desks = Desks(path, limits, workers, solved=len(students) > 2 * workers)
    with classroom.workspace() as work, desks, ThreadPoolExecutor(workers) as pool:
        same: dict[Any, Future[Ran]] = {}
        waiting: dict[Future[Ran], list[tuple[str, Path]]] = {}
        for student in students:
            try:
                prepared = prepare(classroom, assignment, student, master, work)
                code = _code(prepared)
                if code not in same:
                    same[code] = pool.submit(_run, desks, prepared)
                waiting.setdefault(same[code], []).append((student, prepared))
            except Exception as problem:
                yield _not_graded(classroom, assignment, student, master, problem)
        try:
            for future in as_completed(waiting):
                for student, prepared in waiting[future]:
                    try:
                        yield _settle(classroom, assignment, student, prepared, future.result())
                    except Exception as problem:
                        yield _not_graded(classroom, assignment, student, master, problem)
        finally:  # after Ctrl-C, those in a box end with their desks
            pool.shutdown(wait=False, cancel_futures=True)
            desks.close()


def _notebook(prepared: Path) -> Any:
    return nbformat.read(prepared / f"{prepared.name}.ipynb", as_version=4)


def _code(prepared: Path) -> Any:
    """All of a submission that can change its outcome: its cells, without the text of words."""
    notebook = _notebook(prepared)
    words = tuple(notebook.metadata.get("kfqn", {}).get("words", {}).items())
    code = [(grade_id(c), c.cell_type == "code" and c.source) for c in notebook.cells]
    return words, *code


def _run(desks: Desks, prepared: Path) -> Ran:
    """Step 2, in a thread: no gradebook here."""
    begun = time.monotonic()
    found = desks.regrade(prepared / f"{prepared.name}.ipynb")
    if found.late:
        raise NotGraded(OUT_OF_TIME, found.late)
    return Ran(found, time.monotonic() - begun)


def _settle(
    classroom: Classroom, assignment: str, student: str, prepared: Path, ran: Ran
) -> Record:
    """Steps 3 and 4: the graded notebook and the gradebook get the points."""
    notebook = _notebook(prepared)
    words = notebook.metadata.get("kfqn", {}).get("words", {})
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            raw = ran.found.outputs.get(index)
            cell.outputs = [NOT_RUN] if raw is None else clean.outputs(deepcopy(raw))
            cell.execution_count = index
    for cell in filter(is_test, notebook.cells):
        result = ran.found.results.get(grade_id(cell), NO_RESULT)
        text = clean.text(result["text"])
        cell.outputs = [clean.error("TestFailed", clean.line(text, 200), text)]
        if result["passed"]:
            cell.outputs = [clean.stream("✓ passed\n")]
    about: Any = {"notebook": assignment, "assignment": assignment, "student": student}
    about["db_url"] = classroom.coursedir(assignment).db_url
    notebook, _ = SaveAutoGrades().preprocess(notebook, ResourcesDict(nbgrader=about))
    notes = [clean.line(note) for note in ran.found.notes]
    record = summary.record(classroom, assignment, student, notebook, notes, ran.seconds)
    master = told(classroom.master_notebook(assignment), words)
    text = nbformat.writes(clean.notebook(notebook, master))
    (prepared / f"{assignment}.ipynb").write_text(text, encoding="utf-8")
    put_in_place(prepared, classroom.root / "autograded" / student / assignment)
    return record


def _not_graded(
    classroom: Classroom, assignment: str, student: str, master: Any, problem: Exception
) -> Record:
    """Zero points, with the reason, in the gradebook too; what stops everybody is raised."""
    if isinstance(problem, CourseError) or getattr(problem, "errno", None) in FULL:
        raise problem
    state = problem.state if isinstance(problem, NotGraded) else "not graded"
    with classroom.gradebook() as gradebook:
        gradebook.update_or_create_student(student)
        submission = gradebook.update_or_create_submission(assignment, student)
        for notebook in submission.notebooks:
            for score in notebook.grades:
                score.auto_score = 0
                score.needs_manual_grade = False
        gradebook.db.commit()
    most = sum(cell.metadata.nbgrader.points for cell in master.cells if is_test(cell))
    return Record(student, state, 0.0, most, notes=(clean.line(problem) or type(problem).__name__,))
