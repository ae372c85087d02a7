"""L-BFGS: SciPy as an outside oracle, several right sides at once, the estimate, the error
contract.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from numpy.linalg import LinAlgError
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import LbfgsInvHessProduct

import kfqn_ref as ref
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.strategies.kernels import lbfgs_cases
from kfqn_ref.testing.tolerances import FLOAT64

EMPTY = np.zeros((0, 2))
ONE = np.array([[1.0, 0.0]])


@given(lbfgs_cases(FLOAT64))
def test_scipy_has_the_same_matrix(case: Any) -> None:
    S, Y, q, _ = case.values()
    if not len(S):
        return  # SciPy has no matrix without pairs
    theirs = LbfgsInvHessProduct(S, Y)
    bound = 2 * tol.lbfgs(FLOAT64.u, S, Y, 1.0)
    for ours in (ref.lbfgs_dense(S, Y), ref.lbfgs_compact(S, Y)):
        assert np.linalg.norm(theirs.todense() - ours) <= bound
    assert np.linalg.norm(
        theirs.matvec(np.array(q)) - ref.lbfgs_two_loop(S, Y, q)
    ) <= bound * tol.norm(q)


@given(lbfgs_cases(FLOAT64))
def test_several_right_sides_are_several_calls(case: Any) -> None:
    S, Y, q, gamma = case.values()
    Q = np.stack([q, -2 * q, np.eye(len(q))[0]], axis=1)
    columns = [ref.lbfgs_two_loop(S, Y, np.array(column), gamma=gamma) for column in Q.T]
    bound = tol.lbfgs(FLOAT64.u, S, Y, gamma) * tol.norm(Q)
    assert (
        np.linalg.norm(ref.lbfgs_two_loop(S, Y, Q, gamma=gamma) - np.stack(columns, axis=1))
        <= bound
    )


def test_without_pairs_it_is_gamma() -> None:
    q = np.array([1.0, -3.0])
    assert_array_equal(ref.lbfgs_two_loop(EMPTY, EMPTY, q, gamma=0.5), q / 2)
    for form in (ref.lbfgs_compact, ref.lbfgs_dense):
        assert_array_equal(form(EMPTY, EMPTY, gamma=0.5), np.eye(2) / 2)


def test_the_estimate_forgets_its_oldest_pair_and_is_changed_by_replacement() -> None:
    H = ref.lbfgs.LBFGSInverse.empty(2, memory=2)
    pairs = [(np.array([1.0, 0.0]), np.array([k, 0.0])) for k in (1.0, 2.0, 4.0)]
    for s, y in pairs:
        older, H = H, H.update(s, y)
    assert [list(pair.y) for pair in older.pairs()] == [[1.0, 0.0], [2.0, 0.0]]
    assert [list(pair.y) for pair in H.pairs()] == [[2.0, 0.0], [4.0, 0.0]]
    assert_allclose(H @ np.eye(2), H.dense(), rtol=1e-15)
    assert_array_equal(H.dense(), np.diag([0.25, 1.0]))


def test_the_estimate_keeps_its_gamma() -> None:
    H = ref.lbfgs.LBFGSInverse.empty(2, gamma=0.5, memory=2).update(
        np.array([1.0, 0.0]), np.array([2.0, 0.0])
    )
    assert_array_equal(H.dense(), np.diag([0.5, 0.5]))
    assert_array_equal(H @ np.array([2.0, 4.0]), [1.0, 2.0])
    H = H.update(np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    assert_array_equal(H.dense(), np.diag([1.0, 0.5]))
    assert [list(pair.s) for pair in H.pairs()] == [[1.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.nan])
def test_gamma_is_refused(gamma: float) -> None:
    for call in (ref.lbfgs_compact, ref.lbfgs_dense):
        with pytest.raises(ValueError, match="gamma must be positive"):
            call(ONE, ONE, gamma=gamma)
    with pytest.raises(ValueError, match="gamma must be positive"):
        ref.lbfgs_two_loop(ONE, ONE, ONE[0], gamma=gamma)


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_curvature_is_asked_for(factor: float) -> None:
    for call in (ref.lbfgs_compact, ref.lbfgs_dense):
        with pytest.raises(LinAlgError, match="sᵀy must be positive"):
            call(ONE, factor * ONE)
    with pytest.raises(LinAlgError, match="sᵀy must be positive"):
        ref.lbfgs_two_loop(ONE, factor * ONE, ONE[0])
    with pytest.raises(LinAlgError, match="sᵀy must be positive"):
        ref.lbfgs_push(EMPTY, EMPTY, ONE[0], factor * ONE[0], memory=1)


def test_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="memory must be at least 1"):
        ref.lbfgs_push(EMPTY, EMPTY, ONE[0], ONE[0], memory=0)


@pytest.mark.parametrize(
    ("S", "q"), [(np.ones((1, 3)), ONE[0]), (ONE[0], ONE[0]), (ONE, np.ones(3)), (ONE, [1.0, 0.0])]
)
def test_shapes_and_kinds_are_refused(S: Any, q: Any) -> None:
    with pytest.raises(TypeError):
        ref.lbfgs_two_loop(S, ONE, q)
