"""A difficult class: each gets its score, learns its mistake, and touches nothing outside its box.

Minutes long, so `make course-test` runs it and `make test` does not.
"""

import re
import time

import nbformat
import pytest

from .answers import SENTINEL, outside
from .boxes import needs_box
from .classes import Server, grade_all
from .corpus import corpus

pytestmark = [
    pytest.mark.corpus,
    needs_box,
    pytest.mark.timeout(3600),
]  # a busy machine is no failure


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    root = tmp_path_factory.mktemp("course")
    begun = time.monotonic()
    with Server() as server:
        samples = corpus(root, server.port)
        result = grade_all(root, samples)
        return {
            "samples": samples,
            "graded": result,
            "visits": server.visits,
            "seconds": time.monotonic() - begun,
        }


def of(graded):
    """(sample, record, page) of every submission."""
    for sample in graded["samples"]:
        key = sample.student, sample.assignment
        yield sample, graded["graded"].records[key], graded["graded"].pages[key].replace("`", "")


def test_there_are_at_least_forty(tmp_path):
    samples = corpus(tmp_path, 1)
    assert len({(sample.student, sample.assignment) for sample in samples}) == len(samples) >= 40


def test_each_gets_its_score(graded):
    wrong = [
        f"{sample.student} ({sample.assignment}): {record}, wanted {sample.state}, {sample.score:g}"
        for sample, record, _ in of(graded)
        if (record.state, record.score) != (sample.state, sample.score)
    ]
    assert not wrong, "\n".join(wrong)


def test_nine_of_ten_wrong_ones_are_told_their_mistake(graded):
    judged = [
        (sample.student, sample.told in page) for sample, _, page in of(graded) if sample.told
    ]
    missed = [student for student, named in judged if not named]
    print(f"\n{len(judged) - len(missed)} of {len(judged)} mistakes named; missed: {missed}")
    assert len(missed) <= len(judged) / 10


def test_right_ones_are_told_so(graded):
    for sample, _, page in of(graded):
        if not sample.told:
            assert "All tests pass" in page, sample.student


def attempts(graded, student: str) -> list[str]:
    """The lines that a hostile submission printed."""
    path = graded["graded"].classroom.root / "autograded" / student / "a1_bfgs" / "a1_bfgs.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    text = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    return re.findall(r"^ATTEMPT .*$", text, re.MULTILINE)


@pytest.mark.parametrize(("student", "count"), [("writer", 13), ("caller", 4), ("seeker", 1)])
def test_every_attempt_on_the_box_was_made_and_failed(graded, student, count):
    lines = attempts(graded, student)
    assert len(lines) == count, lines
    assert all(" : refused" in line for line in lines), lines


def test_nothing_outside_a_box_was_touched(graded):
    root = graded["graded"].classroom.root
    assert graded["visits"] == 0
    assert not [folder for folder in outside(root) if (folder / SENTINEL).exists()]
    allowed = {"autograded", "feedback", "grades", "release", "source", "submitted"}
    allowed |= {"gradebook.db", "nbgrader_config.py", ".gitignore"}
    allowed |= {f"gradebook.db.{number}" for number in (1, 2, 3)}
    assert {path.name for path in root.iterdir()} <= allowed


def test_seconds_a_submission(graded):
    """Reported, not judged: they measure the machine."""
    seconds = sorted(record.seconds for _, record, _ in of(graded) if record.state == "graded")
    count, middle = len(seconds), seconds[len(seconds) // 2]
    print(
        f"\n{count} graded in {graded['seconds']:.0f} s, two at a time; median {middle:.1f} s each"
    )
