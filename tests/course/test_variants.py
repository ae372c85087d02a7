"""A variant for each student: other words, the same laws, and no solution in any hand-out."""

import json
from collections import Counter

import nbformat
import numpy as np
import pytest

from kfqn_ref import bfgs_inverse_update
from kfqn_ref.course import demo
from kfqn_ref.course.classroom import Classroom, CourseError
from kfqn_ref.course.prepare import prepare
from kfqn_ref.course.regrade import grade_id, is_test
from kfqn_ref.course.release import available, master_notebook, release, solutions
from kfqn_ref.course.variants import choices, deal, in_words, told

from ..command import kfqn, words
from .test_release import run

NAME = demo.NAME
MASTER = master_notebook(available(demo.HERE)[NAME])
CLASS = [f"student-{number}" for number in range(13)]
SECRETS = ("BEGIN SOLUTION", "HIDDEN TESTS", "seed=", "left @ H", "vary")


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Classroom:
    """A course in which everybody has a variant."""
    classroom = Classroom(tmp_path_factory.mktemp("course"))
    release(classroom, NAME, demo.HERE, students=CLASS)
    return classroom


def hand_out(course, student):
    path = course.root / "release" / f"{NAME}-for" / student / NAME / f"{NAME}.ipynb"
    return nbformat.read(path, as_version=4)


def test_words_are_replaced_whole_and_all_at_once():
    swap = {"a": "b", "b": "a", "2.5": "1.5"}
    assert in_words("a b ab 2.5 12.5 2.55 b.a", swap) == "b a ab 1.5 12.5 2.55 a.a"


def test_variants_are_dealt_evenly_and_who_has_one_keeps_it(course):
    count = Counter(json.dumps(each, sort_keys=True) for each in course.words(NAME).values())
    most = len(choices(MASTER)["learned"]) * len(choices(MASTER)["2.5"])
    assert len(count) == most
    assert sorted(count.values()) == [1] * (most - 1) + [2]
    before = course.words(NAME)
    after = deal(course, NAME, [*CLASS, "late"])
    assert {student: after[student] for student in CLASS} == before
    assert after["late"] in before.values()
    course.keep_words(NAME, before | {"student-0": {"learned": "a word of last year"}})
    assert deal(course, NAME, CLASS)["student-0"] in before.values()
    course.keep_words(NAME, before)


def test_the_hand_outs_differ_in_their_words_alone(course):
    dealt = course.words(NAME)
    for student in CLASS:
        text = "\n".join(cell.source for cell in hand_out(course, student).cells)
        assert dealt[student]["learned"] in text
        assert dealt[student]["2.5"] in text
        for other in choices(MASTER)["learned"]:
            assert (other in text) == (other == dealt[student]["learned"])


def test_no_file_that_is_handed_out_has_a_solution_or_what_others_are_asked(course):
    pages = solutions(course, NAME)
    files = [path for path in (course.root / "release").rglob("*") if path.is_file()]
    assert len(files) == len(CLASS) + 1
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [secret for secret in SECRETS if secret in text], path
    assert {page.stem for page in pages} == set(CLASS)
    assert {page.parent for page in pages} == {course.root / "solutions" / NAME}
    page = (course.root / "solutions" / NAME / "student-3.html").read_text(encoding="utf-8")
    assert course.words(NAME)["student-3"]["learned"] in page
    assert "HIDDEN TESTS" in page


VARIANTS = [
    {"learned": "learned", "2.5": "2.5"},
    {"learned": "refined", "2.5": "1.5"},
    {"learned": "revised", "2.5": "3.5"},
]


def defined(notebook, answer):
    """What the tests of a variant call, and the function of an answer under its own name."""
    namespace: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and not is_test(cell):
            exec(answer if grade_id(cell) == "learned" else cell.source, namespace)
    return namespace["update"]


def solution(notebook):
    return next(cell.source for cell in notebook.cells if grade_id(cell) == "learned")


