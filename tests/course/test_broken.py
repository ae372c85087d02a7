"""What breaks while a class is graded is one sentence; nothing is lost, and the rest is graded."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from kfqn_ref.course import classroom as classroom_module
from kfqn_ref.course import demo
from kfqn_ref.course.classroom import Classroom
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.grade import grade
from kfqn_ref.course.handed_in import find
from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.regrade import Graded, grade_id, is_test
from kfqn_ref.course.release import release
from kfqn_ref.course.sandbox import Limits

from ..command import kfqn, words

NAME = demo.NAME
UNSAFE = Limits(unsafe=True)
CLASS = ("ada", "bob", "cid")


def passes(desks, path):
    """A stand-in for a desk: every test passes."""
    cells = nbformat.read(path, as_version=4).cells
    tests = [grade_id(cell) for cell in cells if is_test(cell)]
    return Graded({}, dict.fromkeys(tests, {"passed": True, "text": ""}))


def made(root: Path) -> Classroom:
    """A course with three hand-outs as submissions."""
    classroom = Classroom(root)
    released = release(classroom, NAME, demo.HERE)
    for student in CLASS:
        notebook = nbformat.read(released, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell("1" if student == "ada" else "2"))
        path = root / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return classroom


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A course in which everybody was graded, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Desks, "regrade", passes)
        classroom = made(tmp_path_factory.mktemp("course"))
        grade(classroom, NAME, limits=UNSAFE)
    return classroom.root


@pytest.fixture
def course(once, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.setattr(Desks, "regrade", passes)
    shutil.copytree(once, tmp_path / "course")
    return Classroom(tmp_path / "course")


def files(root: Path) -> dict[str, bytes]:
    """Every file of a course, but for the copies of the gradebook."""
    found = [path for path in root.rglob("*") if path.is_file()]
    kept = [path for path in found if not path.name.startswith("gradebook.db.")]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


# ---- the grader's own files


def garbage(path):
    path.write_bytes(b"no database" * 400)


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA foreign_keys = OFF")
        base.execute("DROP TABLE student")


COMMANDS = [("grade", NAME, "--unsafe"), ("feedback", NAME), ("export", "--out", "OUT")]


@pytest.mark.parametrize("damage", [garbage, half, emptied])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_broken_gradebook_is_named_and_nothing_is_changed(course, tmp_path, damage, command):
    grade(course, NAME, limits=UNSAFE)  # so that there is a copy from before
    damage(course.root / "gradebook.db")
    before = files(course.root)
    line = [tmp_path / "out.csv" if part == "OUT" else part for part in command]
    result = kfqn("course", *line, "--course", course.root)
    assert result.exit_code in (1, 2)
    assert "gradebook.db is broken" in words(result)
    assert "gradebook.db.1 is the latest copy that is whole" in words(result)
    assert files(course.root) == before
    assert not (tmp_path / "out.csv").exists()


def test_with_its_latest_copy_a_course_goes_on_and_points_by_hand_are_there(course):
    given = ["override", NAME, "--student", "ada", "--part", "secant", "--points", 1]
    assert kfqn("course", *given, "--reason", "x", "--course", course.root).exit_code == 0
    for _ in range(5):
        grade(course, NAME, limits=UNSAFE)
    copies = sorted(path.name for path in course.root.glob("gradebook.db.*"))
    assert copies == ["gradebook.db.1", "gradebook.db.2", "gradebook.db.3"]
    garbage(course.root / "gradebook.db")
    os.replace(course.root / "gradebook.db.1", course.root / "gradebook.db")
    out = course.root / "grades.csv"
    assert kfqn("course", "export", "--course", course.root, "--out", out).exit_code == 0
    assert [line.split(",")[3] for line in out.read_text().splitlines()[1:]] == ["6", "8", "8"]


OWN_FILES = [
    (f"grades/{NAME}.json", '[{"student": "ada"'),
    (f"grades/{NAME}.json", '[{"student": "ada"}]'),
    (f"grades/{NAME}.json", "{}"),
    (f"variants/{NAME}.json", "["),
]


@pytest.mark.parametrize(("name", "text"), OWN_FILES)
def test_a_broken_file_of_the_grader_is_named_and_stays(course, name, text):
    (course.root / name).parent.mkdir(exist_ok=True)
    (course.root / name).write_text(text, encoding="utf-8")
    before = files(course.root)
    result = kfqn("course", "grade", NAME, "--unsafe", "--again", "--course", course.root)
    assert result.exit_code == 2
    assert f"{Path(name).name} is broken" in words(result)
    assert {k: v for k, v in files(course.root).items() if "gradebook" not in k} == {
        k: v for k, v in before.items() if "gradebook" not in k
    }


def test_a_master_that_cannot_be_read_is_to_be_released_again(course):
    course.master(NAME).write_text("{", encoding="utf-8")
    result = kfqn("course", "grade", NAME, "--unsafe", "--course", course.root)
    assert result.exit_code == 2
    assert "cannot be read" in words(result)
    assert "release it again" in words(result)
    release(course, NAME, demo.HERE)
    assert kfqn("course", "grade", NAME, "--unsafe", "--course", course.root).exit_code == 0


# ---- the disk


@contextmanager
def full(monkeypatch, call, after):
    """A disk that is full at one call, after so many others."""
    real = getattr(os, call)
    done = []

    def filled(*args, **kwargs):
        done.append(1)
        if len(done) == after + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), args[1])
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(classroom_module.os, call, filled)
        yield


@pytest.mark.parametrize("after", [0, 2, 3, 5])
@pytest.mark.parametrize("call", ["rename", "replace"])
def test_a_full_disk_ends_the_run_with_one_sentence_and_loses_nothing(
    course, monkeypatch, call, after
):
    before = course.records(NAME)
    line = ["course", "grade", NAME, "--unsafe", "--course", course.root, "--workers", 1]
    with full(monkeypatch, call, after):
        result = kfqn(*line, "--again")
    if result.exit_code != 0:  # it had fewer calls than that
        assert result.exit_code == 2
        assert "No space left on device" in words(result)
    assert course.records(NAME).keys() == before.keys()
    assert {record.score for record in course.records(NAME).values()} == {8}
    for student in CLASS:
        path = course.root / "autograded" / student / NAME / f"{NAME}.ipynb"
        nbformat.read(path, as_version=4)
    assert not [path for path in course.root.rglob(".*") if path.name != ".gitignore"]
    assert kfqn(*line, "--again").exit_code == 0


# ---- a grader that is killed

KILLED = """
import sys, time
from pathlib import Path
from kfqn_ref.course.classroom import Classroom
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.grade import grade
from kfqn_ref.course.sandbox import Limits
from tests.course.test_broken import NAME, passes

