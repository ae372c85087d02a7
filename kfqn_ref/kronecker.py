"""Vectorisation and the Kronecker product, with named flattening (book: the layer's Hessian block).

``cvec`` stacks columns, ``rvec`` rows; the two swap ``A ⊗ G`` and ``G ⊗ A``. The project uses
columns: ``cvec(G X A) = (Aᵀ ⊗ G) cvec(X)``.
"""

import numpy as np

from kfqn_ref._typing import Array, Inexact, checked


@checked
def cvec(X: Inexact[Array, "m n"]) -> Inexact[Array, " mn"]:
    """Return the columns of ``X`` (m, n), stacked: (m n,), the vec of (4.3)."""
    return X.flatten(order="F")


@checked
def cvec_inverse(x: Inexact[Array, " mn"], shape: tuple[int, int]) -> Inexact[Array, "m n"]:
    """Return the matrix of the given shape whose stacked columns are ``x``: undo the vec of (4.3).

    Raises:
        ValueError: the shape does not hold ``x.size`` elements.
    """
    if shape[0] * shape[1] != x.size:
        raise ValueError(f"shape must hold {x.size} elements, got {shape}")
    return x.reshape(shape, order="F")


@checked
def rvec(X: Inexact[Array, "m n"]) -> Inexact[Array, " mn"]:
    """Return the rows of ``X`` (m, n), one after the other: (m n,), as in (4.3)."""
    return X.flatten(order="C")


@checked
def rvec_inverse(x: Inexact[Array, " mn"], shape: tuple[int, int]) -> Inexact[Array, "m n"]:
    """Return the matrix of the given shape whose rows, one after the other, are ``x``; see (4.3).

    Raises:
        ValueError: the shape does not hold ``x.size`` elements.
    """
    if shape[0] * shape[1] != x.size:
        raise ValueError(f"shape must hold {x.size} elements, got {shape}")
    return x.reshape(shape, order="C")


@checked
def kron(A: Inexact[Array, "a b"], G: Inexact[Array, "c d"]) -> Inexact[Array, "ac bd"]:
    """Return the Kronecker product ``A ⊗ G`` of (4.3): the block (i, j) is ``A[i, j] G``."""
    return np.kron(A, G)


@checked
def kron_matvec(
    A: Inexact[Array, "a b"], G: Inexact[Array, "c d"], X: Inexact[Array, "d b"]
) -> Inexact[Array, "c a"]:
    """Return the matrix form of ``(A ⊗ G) cvec(X)``, which is ``G X Aᵀ`` (4.3), without forming
    ``A ⊗ G``. With inverses of ``A`` and ``G`` it is the direction (4.7).
    """
    return G @ X @ A.T