@pytest.mark.parametrize("own", VARIANTS, ids=lambda own: own["learned"])
def test_the_solution_of_a_variant_is_right_there_and_wrong_elsewhere(own):
    case = np.diag([2.0, 1.0]), np.array([1.0, 2.0]), np.array([3.0, 1.0])
    right = bfgs_inverse_update(*case)
    for other in VARIANTS:
        # even where the name is put right
        answer = in_words(solution(told(MASTER, other)), {other["learned"]: own["learned"]})
        given = defined(told(MASTER, own), answer)(*case)
        assert np.allclose(given, right, rtol=1e-12) == (other == own)


def test_the_solution_of_a_variant_earns_everything():
    assert not any(run(told(MASTER, VARIANTS[1])).values())


def test_a_submission_is_held_to_its_own_variant_and_a_foreign_name_is_noted(course, tmp_path):
    names = {student: each["learned"] for student, each in course.words(NAME).items()}
    first = CLASS[0]
    other = next(student for student in CLASS if names[student] != names[first])
    for student in (first, other):
        folder = course.root / "submitted" / student / NAME
        folder.mkdir(parents=True)
        notebook = nbformat.writes(hand_out(course, first))  # the second hands in the first's
        (folder / f"{NAME}.ipynb").write_text(notebook, encoding="utf-8")
    made = {}
    for student in (first, other):
        path = prepare(course, NAME, student, MASTER, tmp_path) / f"{NAME}.ipynb"
        made[student] = nbformat.read(path, as_version=4)
        asked = made[student].metadata["kfqn"]["words"]
        assert asked == course.words(NAME)[student]
        sources = {grade_id(cell): cell.source for cell in told(MASTER, asked).cells}
        locked = [cell for cell in made[student].cells if grade_id(cell) not in ("", "learned")]
        assert len(locked) == 5
        assert all(cell.source == sources[grade_id(cell)] for cell in locked)
    assert made[first].metadata["kfqn"]["notes"] == []
    notes = " ".join(made[other].metadata["kfqn"]["notes"])
    assert names[first] + " stands in this notebook" in notes


def test_another_variant_is_another_question(course):
    before = course.words(NAME)
    key = course.key(NAME, "student-1")
    assert course.key(NAME, "student-1") == key
    course.keep_words(NAME, before | {"student-1": before["student-2"]})
    assert course.key(NAME, "student-1") != key
    course.keep_words(NAME, before)


WRONG = [
    ({"learned": ["learned"]}, "other words in its place"),
    ({"learned": ["refined", "renewed"]}, "must list learned"),
    ({"nowhere": ["nowhere", "else"]}, "got nowhere, which is not there"),
]


@pytest.mark.parametrize(("vary", "said"), WRONG)
def test_a_header_that_varies_nothing_is_refused(vary, said):
    notebook = told(MASTER, {})
    notebook.metadata["kfqn"] = {"vary": vary}
    with pytest.raises(CourseError, match=said):
        choices(notebook)


FILES = [
    ("", "has none"),
    ("a*\n", "must not have any of"),
    ("../ada\n", "must be the name of a folder"),
    ("..\n", "must be the name of a folder"),
    (None, "must be a file with a name a line"),
]


@pytest.mark.parametrize(("text", "said"), FILES)
def test_a_list_of_students_that_is_none_is_one_sentence(tmp_path, text, said):
    names = tmp_path / "names"
    if text is not None:
        names.write_text(text, encoding="utf-8")
    root = tmp_path / "course"
    line = ["course", "release", NAME, "--sources", demo.HERE, "--course", root]
    result = kfqn(*line, "--per-student", names)
    assert result.exit_code == 2
    assert said in words(result)
    assert not (root / "release" / f"{NAME}-for").exists()


def test_by_the_commands(tmp_path):
    (tmp_path / "names").write_text("ada\n\n bob \n", encoding="utf-8")
    root = tmp_path / "course"
    line = ["course", "release", NAME, "--sources", demo.HERE, "--course", root]
    assert kfqn(*line, "--per-student", tmp_path / "names").exit_code == 0
    assert sorted(path.name for path in (root / "release" / f"{NAME}-for").iterdir()) == [
        "ada",
        "bob",
    ]
    said = words(kfqn("course", "solutions", NAME, "--course", root))
    assert "wrote 2 pages" in said
    assert "do not hand them out" in said
    plain = kfqn(
        "course", "release", "a1_bfgs", "--course", root, "--per-student", tmp_path / "names"
    )
    assert "has no variants" in words(plain)
