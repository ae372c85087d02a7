"""A small class from release to table: graded, reported, kept whole, and what each step says."""

import csv
import html
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from kfqn_ref.course import sandbox
from kfqn_ref.course.classroom import Classroom, CourseError, put_in_place, write_whole
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.feedback import feedback
from kfqn_ref.course.grade import grade
from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.release import release
from kfqn_ref.course.sandbox import NoBox, require_box

from ..command import kfqn, words
from . import answers
from .boxes import needs_box
from .classes import LIMITS, Graded, grade_all, plain
from .corpus import bfgs, linked, nothing, renamed, truncated
from .samples import Sample, hand_in

CLASS = [
    Sample("ada", "a1_bfgs", 20.0),
    bfgs("=bob", answers.TRANSPOSED, "the transposed factor"),
    Sample("[red]", "a1_bfgs", 0, "must not have any of", state="wrong name"),
    Sample("cut", "a1_bfgs", 0, "the file is not a notebook", write=truncated, state="corrupt"),
    Sample("dan", "a1_bfgs", 0, "must be named a1_bfgs.ipynb", write=renamed, state="wrong name"),
    Sample("eve", "a1_bfgs", 0, "is a link and not a file", write=linked, state="wrong name"),
    Sample("fay", "a1_bfgs", 0, "nothing was handed in", write=nothing, state="missing"),
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Graded:
    return grade_all(tmp_path_factory.mktemp("course"), CLASS)


@needs_box
@pytest.mark.parametrize("sample", CLASS, ids=lambda sample: sample.student)
def test_each_is_graded_or_reported_and_told(graded, sample):
    record = graded.records[sample.student, "a1_bfgs"]
    assert record.state == sample.state
    assert sample.told in graded.pages[sample.student, "a1_bfgs"]
    if sample.student == "ada":
        assert record.score == record.max_score == 20
        assert record.notes == ()
    else:
        assert record.score < 20
    if sample.state != "graded":
        assert sample.told in record.notes[0]


@needs_box
def test_a_page_shows_the_example_and_hides_the_hidden_tests(graded):
    page = graded.pages["=bob", "a1_bfgs"]
    for wanted in (
        "Start with secant",
        "Likeliest mistake",
        "H⁺ y",
        "violation",
        "BFGS on an inverse",
    ):
        assert wanted in page
    for secret in ("HIDDEN TESTS", "untampered()", "seed="):
        assert secret not in page


@needs_box
def test_the_gradebook_and_the_table_agree_with_the_records(graded, tmp_path):
    out = tmp_path / "grades.csv"
    result = kfqn("course", "export", "--course", graded.classroom.root, "--out", out)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    names = sorted(sample.student for sample in CLASS)
    assert [row["student"] for row in rows] == [
        "'" + name if name[0] == "=" else name for name in names
    ]
    for row in rows:
        record = graded.records[row["student"].removeprefix("'"), "a1_bfgs"]
        assert float(row["score"]) == record.score
        assert row["state"] == record.state
        assert not row["waits_for_hand"]


@needs_box
def test_one_command_grades_one_student_again(graded):
    before = graded.classroom.records("a1_bfgs")
    root = graded.classroom.root
    result = kfqn(
        "course", "grade", "a1_bfgs", "--course", root, "--student", "=bob", "--cell-seconds", 30
    )
    assert result.exit_code == 0, result.output
    assert "=bob" in result.output
    shown = kfqn("course", "grade", "a1_bfgs", "--course", root, "--student", "[red]")
    assert "[red]" in shown.output  # a name, and no colour
    assert "1 of 1 graded" in words(result)
    after = graded.classroom.records("a1_bfgs")
    assert after["=bob"].cells == before["=bob"].cells
    assert {k: v for k, v in after.items() if k != "=bob"} == {
        k: v for k, v in before.items() if k != "=bob"
    }


@needs_box
def test_nothing_temporary_stays_and_nothing_is_half_written(graded):
    left = {path.name for path in graded.classroom.root.rglob(".*")}
    assert left <= {".ipynb_checkpoints", ".gitignore"}


@needs_box
def test_an_error_of_the_grader_for_one_submission_does_not_stop_the_rest(graded, monkeypatch):
    def run(desks, path):
        raise RuntimeError("the disk is full") if "ada" in str(path) else StopIteration

    monkeypatch.setattr(Desks, "regrade", run)
    classroom = graded.classroom
    keep = classroom.records("a1_bfgs")
    records = grade(classroom, "a1_bfgs", students=["ada", "=bob"], limits=LIMITS)
    assert records["ada"].notes == ("the disk is full",)
    assert {record.state for record in records.values()} == {"not graded"}
    classroom.keep("a1_bfgs", keep)


def test_without_a_box_no_submission_runs(tmp_path, monkeypatch):
    classroom = Classroom(tmp_path)
    assert kfqn("course", "release", "a1_bfgs", "--course", tmp_path).exit_code == 0
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    require_box.cache_clear()
    try:
        with pytest.raises(NoBox, match="bubblewrap is missing"):
            grade(classroom, "a1_bfgs", students=[])
        result = kfqn("course", "grade", "a1_bfgs", "--course", tmp_path)
        assert result.exit_code == 2
        assert "apt-get install bubblewrap" in words(result)
        assert (
            kfqn("course", "grade", "a1_bfgs", "--course", tmp_path, "--unsafe").exit_code == 0
        )  # nobody is there
    finally:
        require_box.cache_clear()


@needs_box
def test_a_page_asks_the_network_for_nothing_and_can_be_read_without(graded):
    path = graded.classroom.root / "feedback" / "=bob" / "a1_bfgs" / "a1_bfgs.html"
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|iframe|object|embed|form)\b", text)
    assert "mathjax" not in text.lower()
    assert "default-src 'none'; style-src 'sha256-" in html.unescape(text)
    assert "Formulas stand here as TeX" in graded.pages["=bob", "a1_bfgs"]
    assert r"s^\top y" in text