def regrade(desks, path):
    if "ada" in str(path):
        return passes(desks, path)
    Path(sys.argv[1], "waits").touch()
    time.sleep(10000)

Desks.regrade = regrade
grade(Classroom(Path(sys.argv[1])), NAME, limits=Limits(unsafe=True), workers=1)
"""


def test_a_grader_that_is_killed_loses_nothing_and_goes_on(tmp_path, monkeypatch):
    classroom = made(tmp_path / "course")
    root = classroom.root
    command = [sys.executable, "-c", KILLED, root]
    grader = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    while not (root / "waits").exists() or "ada" not in classroom.records(NAME):
        assert grader.poll() is None
        time.sleep(0.05)
    grader.kill()
    grader.wait()
    assert list(root.glob(".grading-*"))
    asked = []
    monkeypatch.setattr(Desks, "regrade", lambda d, p: asked.append(p.parts[-3]) or passes(d, p))
    records = grade(classroom, NAME, limits=UNSAFE, again=False)
    assert asked == ["bob"]  # whose code is cid's: ada's record was kept
    assert [record.score for record in records.values()] == [8, 8, 8]
    assert not list(root.glob(".grading-*"))


def test_the_workspace_of_a_grader_that_runs_is_left_alone(tmp_path):
    classroom = Classroom(tmp_path)
    with classroom.workspace() as first, classroom.workspace() as second:
        assert first.is_dir()
        assert second.is_dir()


# ---- what cannot be read


@contextmanager
def as_nobody():
    """As a user who is not root, for whom rights count."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["student", "assignment", "file"])
def test_what_may_not_be_read_is_said_to_be_and_not_called_missing(what):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        place = root / "ada" / NAME
        place.mkdir(parents=True)
        (place / f"{NAME}.ipynb").write_text("{}", encoding="utf-8")
        for path in (root, root / "ada", place):
            path.chmod(0o755)
        shut = {"student": root / "ada", "assignment": place, "file": place / f"{NAME}.ipynb"}[what]
        shut.chmod(0)
        try:
            with as_nobody(), pytest.raises(NotGraded, match="cannot be read: give yourself"):
                find(root, "ada", NAME)
        finally:
            shut.chmod(0o755)


def test_a_notebook_with_too_many_cells_is_no_notebook(course):
    cell = {"cell_type": "code", "source": "1"}
    path = course.root / "submitted" / "ada" / NAME / f"{NAME}.ipynb"
    path.write_text(json.dumps({"cells": [cell] * 5001}), encoding="utf-8")
    records = grade(course, NAME, limits=UNSAFE)
    assert records["ada"].state == "corrupt"
    assert "it has 5001 cells, more than 5000" in records["ada"].notes[0]
    assert records["bob"].score == 8
