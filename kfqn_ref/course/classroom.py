"""The folders and the gradebook of a course, as nbgrader has them.

==================================  ============================================================
``source/ASSIGNMENT/``              the master notebook, with solutions and hidden tests: never hand
it out
``release/ASSIGNMENT/``             what students get
``release/ASSIGNMENT-for/STUDENT/`` the same, where each student has a variant
``solutions/ASSIGNMENT/``           pages with the solution of each variant: never hand them out
``variants/ASSIGNMENT.json``        who has which variant
``submitted/STUDENT/ASSIGNMENT/``   what they hand in: ``ASSIGNMENT.ipynb``
``autograded/STUDENT/ASSIGNMENT/``  the graded notebook
``feedback/STUDENT/ASSIGNMENT/``    what students get back: ``ASSIGNMENT.html``
``grades/ASSIGNMENT.json``          one record a student: state, points, seconds, what went wrong
``grades/by_hand/ASSIGNMENT.json``  points given in place of a test's, with reasons
``gradebook.db``                    nbgrader's gradebook; the formgrader of JupyterLab grades by
hand in it
``gradebook.db.1`` to ``.3``        copies from before the latest gradings, the newest first
==================================  ============================================================
"""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

from kfqn_ref.course.whole import BROKEN, CourseError, entries, require_whole

CONFIG = """# The formgrader reads this, in which points are given by hand.
c = get_config()  # noqa: F821  # nbgrader defines it
c.CourseDirectory.course_id = "kfqn"
# There is no such folder, and so nothing for the formgrader to autograde: it would run submissions
# as you, without a box. `kfqn course grade` does that.
c.CourseDirectory.submitted_directory = "only-kfqn-course-grades"
# The formgrader's own feedback shows hidden tests: not for students. `kfqn course feedback` hides
# them.
c.CourseDirectory.feedback_directory = "feedback-with-hidden-tests"
"""

IGNORED = "# Solutions, hidden tests, students and grades: not for a repository.\n*\n"


