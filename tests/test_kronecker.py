"""vec and the Kronecker product: the identities that define them, on matrices drawn by
hypothesis.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)


def entries(seed: int, *shapes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-9, 10, shape).astype(float) for shape in shapes
    ]  # products of integers are exact


@given(seeds, sizes, sizes, sizes, sizes)
def test_vec_of_a_product(seed, m, n, k, j):
    """cvec(G X A) = (Aᵀ ⊗ G) cvec(X), and the same by rows: rvec(G X A) = (G ⊗ Aᵀ) rvec(X)."""
    G, X, A = entries(seed, (m, n), (n, k), (k, j))
    np.testing.assert_array_equal(
        kf.kronecker.cvec(G @ X @ A), kf.kronecker.kron(A.T, G) @ kf.kronecker.cvec(X)
    )
    np.testing.assert_array_equal(
        kf.kronecker.rvec(G @ X @ A), kf.kronecker.kron(G, A.T) @ kf.kronecker.rvec(X)
    )


@given(seeds, sizes, sizes, sizes, sizes)
def test_kron_matvec_never_forms_the_product(seed, a, b, c, d):
    A, G, X = entries(seed, (a, b), (c, d), (d, b))
    np.testing.assert_array_equal(
        kf.kronecker.cvec(kf.kronecker.kron_matvec(A, G, X)),
        kf.kronecker.kron(A, G) @ kf.kronecker.cvec(X),
    )


@given(seeds, sizes, sizes)
def test_flattening_round_trips(seed, m, n):
    (X,) = entries(seed, (m, n))
    np.testing.assert_array_equal(kf.kronecker.cvec_inverse(kf.kronecker.cvec(X), (m, n)), X)
    np.testing.assert_array_equal(kf.kronecker.rvec_inverse(kf.kronecker.rvec(X), (m, n)), X)
    np.testing.assert_array_equal(kf.kronecker.cvec(X), kf.kronecker.rvec(X.T))


def test_flattening_by_hand():
    X = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert kf.kronecker.cvec(X).tolist() == [1, 3, 2, 4]
    assert kf.kronecker.rvec(X).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("inverse", [kf.kronecker.cvec_inverse, kf.kronecker.rvec_inverse])
def test_a_shape_that_does_not_hold_the_vector_is_refused(inverse):
    with pytest.raises(ValueError, match="must hold 4 elements"):
        inverse(np.ones(4), (3, 2))
