"""Exact laws: the reference is proved, every law rejects something, and a function that cannot be
exact is told why.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flint import fmpq, nmod
from typer.testing import CliRunner

from kfqn_ref import bfgs
from kfqn_ref._typing import formulas_only
from kfqn_ref.cli import app
from kfqn_ref.testing.exact.draws import Draws
from kfqn_ref.testing.exact.laws import EXACT, INEQUALITIES
from kfqn_ref.testing.exact.prove import DEGREE, log2_bound, prove
from kfqn_ref.testing.exact.scalars import (
    PRIME,
    Inexact,
    Scalar,
    array,
    inverse,
    positive_definite,
)
from kfqn_ref.testing.implementation import Implementation, load
from kfqn_ref.testing.variants import SOURCES, variants_of

REFERENCE = load("kfqn_ref.testing.adapters.reference:REFERENCE")
BY_HAND = {
    "cvec": lambda X: X.flatten(),
    "rvec": lambda X: X.T.flatten(),
    "kron": lambda A, G: np.kron(G, A),
    "kron_matvec": lambda A, G, X: G @ X @ A.T * 2,
    "input_factor": lambda a_bar: np.outer(a_bar.mean(axis=(0, 1)), a_bar.mean(axis=(0, 1))),
}
"""Wrong functions beside the generated variants, where none are made or all of them raise."""


def rejects(name: str) -> list[str]:
    """Wrong functions of the law's names that it rejects, as they are met; one is enough."""
    check = EXACT[name]
    for kernel in check.requires:
        known = variants_of(kernel) if kernel in SOURCES else ()
        wrong = {variant.name: variant.function() for variant in known}
        if kernel in BY_HAND:
            wrong["by hand"] = BY_HAND[kernel]
        for label, function in wrong.items():
            names = REFERENCE.functions | {kernel: function}
            if prove(check, Implementation(names)).outcome == "failed":
                return [label]
    return []


@pytest.mark.parametrize("name", EXACT)
def test_the_reference_is_proved(name: str) -> None:
    result = prove(EXACT[name], REFERENCE)
    wanted = "no counterexample" if name in INEQUALITIES else "proved"
    assert result.outcome == wanted, result.note


@pytest.mark.parametrize("name", EXACT)
def test_every_exact_law_rejects_a_wrong_formula(name: str) -> None:
    assert rejects(name)


def test_the_bound_follows_from_degree_and_points() -> None:
    assert log2_bound(1) == -50  # 2^10 / 2^61, rounded up
    for points in (1, 2, 7):
        bound = Fraction(2) ** log2_bound(points)
        assert bound / 2 < Fraction(DEGREE, PRIME) ** points <= bound
    assert log2_bound(2) == -101


def _check(folder: Path, source: str, *options: str) -> Any:
    path = folder / "student.py"
    path.write_text(source, encoding="utf-8")
    return CliRunner().invoke(app, ["check", str(path), "--exact", "--only", "exact", *options])


TEXTBOOK = """
import numpy as np

def bfgs_inverse_update(H, s, y):
    {guard}
    V = np.eye(len(s)) - np.outer(y, s) / (s @ y)
    return V.T @ H @ V + np.outer(s, s) / (s @ y)
"""


def test_a_textbook_form_is_proved_in_the_field(tmp_path: Path) -> None:
    result = _check(tmp_path, TEXTBOOK.format(guard=""))
    assert result.exit_code == 0, result.output
    assert "proved        exact.bfgs_secant (up to probability 2^" in result.output
    assert "in the field of 2^61 − 1 elements" in result.output
    assert "no counterexample in 100 draws of exact rationals" in result.output


def test_a_guard_leads_to_the_rationals(tmp_path: Path) -> None:
    guard = "if not s @ y > 0: raise ValueError('no curvature')"
    result = _check(tmp_path, TEXTBOOK.format(guard=guard))
    assert result.exit_code == 0, result.output
    assert "2^-101 in exact rationals" in result.output
    assert "in the field" not in result.output


def test_forced_floats_are_told(tmp_path: Path) -> None:
    result = _check(tmp_path, TEXTBOOK.format(guard="H = np.asarray(H, dtype=float)"))
    assert result.exit_code == 0, result.output
    assert "floats only   exact.bfgs_secant (not exact: it converts to float64)" in result.output


def test_a_wrong_form_is_refused_with_small_numbers(tmp_path: Path) -> None:
    wrong = TEXTBOOK.format(guard="").replace("np.eye(len(s)) -", "np.eye(len(s)) +")
    result = _check(tmp_path, wrong, "--junit", str(tmp_path / "r.xml"))
    assert result.exit_code == 1
    assert "failed        exact.bfgs_secant" in result.output
    assert "H =          [" in result.output
    assert 'failures="' in (tmp_path / "r.xml").read_text(encoding="utf-8")


def test_an_error_of_one_part_in_2_to_the_60_is_found() -> None:
    def slightly(H: Any, s: Any, y: Any) -> Any:
        V = np.eye(len(s)) - np.outer(y, s) / (s @ y)
        return V.T @ H @ V + np.outer(s, s) / (s @ y) * (1 + Scalar(fmpq(1, 2**60)))

    result = prove(EXACT["exact.bfgs_secant"], Implementation({"bfgs_inverse_update": slightly}))
    assert result.outcome == "failed"


@pytest.mark.parametrize("kind", ["field", "rationals"])
def test_numpy_meets_scalars(kind: str) -> None:
    draws = Draws(kind, 0)
    A, x = draws.spd("A", 3), draws.matrix("x", 3)
    assert (np.linalg.solve(A, A @ x) == x).all()
    assert (np.linalg.inv(np.triu(A)) @ np.triu(A) == np.eye(3)).all()
    assert (inverse(A) @ A == np.eye(3)).all()
    assert np.trace(0.5 * (A + A)) == A.trace()
    for operation in (float, np.sqrt, lambda X: np.asarray(X, dtype=float)):
        with pytest.raises((Inexact, TypeError)):
            operation(x[0])


def test_a_float_is_the_fraction_that_it_stands_for() -> None:
    third = Scalar(fmpq(1, 3))
    assert third + 0.5 == Scalar(fmpq(5, 6))
    assert third * 0.1 != Scalar(fmpq(1, 30))
    assert Scalar(nmod(3, PRIME)) * 0.5 * 2 == 3
    with pytest.raises(Inexact):
        third + float("nan")
    with pytest.raises(Inexact, match="no order"):
        assert Scalar(nmod(3, PRIME)) < 4


def test_positive_definiteness_is_decided_at_the_border() -> None:
    def matrix(corner: Any) -> Any:
        return array([fmpq(1), fmpq(1), fmpq(1), corner], (2, 2))

    assert positive_definite(matrix(fmpq(2**80 + 1, 2**80)))
    assert not positive_definite(matrix(fmpq(1)))
    assert not positive_definite(matrix(fmpq(2**80 - 1, 2**80)))


def test_guards_are_back_after_the_formulas() -> None:
    s = np.array([1.0])
    with formulas_only():
        assert bfgs.bfgs_inverse_update(np.eye(1), s, -s).shape == (1, 1)
    with pytest.raises(ValueError, match="matmul"), formulas_only():
        bfgs.bfgs_inverse_update(np.eye(2), s, s)
    with pytest.raises(np.linalg.LinAlgError):
        bfgs.bfgs_inverse_update(np.eye(1), s, -s)
    with pytest.raises(TypeError):
        bfgs.bfgs_inverse_update(np.eye(1).astype(object), s, s)
