"""Damping: numbers by hand, SciPy as an outside oracle, the error contract. The laws are in
test_conformance.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import LinAlgError
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import BFGS

import kfqn_ref as ref
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.strategies.kernels import damping_cases, triples
from kfqn_ref.testing.tolerances import FLOAT64

I2 = np.eye(2)
S, Y = np.array([-1.0, 0.0]), np.array([1.0, 0.0])


def test_powell_by_hand() -> None:
    # sᵀy = −1, yᵀHy = 1, θ = 0.8 / 2 = 0.4, s̃ = −0.4 + 0.6 = 0.2 = mu1 yᵀHy
    assert ref.powell_theta(I2, S, Y) == pytest.approx(0.4, abs=0, rel=4e-16)
    assert_allclose(ref.powell_damp(I2, S, Y), [0.2, 0.0], rtol=4e-16)


def test_identity_by_hand() -> None:
    # s̃ᵀy = −1, s̃ᵀs̃ = 1, mu2 = 0.5: θ = 0.5 / 2 = 0.25, ỹ = 0.25 − 0.75 = −0.5
    assert_array_equal(ref.damping.identity_damp(S, Y, mu2=0.5), [-0.5, 0.0])


def test_lm_by_hand() -> None:
    assert_array_equal(ref.lm_damp(S, Y, lam=0.25), [0.75, 0.0])


def test_pairs_by_hand() -> None:
    s, y = ref.dp_dlm_damp(I2, S, Y, lam=0.5)
    assert_allclose(s, [0.2, 0.0], rtol=4e-16)
    assert_allclose(y, [1.1, 0.0], rtol=4e-16)
    s, y = ref.damping.double_damp(I2, S, Y, mu2=0.5)
    assert_allclose(s, [0.2, 0.0], rtol=4e-16)
    assert_array_equal(y, [1.0, 0.0])  # s̃ᵀy = 0.2 > 0.5 · 0.04: the second damping keeps y
    # (9.1) with gamma = 0.5: gamma yᵀy = 0.5, θ = 0.4 / 1.5, and s̃ᵀy = mu1 gamma yᵀy = 0.1
    s, y = ref.damping.h0_damp(S, Y, gamma=0.5, lam=0.5)
    assert_allclose(s, [0.1, 0.0], rtol=1e-15)
    assert_allclose(y, [1.05, 0.0], rtol=4e-16)


@given(damping_cases(FLOAT64))
def test_scipy_damps_the_same(case: Any) -> None:
    H, s, y, mu1 = case["H"], case["s"], case["y"], case["mu1"]
    if not s.any():
        return  # SciPy leaves H as it is for a step of zero
    n = len(s)
    update = BFGS(
        exception_strategy="damp_update",
        min_curvature=mu1,
        init_scale=np.array(H) if n > 1 else float(H[0, 0]),  # type: ignore[reportArgumentType]  # scipy's stub lacks matrices
    )
    update.initialize(n, "inv_hess")
    update.update(np.array(s), np.array(y))
    s_tilde = ref.powell_damp(H, s, y, mu1=mu1)
    # Both updates start from H, so the two H⁺ differ by rounding and by the two s̃.
    bound = 2 * tol.inverse_update(FLOAT64.u, H, s_tilde, y)
    bound += tol.update_change(H, s_tilde, y, tol.powell(FLOAT64.u, H, s, y), 0.0)
    assert np.linalg.norm(update.get_matrix() - ref.bfgs_inverse_update(H, s_tilde, y)) <= bound


@given(triples(FLOAT64))
def test_weights_are_in_the_unit_interval(case: Any) -> None:
    assert 0 < ref.powell_theta(case["H"], case["s"], case["y"]) <= 1
    assert 0 < ref.powell_theta(case["H"], -case["s"], case["y"]) < 1


@given(damping_cases(FLOAT64), st.floats(1e-2, 10), st.floats(0, 1))
def test_damping_against_h0_is_dp_dlm_with_gamma_times_the_identity(
    case: Any, gamma: float, lam: float
) -> None:
    s, y, mu1 = case["s"], case["y"], case["mu1"]
    expected = ref.dp_dlm_damp(gamma * np.eye(len(s)), s, y, mu1=mu1, lam=lam)
    for ours, theirs in zip(
        ref.damping.h0_damp(s, y, gamma=gamma, mu1=mu1, lam=lam), expected, strict=True
    ):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mu", [0.0, 1.0, -0.1, np.nan])
def test_fractions_are_refused(mu: float) -> None:
    with pytest.raises(ValueError, match=r"mu1 must be in \(0, 1\)"):
        ref.powell_damp(I2, S, Y, mu1=mu)
    with pytest.raises(ValueError, match=r"mu2 must be in \(0, 1\)"):
        ref.damping.identity_damp(S, Y, mu2=mu)


@pytest.mark.parametrize("lam", [-1.0, np.nan])
def test_lambda_is_refused(lam: float) -> None:
    with pytest.raises(ValueError, match="lam"):
        ref.lm_damp(S, Y, lam=lam)


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.nan])
def test_a_scale_of_h0_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma must be positive"):
        ref.damping.h0_damp(S, Y, gamma=gamma, lam=0.1)


@pytest.mark.parametrize(("H", "y"), [(I2, 0 * Y), (-I2, Y), (I2, np.nan * Y)])
def test_without_metric_there_is_no_damping(H: np.ndarray, y: np.ndarray) -> None:
    with pytest.raises(LinAlgError, match="yᵀHy must be positive"):
        ref.powell_damp(H, S, y)


def test_a_zero_step_has_nothing_to_damp_towards() -> None:
    with pytest.raises(LinAlgError, match="sᵀs must be positive"):
        ref.damping.identity_damp(0 * S, Y, mu2=0.5)


@pytest.mark.parametrize(
    ("H", "s", "y"),
    [
        (np.eye(3), S, Y),
        (I2, S[:1], Y),
        (I2, S[:, None], Y),
        (I2, [-1.0, 0.0], Y),
        (I2, S.astype(int), Y),
    ],
)
def test_shapes_and_kinds_are_refused(H: Any, s: Any, y: Any) -> None:
    with pytest.raises(TypeError):
        ref.powell_damp(H, s, y)


def test_an_estimate_is_as_good_as_its_matrix() -> None:
    H = ref.lbfgs.LBFGSInverse(np.array([[1.0, 1.0]]), np.array([[1.0, 2.0]]), 1.0, 3)
    assert_allclose(ref.powell_damp(H, S, Y), ref.powell_damp(H.dense(), S, Y), rtol=1e-14)
