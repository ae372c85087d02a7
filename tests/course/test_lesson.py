"""What a student reads: law, example, likeliest mistake; and answers that no law should accept."""

import re

import numpy as np
import pytest
from numpy.linalg import LinAlgError

import kfqn_ref
from kfqn_ref.course.lesson import LawBroken, Watch, laws, raises, untampered
from kfqn_ref.course.tasks import TASKS
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.mutants import MUTANTS

from .samples import cell_of


def told(namespace: dict, *names: str, **options: object) -> str:
    with pytest.raises(LawBroken) as broken:
        laws(namespace, *names, **options)
    return str(broken.value)


def test_a_right_function_passes_and_says_so(capsys):
    laws(reference.names(), "bfgs.secant", "lbfgs.two_loop", examples=20)
    assert capsys.readouterr().out == "✓ bfgs.secant, lbfgs.two_loop\n"


def test_a_failure_shows_law_example_both_sides_mistake_and_chapter():
    text = told(
        {"bfgs_inverse_update": MUTANTS["bfgs_inverse_update:transposed"].function}, "bfgs.secant"
    )
    check = REGISTRY["bfgs.secant"]
    for wanted in (
        check.words,
        check.formula,
        "H =",
        "s =",
        "y =",
        "violation",
        "BFGS on an inverse",
    ):
        assert wanted in text
    assert "Likeliest mistake: the transposed factor" in text


# A law and a mistake for some functions of the assignments; those of the optimizer take seconds.
CASES = [
    ("bfgs.secant", "bfgs_inverse_update:without_step"),
    ("bfgs.direct_formula", "bfgs_direct_update:direct_sign"),
    ("damping.powell_formula", "powell_damp:sign"),
    ("damping.dp_dlm_composition", "dp_dlm_damp:undamped_step"),
    ("lbfgs.two_loop", "lbfgs_two_loop:one_direction"),
    ("kron.cvec_order", "cvec:rows"),
]


@pytest.mark.parametrize(("law", "mutant"), CASES)
def test_a_known_mistake_is_named(law, mutant):
    text = told({MUTANTS[mutant].replaces: MUTANTS[mutant].function}, law)
    assert MUTANTS[mutant].mistake in text


SIGN_IN_THETA = """\
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    theta = 1.0 if s @ y >= mu1 * (y @ Hy) else (1 - mu1) * (y @ Hy) / (y @ Hy + s @ y)
    return theta * s + (1 - theta) * Hy
"""


def test_a_mistake_that_divides_by_zero_is_named_all_the_same():
    exec(SIGN_IN_THETA, namespace := {})
    with np.errstate(divide="ignore"):
        text = told(namespace, "damping.powell_formula")
    assert "-inf" in text
    assert "Likeliest mistake: sign in θ" in text


TABLES = [
    (
        "bfgs.positive_definite",
        {"bfgs_inverse_update": lambda H, s, y: 0 * H},
    ),  # a label of 20 signs
    (
        "damping.dp_dlm_step_bound",
        {"dp_dlm_damp": lambda H, s, y, *, mu1, lam: (s, -y)},
    ),  # s̃ is one wide
]


@pytest.mark.parametrize(("law", "namespace"), TABLES)
def test_a_failure_is_two_columns_narrow_enough_for_a_page(law, namespace):
    text = re.sub("[\u0300-\u036f]", "", told(namespace, law))
    assert max(map(len, text.splitlines())) <= 100
    rows = text.split("\n\n")[1].splitlines()
    start = rows[0].index(REGISTRY[law].words.split()[0])
    assert len(rows) > 6
    for row in rows:
        assert row[start - 1] == " "
        assert row[start] != " "


def test_a_stub_and_a_missing_function_are_called_that():
    def lm_damp(s, y, *, lam):
        raise NotImplementedError

    assert "lm_damp is still the stub" in told({"lm_damp": lm_damp}, "damping.lm_formula")
    assert "lm_damp is not defined yet" in told({}, "damping.lm_formula")


def test_printing_is_not_returning():
    assert "a `return` is missing" in told(
        {"lm_damp": lambda s, y, *, lam: None}, "damping.lm_formula"
    )


def test_writing_into_an_argument_is_named():
    def lm_damp(s, y, *, lam):
        y += lam * s
        return y

    assert "writes into its argument" in told({"lm_damp": lm_damp}, "damping.lm_formula")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda H, s, y: H, "one of its arguments back"),
        (lambda H, s, y: np.eye(1), "the same answer"),
    ],
)
def test_an_answer_that_ignores_the_question_passes_no_law(answer, reason):
    """Symmetry alone would accept both."""
    assert reason in told({"bfgs_inverse_update": answer}, "bfgs.symmetry")


def test_an_argument_given_back_is_held_against_nobody_where_it_is_the_right_answer():
    """Where no damping is needed, s̃ is s itself: this law draws no other cases."""
    laws({"powell_damp": kfqn_ref.powell_damp}, "damping.powell_keeps")