@dataclass(frozen=True)
class Record:
    """What became of one submission.

    Args:
        state: "graded", or why not: "missing", "wrong name", "corrupt", "lost its marks", "out of
            time", "not graded".
        score, max_score: points of the test cells.   by_hand: points that wait for a person.
        cells: points by test cell.   notes: what a teacher should know.
        key: of what was graded against which tests; the same key is not graded again.
    """

    student: str
    state: str
    score: float
    max_score: float
    by_hand: float = 0.0
    seconds: float = 0.0
    cells: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class Classroom:
    """A course folder."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "root", self.root.absolute()
        )  # nbgrader changes the working directory
        tools = str(
            Path(sys.executable).parent
        )  # nbgrader runs `alembic`, which stands beside this Python
        if tools not in os.environ.get("PATH", "").split(os.pathsep):
            os.environ["PATH"] = os.pathsep.join([tools, os.environ.get("PATH", "")])

    def coursedir(
        self, assignment: str, student: str = ".", **directories: Path
    ) -> CourseDirectory:
        """nbgrader's view of the course; ``directories`` put a step's folders elsewhere."""
        config = Config()
        config.CourseDirectory.root = str(self.root.resolve())
        config.CourseDirectory.course_id = "kfqn"
        config.CourseDirectory.assignment_id = assignment
        config.CourseDirectory.student_id = student
        config.OverwriteCells.add_missing_cells = True
        for name, path in directories.items():
            config.CourseDirectory[f"{name}_directory"] = str(path)
        return CourseDirectory(config=config)

    @contextmanager
    def gradebook(self) -> Iterator[Gradebook]:
        """The course's gradebook, closed at the end.

        Raises:
            CourseError: it is broken; nothing has been changed.
        """
        require_whole(self.root / "gradebook.db")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's own models draw them
            with Gradebook(
                f"sqlite:///{self.root.resolve() / 'gradebook.db'}", "kfqn"
            ) as gradebook:
                yield gradebook

    def master(self, assignment: str) -> Path:
        """The master notebook of an assignment.

        Raises:
            CourseError: it has not been released in this course.
        """
        path = self.root / "source" / assignment / f"{assignment}.ipynb"
        if not path.is_file():
            known = ", ".join(sorted(p.name for p in (self.root / "source").glob("*"))) or "none"
            raise CourseError(
                f"{assignment} is not an assignment of {self.root} (it has: {known}); release it "
                "first"
            )
        return path

    def master_notebook(self, assignment: str) -> Any:
        """What is in :meth:`master`.

        Raises:
            CourseError: it has not been released in this course, or cannot be read.
        """
        path = self.master(assignment)
        try:
            return nbformat.read(path, as_version=4)
        except (OSError, ValueError, nbformat.ValidationError) as error:
            reason = str(error).splitlines()[0][:200]
            raise CourseError(f"{path} cannot be read ({reason}): release it again") from error

    def key(self, assignment: str, student: str) -> str:
        """A digest of what a student handed in and of the tests that it is held to."""
        digest = hashlib.sha256(self.master(assignment).read_bytes())
        if words := self.words(assignment).get(student):
            digest.update(json.dumps(words).encode())
        folder = self.root / "submitted" / student
        for path in sorted(folder.rglob("*")):
            other = path.relative_to(folder).parts[0] != assignment and path.parent != folder
            if other or not path.is_file() or path.is_symlink():
                continue
            digest.update(f"{path.relative_to(folder)}\n{path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def words(self, assignment: str) -> dict[str, dict[str, str]]:
        """The words of each student who has a variant (:mod:`kfqn_ref.course.variants`)."""
        return entries(self.root / "variants" / f"{assignment}.json", {})

    def keep_words(self, assignment: str, words: dict[str, dict[str, str]]) -> None:
        """Write the words of all students at once."""
        path = self.root / "variants" / f"{assignment}.json"
        write_whole(path, json.dumps(words, indent=1, ensure_ascii=False))

    def students(self) -> list[str]:
        """Everyone with a folder in ``submitted/``; hidden folders are tools' own."""
        folders = [path for path in (self.root / "submitted").glob("[!.]*") if path.is_dir()]
        return sorted(path.name for path in folders)

    def records(self, assignment: str) -> dict[str, Record]:
        """What ``grade`` wrote, by student."""
        path = self.root / "grades" / f"{assignment}.json"
        try:
            return {
                entry["student"]: Record(**entry | {"notes": tuple(entry["notes"])})
                for entry in entries(path, [])
            }
        except (TypeError, KeyError) as error:
            raise CourseError(BROKEN.format(path, error)) from error

    def keep(self, assignment: str, records: dict[str, Record]) -> None:
        """Write all records of an assignment at once."""
        entries = [asdict(records[student]) for student in sorted(records)]
        write_whole(
            self.root / "grades" / f"{assignment}.json",
            json.dumps(entries, indent=1, ensure_ascii=False),
        )

    def by_hand(self, assignment: str) -> list[dict[str, Any]]:
        """Points that a person gave in place of a test's, with reasons, from the first on."""
        return entries(self.root / "grades" / "by_hand" / f"{assignment}.json", [])

    def note_by_hand(self, assignment: str, given: dict[str, Any]) -> None:
        """Add one to :meth:`by_hand`; none is ever taken away."""
        path = self.root / "grades" / "by_hand" / f"{assignment}.json"
        entries = [*self.by_hand(assignment), given]
        write_whole(path, json.dumps(entries, indent=1, ensure_ascii=False))

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A temporary folder on the course's own disk, so that a rename puts results in place
        whole.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for left in self.root.glob(".grading-*"):  # by a grader that was killed
            if not _runs(left.name.split("-")[1]):
                _take_away(left)
        path = Path(tempfile.mkdtemp(prefix=f".grading-{os.getpid()}-", dir=self.root.resolve()))
        try:
            yield path
        finally:
            _take_away(path)


def _runs(pid: str) -> bool:
    return pid.isdigit() and psutil.pid_exists(int(pid))


def _take_away(folder: Path) -> None:
    for inner, _, _ in os.walk(folder):
        os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name and rename it: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def put_in_place(new: Path, place: Path) -> None:
    """Rename a finished folder to its place; an older one there is taken away as a whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    old = new.with_name(f"{new.name}.old")
    if place.exists():
        os.rename(place, old)
    try:
        os.rename(new, place)
    except OSError:
        if old.exists():
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)


class _Collector(logging.Handler):
    """Keeps what nbgrader logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.texts.append(record.getMessage().strip())


def run(converter: Any) -> None:
    """Run one of nbgrader's converters without its log on the terminal.

    Raises:
        CourseError: it failed; the message is the error that nbgrader logged first.
    """
    collector = _Collector()
    log = logging.getLogger(f"kfqn.nbgrader.{id(converter)}")
    log.propagate = False
    converter.log = log
    log.addHandler(collector)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # nbgrader's own models draw them
            converter.start()
    except (Exception, SystemExit) as error:
        first = next((text for text in collector.texts if "Traceback" in text), str(error))
        raise CourseError(first.splitlines()[-1]) from error
