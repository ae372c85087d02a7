"""A class looked at as a whole: what is graded again, sums, points by hand, tables, pages."""

import csv
import json
import re

import nbformat
import pytest

from kfqn_ref.course import command, demo
from kfqn_ref.course.classroom import Classroom
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.feedback import feedback
from kfqn_ref.course.grade import grade
from kfqn_ref.course.regrade import Graded, grade_id, is_test
from kfqn_ref.course.release import HERE, release
from kfqn_ref.course.sandbox import Limits

from ..command import kfqn, words
from . import answers
from .browser import ROOT, Site, needs_browser
from .classes import plain
from .corpus import bfgs
from .samples import Sample, hand_in

NAME = "a1_bfgs"
UNSAFE = Limits(unsafe=True)
CLASS = [
    Sample("ada", NAME, 20.0),
    bfgs("bob", answers.TRANSPOSED),
    bfgs("copycat", answers.TRANSPOSED.replace("left", "matrix")),
    bfgs("dan", answers.LOOPS),
]
TOLD = "✗ This law does not hold.\n\nLikeliest mistake: the transposed factor."


class Course:
    """A course whose submissions are run by a stand-in; it counts whom it was asked to run."""

    def __init__(self, root, monkeypatch):
        self.classroom, self.ran = Classroom(root), []
        release(self.classroom, NAME, fresh_seeds=False)
        for sample in CLASS:
            hand_in(sample, root)
        monkeypatch.setattr(Desks, "regrade", lambda desks, path: self._run(path))

    def _run(self, path):
        student = path.parts[-3]
        self.ran.append(student)
        cells = nbformat.read(path, as_version=4).cells
        wrong = "left.T @ H" in str(cells) or "matrix.T @ H" in str(cells)
        failed = {"secant", "formula"} if wrong else set()
        tests = [grade_id(cell) for cell in cells if is_test(cell)]
        results = {
            name: {"passed": name not in failed, "text": TOLD if name in failed else ""}
            for name in tests
        }
        return Graded({}, results)

    def grade(self, **options):
        self.ran.clear()
        return grade(self.classroom, NAME, limits=UNSAFE, workers=1, **options)


@pytest.fixture
def course(tmp_path, monkeypatch):
    return Course(tmp_path, monkeypatch)


def path_of(course, student):
    return course.classroom.root / "submitted" / student / NAME / f"{NAME}.ipynb"


def test_what_is_unchanged_is_not_graded_again_and_what_changed_is(course):
    everybody = ["ada", "bob", "copycat", "dan"]
    first = course.grade(again=False)
    assert course.ran == everybody
    assert course.grade(again=False) == first
    assert course.ran == []
    path_of(course, "bob").write_text(
        path_of(course, "bob").read_text(encoding="utf-8").replace("left", "side"), encoding="utf-8"
    )
    course.grade(again=False)
    assert course.ran == ["bob"]
    release(course.classroom, NAME)  # other hidden examples
    course.grade(again=False)
    assert course.ran == everybody


def test_a_class_that_was_stopped_goes_on_where_it_was(course, monkeypatch):
    def stop(record):
        if record.student == "bob":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        course.grade(again=False, progress=stop)
    done = set(course.classroom.records(NAME))
    course.grade(again=False)
    assert "bob" in done
    assert set(course.ran) == {"ada", "bob", "copycat", "dan"} - done


def test_the_command_keeps_what_is_unchanged_and_says_a_sentence(course):
    line = ["course", "grade", NAME, "--course", course.classroom.root, "--unsafe"]
    said = words(kfqn(*line))
    assert "4 submissions: 4 graded; 16.0 of 20 points on average, 2 with all" in said
    course.ran.clear()
    assert kfqn(*line).exit_code == 0
    assert course.ran == []
    kfqn(*line, "--again")
    assert len(course.ran) == 4


def test_the_sums_of_a_class(course):
    course.grade()
    result = kfqn("course", "stats", NAME, "--course", course.classroom.root)
    said = words(result)
    assert re.search(r"4 graded", said)
    assert said.index("secant 2 2 × the transposed factor.") < said.index("refusal 0")
    assert "12 ██ 2" in said
    assert "20 ██ 2" in said


