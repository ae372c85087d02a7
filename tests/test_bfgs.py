"""BFGS: SciPy as an outside oracle, the theorem with the search directions it makes itself, the
error contract.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.linalg import LinAlgError
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import BFGS

import kfqn_ref as ref
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.bfgs import product_form
from kfqn_ref.testing.strategies.kernels import triples
from kfqn_ref.testing.tolerances import FLOAT64

I2 = np.eye(2)


def _scipy(H: np.ndarray, s: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    scale = np.array(H) if len(s) > 1 else float(H[0, 0])
    update = BFGS(
        exception_strategy="skip_update", min_curvature=np.finfo(float).tiny, init_scale=scale
    )  # type: ignore[reportArgumentType]  # scipy's stub lacks matrices
    update.initialize(len(s), kind)
    update.update(np.array(s), np.array(y))
    return update.get_matrix()


def test_by_hand() -> None:
    H = ref.bfgs_inverse_update(I2, np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    assert_array_equal(H, I2)  # I y = s: the pair agrees with I already
    H = ref.bfgs_inverse_update(I2, np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    assert_array_equal(H, np.diag([2.0, 1.0]))
    B = ref.bfgs.bfgs_direct_update(I2, np.array([2.0, 0.0]), np.array([1.0, 0.0]))
    assert_array_equal(B, np.diag([0.5, 1.0]))


@given(triples(FLOAT64))
def test_scipy_updates_the_same_inverse(case: Any) -> None:
    bound = 2 * tol.inverse_update(FLOAT64.u, *case.values())
    assert (
        np.linalg.norm(_scipy(*case.values(), "inv_hess") - ref.bfgs_inverse_update(**case))
        <= bound
    )


@given(triples(FLOAT64))
def test_scipy_updates_the_same_matrix(case: Any) -> None:
    B, s, y = case.values()
    bound = 2 * tol.direct_update(FLOAT64.u, B, s, y)
    assert np.linalg.norm(_scipy(B, s, y, "hess") - ref.bfgs.bfgs_direct_update(B, s, y)) <= bound


@given(triples(FLOAT64))
def test_positive_definite_only_if_curvature_is_positive(case: Any) -> None:
    """With −s in place of s the formula itself gives an indefinite matrix: yᵀH⁺y = −sᵀy < 0. So it
    is refused.
    """
    H, s, y = case.values()
    assert y @ product_form(H, -s, y) @ y < 0
    with pytest.raises(LinAlgError):
        ref.bfgs_inverse_update(H, -s, y)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_its_own_directions_end_on_a_quadratic_after_n_steps(n: int) -> None:
    """H_n = A⁻¹ with the directions −H g that BFGS makes itself and exact line searches, from H =
    I.
    """
    rng = np.random.default_rng(n)
    root = rng.normal(size=(n, n))
    A, g, H = root @ root.T + np.eye(n), rng.normal(size=n), np.eye(n)
    for _ in range(n):
        d = -H @ g
        s = -(g @ d) / (d @ A @ d) * d
        H, g = ref.bfgs_inverse_update(H, s, A @ s), g + A @ s
    # Rounding leaves the directions conjugate to about cond(A) u a step, and each step
    # divides by sᵀy once more.
    assert_allclose(H @ A, np.eye(n), atol=n * tol.cond(A) ** 3 * FLOAT64.u * 100)
    assert np.linalg.norm(g) <= n * tol.cond(A) ** 3 * FLOAT64.u * 100


@pytest.mark.parametrize("s", [[-1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [np.nan, 0.0]])
def test_curvature_is_asked_for(s: list[float]) -> None:
    y = np.array([1.0, 0.0])
    with pytest.raises(LinAlgError, match="sᵀy must be positive"):
        ref.bfgs_inverse_update(I2, np.array(s), y)
    with pytest.raises(LinAlgError, match="sᵀy must be positive"):
        ref.bfgs.bfgs_direct_update(I2, np.array(s), y)


@pytest.mark.parametrize("B", [-I2, 0 * I2])
def test_a_direct_update_needs_a_positive_definite_matrix(B: np.ndarray) -> None:
    with pytest.raises(LinAlgError, match="sᵀBs must be positive"):
        ref.bfgs.bfgs_direct_update(B, np.array([1.0, 0.0]), np.array([1.0, 0.0]))


@pytest.mark.parametrize(
    ("H", "s"),
    [(np.eye(3), np.ones(2)), (I2, np.ones((2, 1))), (I2, [1.0, 1.0]), (np.ones(2), np.ones(2))],
)
def test_shapes_and_kinds_are_refused(H: Any, s: Any) -> None:
    with pytest.raises(TypeError):
        ref.bfgs_inverse_update(H, s, np.ones(2))


def test_an_estimate_is_changed_by_replacement() -> None:
    H = ref.bfgs.DenseInverse(np.eye(2))
    s, y = np.array([2.0, 0.0]), np.array([1.0, 0.0])
    H_plus = H.update(s, y)
    assert_array_equal(H.dense(), I2)
    assert_array_equal(H_plus @ y, s)
    assert_array_equal(H_plus.dense(), np.diag([2.0, 1.0]))