def test_lambda_for_its_root_is_named_though_the_first_matrix_is_given():
    solution = cell_of("a6_step", "pairs") + "\n" + cell_of("a6_step", "kfqn_step")
    namespace: dict = {}
    exec(
        cell_of("a6_step", "setup") + "\n" + solution.replace("np.sqrt(damping)", "damping"),
        namespace,
    )
    assert "Likeliest mistake: λ instead of √λ" in told(namespace, "step.input_update", examples=10)


def test_answers_made_for_the_visible_examples_are_called_that():
    seen = []

    def remember(H, s, y):
        seen.append((H, s, y))
        return kfqn_ref.bfgs_inverse_update(H, s, y)

    laws({"bfgs_inverse_update": remember}, "bfgs.secant", examples=20)

    def known(H, s, y):
        hit = any(all(map(np.array_equal, case, (H, s, y))) for case in seen)
        return kfqn_ref.bfgs_inverse_update(H, s, y) if hit else 2.0 * H

    laws({"bfgs_inverse_update": known}, "bfgs.secant", examples=20)
    text = told({"bfgs_inverse_update": known}, "bfgs.secant", examples=20, seed=7)
    assert "made for the examples that you see" in text


def test_raises_states_a_refusal():
    raises(LinAlgError, kfqn_ref.bfgs_inverse_update, np.eye(1), np.ones(1), -np.ones(1))
    with pytest.raises(LawBroken, match="must raise LinAlgError, got the result"):
        raises(LinAlgError, lambda H, s, y: H, np.eye(1), np.ones(1), -np.ones(1))
    with pytest.raises(LawBroken, match="must raise LinAlgError, got ValueError: no"):
        raises(LinAlgError, _refuses_otherwise, np.eye(1))


def _refuses_otherwise(H):
    raise ValueError("no")


def yes(*args, **kwargs):
    return True


@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [
        (np, "allclose", yes),
        (np, "isclose", yes),
        (np, "array_equal", yes),
        (np.testing, "assert_allclose", yes),
        (np.linalg, "norm", lambda x, *args: 0.0),
        (np, "abs", lambda x: 0.0 * x),
    ],
)
def test_the_canary_sees_a_replaced_comparison(monkeypatch, owner, name, replacement):
    untampered()
    monkeypatch.setattr(owner, name, replacement)
    with pytest.raises(LawBroken, match=f"{name}.*replaced"):
        untampered()


def _lonely_wrong(name):
    """SUD and SH fail together, whatever is asked."""
    a_bar, Hh = np.array([[[1.0], [2.0]]]), np.zeros((1, 2, 1, 2, 1))
    Hh[0, :, 0, :, 0] = [[1.0, 0.5], [0.5, 3.0]]
    return a_bar, Hh


def _other_step(network, params, blocks, x, target, **options):
    """A step along the gradient that spoils both estimates."""
    grads = kfqn_ref.forward_backward(network, params, x, target).grads
    new = tuple(W - 0.1 * g for W, g in zip(params, grads, strict=True))
    return new, tuple(block._replace(H_a=-block.H_a, H_g=block.H_g + 1) for block in blocks)


def _one_error(a_bar, Hh):
    return dict.fromkeys(("SUD", "IAD", "SH", "total"), 0.1)


def _wrong(law):
    """A function that the law must reject."""
    if law.startswith("step."):
        return {"kfqn_step": _other_step}
    if law.startswith("assumptions."):
        return {"lonely_failure": _lonely_wrong, "assumption_errors": _one_error}
    if law == "lemma.attained":
        return {"worst_pair": lambda H: (np.ones(len(H)), np.ones(len(H)))}
    return {"inverse_from_products": lambda multiply, n: [np.eye(n)] * n}


@pytest.mark.parametrize("name", TASKS)
def test_every_law_of_an_assignment_rejects_something(name):
    told(_wrong(name), name)


@pytest.mark.parametrize(("known", "refused"), [(0, True), (1, True), (20, False)])
def test_an_echo_with_a_table_of_answers_is_an_empty_answer(known, refused):
    """Found by the difficult class: one visible case came again, and giving H back had the
    points.
    """
    rng = np.random.default_rng(0)
    cases = [
        (np.diag(rng.uniform(1, 2, 3)), rng.uniform(1, 2, 3), rng.uniform(1, 2, 3))
        for _ in range(40)
    ]
    table = {repr(case): kfqn_ref.bfgs_inverse_update(*case) for case in cases[:known]}
    watch = Watch("bfgs", lambda *case: table.get(repr(case), case[0]), "bfgs_inverse_update")
    for case in cases:
        watch(*case)
    assert ("one of its arguments" in watch.empty_answer()) is refused


def test_an_argument_given_back_itself_is_a_right_answer_where_it_is_right():
    def powell_damp(H, s, y, *, mu1=0.2):
        damped = kfqn_ref.powell_damp(H, s, y, mu1=mu1)
        return s if np.array_equal(damped, s) else damped

    laws({"powell_damp": powell_damp}, "damping.powell_keeps", "damping.powell_formula")


def test_a_right_answer_that_is_an_argument_is_not_empty():
    watch = Watch("damp", kfqn_ref.powell_damp, "powell_damp")
    for k in range(40):  # sᵀy >= μ₁ yᵀHy: s itself is right
        watch(np.eye(2), np.array([1.0, k]), np.array([1.0, k]))
    assert not watch.empty_answer()