def test_answers_of_the_same_shape_are_a_hint_and_right_ones_that_differ_are_none(course):
    course.grade()
    said = words(kfqn("course", "stats", NAME, "--course", course.classroom.root))
    assert "bob and copycat: 100%" in said
    assert "a hint to look, and no verdict" in said
    assert "dan and" not in said
    assert "and dan" not in said


def test_points_by_hand_in_place_of_a_test_s_have_a_reason_that_is_read(course):
    course.grade()
    root = course.classroom.root
    line = ["course", "override", NAME, "--course", root, "--student", "bob", "--part", "secant"]
    for wrong, said in (
        (["--points", 3], "need a reason"),
        (["--points", 5, "--reason", "x"], "must lie in 0 … 4, got 5"),
    ):
        refused = kfqn(*line, *wrong)
        assert refused.exit_code == 2
        assert said in words(refused)
    assert kfqn(*line, "--points", 3, "--reason", "right up to a sign").exit_code == 0
    page = plain(feedback(course.classroom, NAME, "bob"))
    assert "Your result: 15 of 20 points" in page
    assert "secant: 3 points by hand, because right up to a sign" in page
    assert "points by hand" not in plain(feedback(course.classroom, NAME, "ada"))
    kept = json.loads((root / "grades" / "by_hand" / f"{NAME}.json").read_text(encoding="utf-8"))
    assert [entry["reason"] for entry in kept] == ["right up to a sign"]


@pytest.mark.parametrize(
    ("form", "columns", "first"),
    [
        ("canvas", "Student,ID,SIS User ID,SIS Login ID,Section,a1_bfgs", "Points Possible"),
        ("moodle", "Username,a1_bfgs", "ada"),
    ],
)
def test_tables_for_learning_platforms(course, tmp_path, form, columns, first):
    course.grade()
    out = tmp_path / "grades.csv"
    root = course.classroom.root
    assert kfqn("course", "export", "--course", root, "--out", out, "--form", form).exit_code == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0] == columns
    assert first in lines[1]
    rows = list(csv.DictReader(lines))
    assert [row[NAME] for row in rows][-4:] == ["20", "12", "12", "20"]
    refused = kfqn("course", "export", "--course", root, "--out", out, "--form", "x")
    assert "must be one of table, canvas, moodle" in words(refused)


def test_what_cannot_be_read_is_one_sentence_and_the_rest_is_graded(course):
    files = {student: path_of(course, student) for student in ("ada", "bob", "copycat")}
    files["ada"].write_text('{"cells": [', encoding="utf-8")
    with files["bob"].open("wb") as file:
        file.truncate(200 * 2**20)  # a hole: it takes no room on the disk
    files["copycat"].write_bytes(b"PK\x03\x04" + bytes(1000))
    records = course.grade()
    assert course.ran == ["dan"]
    assert records["dan"].state == "graded"
    for student, said in (
        ("ada", "not a notebook"),
        ("bob", "larger than"),
        ("copycat", "archive"),
    ):
        assert records[student].state == "corrupt"
        assert len(records[student].notes) == 1
        assert said in records[student].notes[0]


AXE = ROOT / "book" / "node_modules" / "axe-core" / "axe.min.js"
RUN = (
    "axe.run().then(r => document.title = JSON.stringify(r.violations.map("
    "v => [v.impact, v.id, v.nodes.length])))"
)


def without_policy(page: str) -> str:
    return re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page)


@needs_browser
@pytest.mark.skipif(not AXE.is_file(), reason="axe-core: run `npm ci` in book/")
def test_a_page_of_feedback_has_no_serious_fault_of_accessibility(course):
    course.grade()
    page = feedback(course.classroom, NAME, "bob").read_text(encoding="utf-8")
    script = f"<script>{AXE.read_text(encoding='utf-8')}</script><script>{RUN}</script>"
    with Site() as site:
        document = site.opened(without_policy(page).replace("</body>", script + "</body>"))
    found = json.loads(re.search(r"<title>(.*?)</title>", document)[1])
    assert not [fault for fault in found if fault[0] in ("serious", "critical")], found


