"""The instructor's page walked: a trial, points given by hand, and what the formgrader may not
do.
"""

import csv
import re
import subprocess
from pathlib import Path

import nbformat
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from traitlets.config.loader import PyFileConfigLoader

from kfqn_ref.course.classroom import Classroom
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.feedback import feedback
from kfqn_ref.course.grade import grade
from kfqn_ref.course.regrade import Graded, is_test
from kfqn_ref.course.release import release
from kfqn_ref.course.sandbox import Limits

from ..command import kfqn, words
from .classes import plain
from .samples import Sample, hand_in


def everything_passes(root: Path, monkeypatch) -> Classroom:
    """A course in which one student's a2 was graded, by a stand-in of the box in which every test
    passes.
    """

    def passes(desks, path):
        cells = nbformat.read(path, as_version=4).cells
        tests = [cell.metadata.nbgrader.grade_id for cell in cells if is_test(cell)]
        return Graded({}, dict.fromkeys(tests, {"passed": True, "text": ""}))

    monkeypatch.setattr(Desks, "regrade", passes)
    classroom = Classroom(root)
    release(classroom, "a2_damping")
    proof = "By the triangle inequality, and so on."
    hand_in(Sample("ada", "a2_damping", 18.0, cells={"proof": proof}), root)
    grade(classroom, "a2_damping", limits=Limits(unsafe=True))
    return classroom


def by_hand(classroom: Classroom, points: float) -> None:
    """What the formgrader does when points are typed into it."""
    with classroom.gradebook() as gradebook:
        given = gradebook.find_grade("proof", "a2_damping", "a2_damping", "ada")
        given.manual_score, given.needs_manual_grade = points, False
        gradebook.db.commit()


def row(classroom: Classroom) -> tuple[str, ...]:
    """Score, maximum and what waits, as the table has them."""
    out = classroom.root / "grades.csv"
    assert kfqn("course", "export", "--course", classroom.root, "--out", out).exit_code == 0
    (line,) = csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    return line["score"], line["max_score"], line["waits_for_hand"]


def test_points_by_hand_come_into_the_page_and_the_table_and_stand_when_graded_again(
    tmp_path, monkeypatch
):
    classroom = everything_passes(tmp_path, monkeypatch)
    page = plain(feedback(classroom, "a2_damping", "ada"))
    assert row(classroom) == ("18", "24", "yes")
    for wanted in (
        "Your result: 18 of 18 points",
        "6 more points are given by a person",
        "proof … / 6",
    ):
        assert wanted in page
    by_hand(classroom, 4.5)
    page = plain(feedback(classroom, "a2_damping", "ada"))
    assert row(classroom) == ("22.5", "24", "")
    assert "Your result: 22.5 of 24 points" in page
    assert "proof 4.5 / 6 by hand" in page
    assert "more points are given by a person" not in page
    grade(classroom, "a2_damping", limits=Limits(unsafe=True))
    assert row(classroom) == (
        "22.5",
        "24",
        "yes",
    )  # the new answer waits to be read, the points stand
    assert "Your result: 22.5 of 24 points" in plain(feedback(classroom, "a2_damping", "ada"))


def test_points_by_hand_do_not_count_while_a_submission_cannot_be_graded_and_are_not_lost(
    tmp_path, monkeypatch
):
    classroom = everything_passes(tmp_path, monkeypatch)
    by_hand(classroom, 4.0)
    path = tmp_path / "submitted" / "ada" / "a2_damping" / "a2_damping.ipynb"
    good = path.read_text(encoding="utf-8")
    for text, wanted in (("no notebook", ("0", "24", "")), (good, ("22", "24", "yes"))):
        path.write_text(text, encoding="utf-8")
        grade(classroom, "a2_damping", limits=Limits(unsafe=True))
        assert row(classroom) == wanted


def test_the_formgrader_finds_nothing_that_it_could_run_without_a_box(tmp_path, monkeypatch):
    classroom = everything_passes(tmp_path / "course", monkeypatch)
    visited = tmp_path / "visited"
    code = f"open({str(visited)!r}, 'w').close()"
    hand_in(Sample("eve", "a2_damping", 0, own=code), classroom.root)
    graded = classroom.root / "autograded" / "ada" / "a2_damping" / "a2_damping.ipynb"
    before = graded.read_bytes()
    config = PyFileConfigLoader("nbgrader_config.py", path=str(classroom.root)).load_config()
    config.CourseDirectory.root = str(classroom.root)
    api = NbGraderAPI(CourseDirectory(config=config), config=config)
    for student in ("ada", "eve"):
        assert not api.autograde("a2_damping", student)["success"]
    assert graded.read_bytes() == before
    assert not visited.exists()


def test_a_course_inside_a_repository_is_not_part_of_it(tmp_path):
    assert kfqn("course", "release", "a1_bfgs", "--course", tmp_path / "course").exit_code == 0
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    command = ["git", "-C", tmp_path, "status", "--porcelain"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == ""


def blocks() -> list[str]:
    """The commands of the instructor's page, without the prompts."""
    page = Path(__file__).parents[2] / "book" / "instructor.md"
    found = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [re.sub(r"(?m)^[$>] ", "", block) for block in found]


def test_the_trial_of_the_instructor_s_page_leaves_no_student_behind(tmp_path):
    (trial,) = (block for block in blocks() if "for who in" in block)
    assert kfqn("course", "release", "a1_bfgs", "--course", tmp_path / "course").exit_code == 0
    before = sorted((tmp_path / "course").rglob("*"))
    shell = 'kfqn() { echo "$@"; find . -path "*submitted/*.ipynb" | sort; }\n' + trial
    said = subprocess.run(
        ["bash", "-ec", shell], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert said.stdout.split() == [
        *"course grade a1_bfgs --course trial --student source --student release".split(),
        *(f"./trial/submitted/{who}/a1_bfgs/a1_bfgs.ipynb" for who in ("release", "source")),
    ]
    assert sorted((tmp_path / "course").rglob("*")) == before
    assert not (tmp_path / "trial").exists()


def test_a_table_or_a_page_that_cannot_be_written_is_one_line_that_names_its_folder(
    tmp_path, monkeypatch
):
    classroom, file = everything_passes(tmp_path / "course", monkeypatch), tmp_path / "file"
    file.write_text("no folder")
    table = kfqn(
        "course", "export", "--course", classroom.root, "--out", file / "deep" / "grades.csv"
    )
    (classroom.root / "feedback").write_text("no folder either")
    page = kfqn("course", "feedback", "a2_damping", "--course", classroom.root)
    for result, folder in ((table, file), (page, classroom.root / "feedback")):
        assert result.exit_code == 2, result.output
        assert f"must be one that can be written, got {folder}" in words(result)
