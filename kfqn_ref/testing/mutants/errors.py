"""Functions without input validation, or with the wrong class of error: mistakes for the error
contract only.
"""

from typing import Any

import numpy as np

from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray


@mutant("bfgs_inverse_update", "no refusal of sᵀy ≤ 0, shapes not looked at")
def unvalidated(H: Array, s: Array, y: Array) -> Array:
    s = s[: len(H)]
    y = y.ravel()
    left = np.eye(len(H)) - np.outer(s, y) / (s @ y)
    return left @ H @ left.T + np.outer(s, s) / (s @ y)


@mutant("bfgs_direct_update", "no refusal of sᵀy ≤ 0")
def direct_unvalidated(B: Array, s: Array, y: Array) -> Array:
    Bs = B @ s
    return B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)


@mutant("powell_damp", "no refusal of mu1 outside (0, 1) or of yᵀHy ≤ 0")
def powell_unvalidated(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    Hy = H @ y
    theta = 1.0 if s @ y >= mu1 * (y @ Hy) else (1 - mu1) * (y @ Hy) / (y @ Hy - s @ y)
    return theta * s + (1 - theta) * Hy


@mutant("identity_damp", "no refusal of mu2 outside (0, 1)")
def identity_unvalidated(s: Array, y: Array, *, mu2: float) -> Array:
    theta = 1.0 if s @ y >= mu2 * (s @ s) else (1 - mu2) * (s @ s) / (s @ s - s @ y)
    return theta * y + (1 - theta) * s


@mutant("lm_damp", "no refusal of a negative λ")
def lm_unvalidated(s: Array, y: Array, *, lam: float) -> Array:
    return y + lam * s


@mutant("lbfgs_push", "no refusal of a memory without room")
def push_unvalidated(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> Any:
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]


@mutant("lbfgs_two_loop", "no refusal of stored pairs with sᵀy ≤ 0")
def two_loop_unvalidated(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    alphas = []
    for s, y in zip(S[::-1], Y[::-1], strict=True):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = gamma * q
    for s, y, alpha in zip(S, Y, alphas[::-1], strict=True):
        r = r + (alpha - (y @ r) / (s @ y)) * s
    return r