def test_a_submission_that_ran_out_of_time_has_no_score_anywhere(tmp_path, monkeypatch):
    def late(desks, path):
        raise NotGraded("out of time", "the grader ran out of time: the machine is busy")

    monkeypatch.setattr(Desks, "regrade", late)
    classroom = Classroom(tmp_path)
    release(classroom, "a1_bfgs")
    hand_in(Sample("ada", "a1_bfgs", 20.0), tmp_path)
    result = kfqn("course", "grade", "a1_bfgs", "--course", tmp_path, "--unsafe")
    assert result.exit_code == 1
    for said in ("out of time", "–/20", "no score, for want of time: ada"):
        assert said in words(result)
    assert "This is no score" in plain(feedback(classroom, "a1_bfgs", "ada"))
    kfqn("course", "export", "--course", tmp_path, "--out", tmp_path / "grades.csv")
    table = (tmp_path / "grades.csv").read_text(encoding="utf-8")
    assert [row["score"] for row in csv.DictReader(table.splitlines())] == [""]


def test_commands_say_what_is_missing(tmp_path):
    for arguments in (("grade", "a1_bfgs"), ("release", "a9")):
        result = kfqn("course", *arguments, "--course", tmp_path)
        assert result.exit_code == 2, result.output
        assert "a1_bfgs" in words(result)
    assert kfqn("course", "export", "--course", tmp_path).exit_code == 2
    assert kfqn("course", "feedback", "a1_bfgs", "--course", tmp_path).exit_code == 2
    with pytest.raises(CourseError, match="has not been graded"):
        feedback(Classroom(tmp_path), "a1_bfgs", "ada")


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A course with one assignment, and nothing handed in."""
    root = tmp_path_factory.mktemp("released")
    release(Classroom(root), "a1_bfgs")
    return root


WRONG = [
    (("grade", "a9"), "a9 is not an assignment of", "it has: a1_bfgs"),
    (("grade", "a1_bfgs", "--student", "zoe"), "must name a folder of", "got zoe"),
    (("grade", "a1_bfgs", "--workers", 0), "workers must be at least 1", "got 0"),
    (("grade", "a1_bfgs", "--seconds", 0), "seconds must be at least 1", "got 0"),
    (("grade", "a1_bfgs", "--cell-seconds", "nan"), "cell_seconds must be at least 1", "got nan"),
    (("grade", "a1_bfgs", "--memory", 5), "memory_mb must be at least 512", "got 5"),
    (("feedback", "a9"), "a9 is not an assignment of", "it has: a1_bfgs"),
    (("export", "--assignment", "a9"), "a9 is not an assignment of", "it has: a1_bfgs"),
    (
        ("export", "--assignment", "a1_bfgs", "--out", "OUT"),
        "nothing of a1_bfgs has been graded",
        "first",
    ),
    (("feedback", "a1_bfgs"), "nothing has been graded yet", "kfqn course grade a1_bfgs"),
    (("release", "a9"), "must be one of a1_bfgs", "got 'a9'"),
]


@pytest.mark.parametrize(("arguments", "wanted", "got"), WRONG)
def test_a_wrong_argument_is_told_what_must_hold_and_what_was_got(
    released, tmp_path, arguments, wanted, got
):
    before, out = sorted(released.rglob("*")), tmp_path / "grades.csv"
    out.write_text("a table of last week")
    named = [out if argument == "OUT" else argument for argument in arguments]
    result = kfqn("course", *named, "--course", released)
    assert result.exit_code == (1 if arguments == ("feedback", "a1_bfgs") else 2), result.output
    assert wanted in words(result)
    assert got in words(result)
    assert sorted(released.rglob("*")) == before
    assert out.read_text() == "a table of last week"


def test_a_relative_course_stays_the_same_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classroom = Classroom(Path("course"))
    monkeypatch.chdir("/")
    assert classroom.root == tmp_path / "course"


def test_a_course_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    result = kfqn("course", "release", "a1_bfgs", "--course", tmp_path / "file")
    assert result.exit_code == 2
    assert f"must be one that can be written, got {tmp_path / 'file'} (Not a directory)" in words(
        result
    )


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.json"
    write_whole(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "two")
    assert path.read_text() == "one"


def test_a_folder_is_replaced_whole(tmp_path):
    for text in ("one", "two"):
        new = tmp_path / "work" / "a"
        new.mkdir(parents=True, exist_ok=True)
        (new / "file").write_text(text)
        put_in_place(new, tmp_path / "place")
    assert (tmp_path / "place" / "file").read_text() == "two"
    assert list((tmp_path / "work").iterdir()) == []
    shutil.rmtree(tmp_path / "place")


def test_a_page_in_words(tmp_path):
    (tmp_path / "p.html").write_text("<style>x</style><p>a &lt; b</p>", encoding="utf-8")
    assert plain(tmp_path / "p.html") == "a < b"