@needs_browser
def test_a_page_of_feedback_fits_into_390_pixels(course):
    course.grade()
    page = feedback(course.classroom, NAME, "bob").read_text(encoding="utf-8")
    script = "<script>document.title = [innerWidth, document.documentElement.scrollWidth]</script>"
    frame = "<!doctype html><iframe width='390' height='800' src='/inner.html'></iframe>"
    with Site() as site:
        inner = without_policy(page).replace(
            "</body>", script.replace("document.title", "parent.document.title") + "</body>"
        )
        site.pages["/inner.html"] = inner
        document = site.opened(frame)
    width, needed = map(int, re.search(r"<title>(\d+),(\d+)</title>", document).groups())
    assert needed <= width <= 390


def test_the_demonstration_shows_what_a_teacher_meets(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(command, "grade", lambda *args, **more: seen.append(args))
    monkeypatch.setattr(command, "write_page", lambda *args: None)
    monkeypatch.setattr(command, "write_table", lambda *args: None)
    monkeypatch.setattr(command, "stats", lambda *args: None)
    result = kfqn("course", "demo", "--course", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert seen == [("demo", tmp_path / "demo")]
    classroom = Classroom(tmp_path / "demo")
    assert len(classroom.students()) == 12
    sources = list(demo.ANSWERS.values())
    assert len(set(sources)) == len(sources)  # no replacement that replaces nothing
    assert "must be a new folder" in words(kfqn("course", "demo", "--course", tmp_path / "demo"))


def test_a_course_gone_through_twice_is_the_same_and_a_change_touches_its_assignment_only(
    tmp_path, monkeypatch
):
    asked = []

    def passes(desks, path):
        asked.append(path.parts[-3:-1])
        cells = nbformat.read(path, as_version=4).cells
        tests = [grade_id(cell) for cell in cells if is_test(cell)]
        return Graded({}, dict.fromkeys(tests, {"passed": True, "text": ""}))

    monkeypatch.setattr(Desks, "regrade", passes)
    root = tmp_path / "course"
    folders = {"a1_bfgs": HERE, "demo": demo.HERE}
    once = {}
    for _ in range(2):
        for name, sources in folders.items():
            release(Classroom(root), name, sources, fresh_seeds=False, students=())
            place = root / "submitted" / "ada" / name / f"{name}.ipynb"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((root / "release" / name / f"{name}.ipynb").read_bytes())
            option = ["--student", "ada", "--part", "secant", "--points", 1, "--reason", "x"]
            grading = ["grade", name, "--unsafe"]
            for step in (grading, ["override", name, *option], ["feedback", name], ["stats", name]):
                result = kfqn("course", *step, "--course", root)
                assert result.exit_code == 0, result.output
        export = ["export", "--out", root / "grades.csv"]
        assert kfqn("course", *export, "--course", root).exit_code == 0
        files = [path for path in root.rglob("*") if path.is_file()]
        kept = [p for p in files if "gradebook" not in p.name and p.parent.name != "by_hand"]
        now = {path: path.read_bytes() for path in kept}
        assert once in ({}, now)
        once = now
    assert asked == [("ada", "a1_bfgs"), ("ada", "demo")]
    given = Classroom(root).by_hand("demo")
    assert len(given) == 1
    release(Classroom(root), "demo", demo.HERE)  # other hidden examples
    for name in folders:
        assert kfqn("course", "grade", name, "--unsafe", "--course", root).exit_code == 0
    assert asked[2:] == [("ada", "demo")]


def test_the_server_listens_on_this_machine_only_and_says_so(course, monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(command.os, "execv", lambda program, line: started.append(line))
    monkeypatch.chdir(tmp_path)
    said = kfqn("course", "look", "--course", course.classroom.root)
    assert "listens on 127.0.0.1 and asks for the token" in words(said)
    assert "--ServerApp.ip=127.0.0.1" in started[0]
    assert not any("token" in part or "password" in part for part in started[0])
    assert "is no course" in words(kfqn("course", "look", "--course", tmp_path / "nowhere"))
