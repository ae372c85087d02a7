"""The mistake is named: what is said of wrong functions, and that right ones are left alone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.linalg import LinAlgError

from kfqn_ref.course.diagnosis import Finding, diagnose, engine, missed_refusal, models
from kfqn_ref.course.diagnosis.compare import answer, close
from kfqn_ref.course.diagnosis.edits import variants
from kfqn_ref.course.diagnosis.inputs import DRAWN, calls
from kfqn_ref.course.diagnosis.special import SPECIAL
from kfqn_ref.course.diagnosis.words import math
from kfqn_ref.course.lesson import LawBroken, laws
from kfqn_ref.course.regrade import is_solution
from kfqn_ref.testing.adapters import reference

from . import answers
from .samples import MASTERS, grade_id
from .wrong_answers import HELPERS, WRONG, Wrong

MEASURED = Path(__file__).with_name("diagnosed.json")


def notebook_of(assignment: str) -> dict:
    """What a notebook with the right answers defines."""
    namespace: dict = {}
    for cell in MASTERS[assignment].cells:
        wanted = grade_id(cell) == "setup" or (is_solution(cell) and grade_id(cell) != "picture")
        if cell.cell_type == "code" and wanted:
            exec(cell.source, namespace)
    return namespace


def told(wrong: Wrong) -> Finding:
    namespace = notebook_of(wrong.assignment)
    exec(HELPERS + wrong.source, namespace)
    return diagnose(wrong.function, namespace)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.id)
def test_a_mistake_gets_the_right_reason_or_the_right_region(wrong):
    found = told(wrong)
    text = found.reason or found.region
    assert re.search(wrong.told, text), text


def test_a_search_ends_by_what_it_computed_and_then_the_region_is_said(monkeypatch):
    """Room for one place is enough for the first variant, and for no other."""
    (wrong,) = (wrong for wrong in WRONG if wrong.id == "kfqn_step-lambda-not-root-on-both-sides")
    monkeypatch.setattr(engine, "_FOUND", {})
    assert told(wrong).reason
    monkeypatch.setattr(engine, "_FOUND", {})
    search = engine.Search
    monkeypatch.setattr(engine, "Search", lambda trial, order: search(trial, order, left=1))
    found = told(wrong)
    assert not found.reason
    assert found.region


def test_the_table_of_what_is_said_has_every_submission():
    table = json.loads(MEASURED.read_text(encoding="utf-8"))
    assert list(table) == [wrong.id for wrong in WRONG]
    assert all(re.search(wrong.told, table[wrong.id]) for wrong in WRONG)


def test_all_assignments_and_nearly_all_functions_are_tried():
    assert {wrong.assignment for wrong in WRONG} == set(MASTERS)
    assert {wrong.function for wrong in WRONG} == {*DRAWN, *SPECIAL}


# ---- right functions


@pytest.mark.parametrize("assignment", MASTERS)
def test_nothing_is_said_of_a_right_function(assignment):
    namespace = notebook_of(assignment)
    names = [name for name in namespace if name in DRAWN or name in SPECIAL]
    assert names
    for name in names:
        assert diagnose(name, namespace) == Finding("", ""), name


@pytest.mark.parametrize("source", [answers.RANK_TWO, answers.LOOPS, answers.HELPERS])
def test_nothing_is_said_of_a_right_function_in_another_form(source):
    namespace: dict = {"np": np, "LinAlgError": LinAlgError}
    exec(source, namespace)
    assert diagnose("bfgs_inverse_update", namespace) == Finding("", "")


def test_a_list_where_an_array_is_usual_is_no_mistake():
    namespace = {"lm_damp": lambda s, y, *, lam: [a + lam * b for a, b in zip(y, s, strict=True)]}
    assert diagnose("lm_damp", namespace) == Finding("", "")


FORMS = [
    ("a1_bfgs", "bfgs_direct_update", lambda matrix: matrix.tolist()),
    ("a1_bfgs", "inverse_from_products", lambda history: (H for H in history)),
    ("a2_damping", "dp_dlm_damp", np.array),
    ("a3_lbfgs", "lbfgs_push", lambda pairs: [part.tolist() for part in pairs]),
    ("a5_action", "input_pair", tuple),
    ("a6_step", "kfqn_step", lambda step: [list(step[0]), [tuple(block) for block in step[1]]]),
    ("a7_assumptions", "assumption_errors", lambda d: {key: np.array(d[key]) for key in d}),
    ("a7_assumptions", "lonely_failure", lambda pair: [part.tolist() for part in pair]),
]


@pytest.mark.parametrize(("assignment", "name", "form"), FORMS)
def test_the_form_of_a_right_answer_is_no_mistake(assignment, name, form):
    namespace = notebook_of(assignment)
    right = namespace[name]
    namespace[name] = lambda *args, **kwargs: form(right(*args, **kwargs))
    assert diagnose(name, namespace) == Finding("", "")


# ---- the search


@pytest.mark.parametrize("name", DRAWN)
def test_every_form_of_a_model_is_the_reference_s_function_and_so_is_its_marked_one(name):
    right = reference.names().get(name, getattr(models, name))
    for form in variants(name):
        for args, kwargs in calls(name):
            wanted = answer(right, args, kwargs)
            assert close(answer(getattr(models, form.name), args, kwargs), wanted), form.name
            assert close(form.run((), args, kwargs), wanted), form.name


@pytest.mark.parametrize("name", DRAWN)
def test_the_smallest_example_comes_first_and_has_whole_numbers(name):
    args, _ = calls(name)[0]
    arrays = [part for part in args if isinstance(part, np.ndarray)]
    cases = [[p for p in call[0] if isinstance(p, np.ndarray)] for call in calls(name)[:12]]
    sizes = [sum(part.size for part in case) for case in cases]
    assert sizes[0] <= 2.5 * min(sizes)
    assert all(np.array_equal(2 * part, np.round(2 * part)) for part in arrays)


def test_a_reason_needs_agreement_on_every_case_tried():
    """Right for n < 3: no edit agrees with that in all cases, and none is named."""

    def lm_damp(s, y, *, lam):
        return y - lam * s if len(s) >= 3 else y + lam * s

    found = diagnose("lm_damp", {"lm_damp": lm_damp})
    assert not found.reason
    assert "n ≥ 3" in found.region


def test_an_error_that_any_broken_code_raises_is_no_reason():
    def kron_matvec(A, G, X):
        raise ValueError("shapes")

    found = diagnose("kron_matvec", {"kron_matvec": kron_matvec})
    assert not found.reason
    assert "stops there with ValueError" in found.region


def test_what_follows_from_another_function_is_said_to():
    namespace = notebook_of("a2_damping")
    namespace["powell_damp"] = lambda H, s, y, *, mu1=0.2: s + y
    assert "follows from powell_damp" in diagnose("dp_dlm_damp", namespace).reason
    assert diagnose("lm_damp", namespace) == Finding("", "")


def test_a_write_into_an_argument_is_named():
    def lm_damp(s, y, *, lam):
        y += lam * s
        return y

    assert "writes into its argument" in diagnose("lm_damp", {"lm_damp": lm_damp}).reason


def test_a_write_that_the_box_forbids_is_the_same_mistake():
    def lm_damp(s, y, *, lam):
        y.setflags(write=False)  # as arrays are in the box
        y += lam * s
        return y

    assert "writes into its argument" in diagnose("lm_damp", {"lm_damp": lm_damp}).reason


def test_two_mistakes_are_named_together():
    source = "def lm_damp(s, y, *, lam):\n    return -y + lam ** 2 * s\n"
    exec(source, namespace := {})
    reason = diagnose("lm_damp", namespace).reason
    assert "a sign: λ s − y stands where y + λ s belongs" in reason
    assert "a square: y + λ^2 s stands where y + λ s belongs" in reason


REFUSALS = [
    ("False", "every pair is accepted"),
    ("not s @ y >= 0", "accepts sᵀy = 0"),
    ("s @ y <= 0", "NaN passes"),
    ("not s @ y > 0", ""),
]


@pytest.mark.parametrize(("test", "words"), REFUSALS)
def test_a_missing_refusal_says_what_is_accepted(test, words):
    exec(f"def f(H, s, y):\n    if {test}:\n        raise ValueError\n    return H", space := {})
    text = missed_refusal("bfgs_inverse_update", space["f"])
    assert words in text if words else not text


def test_the_solution_of_a_puzzle_is_not_shown():
    for form in variants("inverse_from_products"):
        for edit in form.edits:
            assert "stands where" not in form.words(edit)


def test_expressions_read_as_in_the_book():
    import ast

    for source, wanted in {
        "rho * outer(s, Hy)": "ρ s (H y)ᵀ",
        "y @ H @ y": "yᵀH y",
        "V.T @ H @ V": "Vᵀ H V",
        "a - (b + c)": "a − (b + c)",
        "(1 - mu1) * yHy / (yHy - sy)": "(1 − mu1) yᵀH y / (yᵀH y − sᵀy)",
        "root(damping)": "√λ",
    }.items():
        assert math(ast.parse(source, mode="eval").body) == wanted


def test_a_failed_law_shows_reason_formula_and_a_case_by_hand():
    namespace = notebook_of("a2_damping")
    source = "def lm_damp(s, y, *, lam):\n    return y - lam * s\n"
    exec(source, namespace)
    with pytest.raises(LawBroken) as broken:
        laws(namespace, "damping.lm_formula")
    text = " ".join(str(broken.value).split())
    assert "(It gives the same numbers as yours.)" in text
    assert re.search(r"By hand: lm_damp\(s = \[\d\], y = \[-?\d\], lam = \d", text)
    assert "book/damping.md" in text


def test_a_function_among_the_arguments_is_shown_by_what_it_does():
    namespace = notebook_of("a1_bfgs")
    right = namespace["inverse_from_products"]
    namespace["inverse_from_products"] = lambda multiply, n: [2 * H for H in right(multiply, n)]
    with pytest.raises(LawBroken) as broken:
        laws(namespace, "secants.inverse")
    text = " ".join(str(broken.value).split())
    assert re.search(r"By hand: inverse_from_products\(multiply = v ↦ A v with A = \[\[", text)
    assert " at 0x" not in text


if __name__ == "__main__":  # write the table anew
    table = {}
    for each in WRONG:
        finding = told(each)
        table[each.id] = finding.reason or finding.region
    MEASURED.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
