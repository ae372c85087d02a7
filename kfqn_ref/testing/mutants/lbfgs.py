"""Mistakes in L-BFGS: order, memory, curvature."""

import numpy as np

import kfqn_ref as ref
from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray


@mutant("lbfgs_push", "a full memory drops the newest pair instead of the oldest")
def drops_newest(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    return (np.vstack([S, s]), np.vstack([Y, y])) if len(S) < memory else (S + 0, Y + 0)


@mutant("lbfgs_push", "a full memory is never shortened")
def never_drops(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    return np.vstack([S, s]), np.vstack([Y, y])


@mutant("lbfgs_push", "the newest pair comes first")
def newest_first(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    return np.vstack([s, S])[:memory], np.vstack([y, Y])[:memory]


@mutant("lbfgs_push", "s stored in both places")
def same_twice(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    S = np.vstack([S, s])[-memory:]
    return S, np.vstack([Y, s])[-memory:]


@mutant("lbfgs_push", "keeps one pair too few")
def one_less(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    keep = max(1, memory - 1)
    return np.vstack([S, s])[-keep:], np.vstack([Y, y])[-keep:]


@mutant("lbfgs_two_loop", "two-loop order reversed: oldest pair first in the first loop")
def reversed_loops(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    return ref.lbfgs_two_loop(S[::-1], Y[::-1], q, gamma=gamma)


@mutant("lbfgs_two_loop", "the second loop runs in the order of the first")
def one_direction(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    q = q + 0
    alphas = []
    for s, y in zip(S[::-1], Y[::-1], strict=True):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = gamma * q
    for s, y, alpha in zip(S[::-1], Y[::-1], alphas, strict=True):
        r = r + (alpha - (y @ r) / (s @ y)) * s
    return r


@mutant("lbfgs_two_loop", "gamma is forgotten")
def without_gamma(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    return ref.lbfgs_two_loop(S, Y, q)


@mutant("lbfgs_two_loop", "gamma chosen as sᵀy/yᵀy of the newest pair where it is not given")
def scaled_default(S: Array, Y: Array, q: Array, *, gamma: float | None = None) -> Array:
    newest = (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1]) if len(S) else 1.0
    scale = newest if gamma is None else gamma
    return ref.lbfgs_two_loop(S, Y, q, gamma=scale)


@mutant("lbfgs_two_loop", "the columns of a matrix are mixed")
def mixes_columns(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    result = ref.lbfgs_two_loop(S, Y, q, gamma=gamma)
    return result if q.ndim == 1 else result[:, ::-1] + 0


@mutant("lbfgs_two_loop", "the newest pair is left out")
def skips_newest(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    return ref.lbfgs_two_loop(S[:-1], Y[:-1], q, gamma=gamma)


@mutant("lbfgs_compact", "the diagonal of sᵀy is missing in the middle matrix")
def without_diagonal(S: Array, Y: Array, *, gamma: float = 1.0) -> Array:
    R_inv = np.linalg.inv(np.triu(S @ Y.T)) if len(S) else np.zeros((0, 0))
    left = S.T @ R_inv.T
    cross = left @ (gamma * Y)
    return gamma * np.eye(S.shape[1]) + left @ (gamma * Y @ Y.T) @ left.T - cross - cross.T


@mutant("lbfgs_compact", "the lower triangle of SYᵀ instead of the upper")
def lower_triangle(S: Array, Y: Array, *, gamma: float = 1.0) -> Array:
    R_inv = np.linalg.inv(np.tril(S @ Y.T)) if len(S) else np.zeros((0, 0))
    left = S.T @ R_inv.T
    cross = left @ (gamma * Y)
    middle = np.diag(np.einsum("mn,mn->m", S, Y)) + gamma * Y @ Y.T
    return gamma * np.eye(S.shape[1]) + left @ middle @ left.T - cross - cross.T


@mutant("lbfgs_dense", "pairs applied newest first")
def dense_reversed(S: Array, Y: Array, *, gamma: float = 1.0) -> Array:
    return ref.lbfgs_dense(S[::-1], Y[::-1], gamma=gamma)
