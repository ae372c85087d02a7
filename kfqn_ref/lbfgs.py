"""L-BFGS: the inverse estimate as its last p pairs, in three forms that agree (book: L-BFGS three
ways).

Pairs are rows: ``S`` and ``Y`` are (m, n), the oldest first. The estimate starts from
``H_0 = gamma I``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref._typing import Array, Float, Pair, checked, guarded
from kfqn_ref.bfgs import bfgs_inverse_update


def _curvatures(S: Array, Y: Array) -> Array:
    """Return the curvatures ``s_iᵀy_i``, (m,)."""
    return np.einsum("mn,mn->m", S, Y)


def _all_positive(S: Array, Y: Array, q: Array | None = None, *, gamma: float = 1.0) -> None:
    """Refuse a pair without positive curvature, or a gamma that is not positive."""
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    sy = _curvatures(S, Y)
    if not (sy > 0).all():
        raise LinAlgError(f"sᵀy must be positive for every pair, got {sy.min():.3g}")


def _pushable(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> None:
    """Refuse a memory without room, or a pair without positive curvature."""
    if memory < 1:
        raise ValueError(f"memory must be at least 1, got {memory}")
    if not s @ y > 0:
        raise LinAlgError(f"sᵀy must be positive, got {s @ y:.3g}")


@checked
@guarded(_pushable)
def lbfgs_push(
    S: Float[Array, "m n"],
    Y: Float[Array, "m n"],
    s: Float[Array, " n"],
    y: Float[Array, " n"],
    *,
    memory: int,
) -> tuple[Float[Array, "k n"], Float[Array, "k n"]]:
    """Return the pairs of (3.1) and (s, y); when more than ``memory``, without the oldest.

    Args:
        S, Y: stored pairs, (m, n), oldest first.
        s, y: the new pair, (n,).
        memory: pairs to keep, at least 1.

    Raises:
        ValueError: ``memory`` is less than 1.
        LinAlgError: ``sᵀy`` is not positive.

    Source: nocedal2006, ch. 7.
    """
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]


@checked
@guarded(_all_positive)
def lbfgs_two_loop(
    S: Float[Array, "m n"], Y: Float[Array, "m n"], q: Float[Array, "n ..."], *, gamma: float = 1.0
) -> Float[Array, "n ..."]:
    """Return ``H q`` by the two-loop recursion (3.2), never forming ``H``.

    Args:
        S, Y: pairs, (m, n), oldest first.
        q: a vector (n,) or the columns of a matrix (n, k).
        gamma: scale of ``H_0 = gamma I``, positive.

    Raises:
        ValueError: ``gamma`` is not positive.
        LinAlgError: a pair with ``sᵀy <= 0``.

    Source: nocedal2006, alg. 7.4.
    """
    rho = 1 / _curvatures(S, Y)
    m = len(S)
    alpha = [np.zeros(q.shape[1:])] * m
    for i in reversed(range(m)):  # newest to oldest
        alpha[i] = rho[i] * (S[i] @ q)
        q = q - np.multiply.outer(Y[i], alpha[i])
    r = gamma * q
    for i in range(m):  # oldest to newest
        beta = rho[i] * (Y[i] @ r)
        r = r + np.multiply.outer(S[i], alpha[i] - beta)
    return r


@checked
@guarded(_all_positive)
def lbfgs_compact(
    S: Float[Array, "m n"], Y: Float[Array, "m n"], *, gamma: float = 1.0
) -> Float[Array, "n n"]:
    r"""Return ``H`` in compact form (3.3): ``gamma I`` plus one product of rank 2m.

    .. math::
        H = \gamma I + \Psi^\top
        \begin{bmatrix} R^{-\top} (D + \gamma\, Y Y^\top) R^{-1} & -R^{-\top} \\ -R^{-1} & 0
        \end{bmatrix} \Psi, \qquad \Psi = \begin{bmatrix} S \\ \gamma Y \end{bmatrix}

    with pairs as the rows of ``S`` and ``Y``, :math:`R_{ij} = s_i^\top y_j` for :math:`i \le j`,
    else 0, and
    :math:`D = \operatorname{diag}(s_i^\top y_i)`.

    Args, raises: as :func:`lbfgs_two_loop`.

    Source: byrd1994compact.
    """
    sy = _curvatures(S, Y)
    R_inv = np.linalg.inv(np.triu(S @ Y.T))
    top_left = R_inv.T @ (np.diag(sy) + gamma * Y @ Y.T) @ R_inv
    middle = np.block([[top_left, -R_inv.T], [-R_inv, np.zeros_like(R_inv)]])
    Psi = np.vstack([S, gamma * Y])  # (2m, n)
    return gamma * np.eye(S.shape[1]) + Psi.T @ middle @ Psi


@checked
@guarded(_all_positive)
def lbfgs_dense(
    S: Float[Array, "m n"], Y: Float[Array, "m n"], *, gamma: float = 1.0
) -> Float[Array, "n n"]:
    """Return ``H`` of (3.1): apply (1.3) to ``gamma I``, pair after pair, the oldest first.

    Args, raises: as :func:`lbfgs_two_loop`.

    Source: nocedal2006, ch. 7.
    """
    H = gamma * np.eye(S.shape[1])
    for s, y in zip(S, Y, strict=True):
        H = bfgs_inverse_update(H, s, y)
    return H


@dataclass(frozen=True)
class LBFGSInverse:
    """An inverse estimate kept as its last ``memory`` pairs, from ``H_0 = gamma I``.

    Args:
        S, Y: pairs, (m, d), oldest first, ``m <= memory``.
        gamma: scale of ``H_0``, positive.
        memory: pairs to keep, at least 1.
    """

    S: Array
    Y: Array
    gamma: float
    memory: int

    @classmethod
    def empty(cls, d: int, *, gamma: float = 1.0, memory: int) -> "LBFGSInverse":
        """Return the estimate ``gamma I`` of size d, without pairs."""
        return cls(np.zeros((0, d)), np.zeros((0, d)), gamma, memory)

    def __matmul__(self, X: Array) -> Array:
        return lbfgs_two_loop(self.S, self.Y, X, gamma=self.gamma)

    def update(self, s: Array, y: Array) -> "LBFGSInverse":
        """Return the estimate after the pair (s, y); the oldest pair is dropped when it is full."""
        S, Y = lbfgs_push(self.S, self.Y, s, y, memory=self.memory)
        return LBFGSInverse(S, Y, self.gamma, self.memory)

    def dense(self) -> Array:
        """Return the estimate as a (d, d) matrix."""
        return lbfgs_dense(self.S, self.Y, gamma=self.gamma)

    def pairs(self) -> list[Pair]:
        """Return the stored pairs, oldest first."""
        return [Pair(s, y) for s, y in zip(self.S, self.Y, strict=True)]
