"""A pair that is almost orthogonal, with a cosine below 1e-5, is skipped: once for every function
with a condition.
"""

from typing import Any

import numpy as np

from kfqn_ref import Pair
from kfqn_ref.bfgs import bfgs_direct_update, bfgs_inverse_update
from kfqn_ref.damping import double_damp, dp_dlm_damp, identity_damp, lm_damp, powell_damp
from kfqn_ref.lbfgs import lbfgs_push
from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray


def _cosine(s: Array, y: Array) -> float:
    size = float(np.linalg.norm(s) * np.linalg.norm(y))
    return float(s @ y) / size if size else 0.0


def _narrow(s: Array, y: Array) -> bool:
    """Almost orthogonal, with a sign: on the orthogonal itself other laws would see it."""
    return 1e-12 < abs(_cosine(s, y)) < 1e-5


@mutant("bfgs_inverse_update", "skips a pair that is almost orthogonal")
def skips_narrow(H: Array, s: Array, y: Array) -> Array:
    H_plus = bfgs_inverse_update(H, s, y)
    return 1.0 * H if _narrow(s, y) else H_plus


@mutant("bfgs_direct_update", "skips a pair that is almost orthogonal")
def direct_skips_narrow(B: Array, s: Array, y: Array) -> Array:
    B_plus = bfgs_direct_update(B, s, y)
    return 1.0 * B if _narrow(s, y) else B_plus


@mutant("powell_damp", "does not damp a pair that is almost orthogonal")
def powell_skips_narrow(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    s_tilde = powell_damp(H, s, y, mu1=mu1)
    return 1.0 * s if _narrow(s, y) else s_tilde


@mutant("identity_damp", "does not damp a pair that is almost orthogonal")
def identity_skips_narrow(s: Array, y: Array, *, mu2: float) -> Array:
    y_tilde = identity_damp(s, y, mu2=mu2)
    return 1.0 * y if _narrow(s, y) else y_tilde


@mutant("lm_damp", "does not damp a pair that is almost orthogonal")
def lm_skips_narrow(s: Array, y: Array, *, lam: float) -> Array:
    y_tilde = lm_damp(s, y, lam=lam)
    return 1.0 * y if _narrow(s, y) else y_tilde


@mutant("double_damp", "does not damp a pair that is almost orthogonal, with sᵀy below 0")
def double_skips_narrow(H: Array, s: Array, y: Array, *, mu1: float = 0.2, mu2: float) -> Pair:
    damped = double_damp(H, s, y, mu1=mu1, mu2=mu2)
    skips = _narrow(s, y) and _cosine(s, y) < 0
    return Pair(1.0 * s, 1.0 * y) if skips else damped


@mutant("dp_dlm_damp", "does not damp a pair that is almost orthogonal, with sᵀy above 0")
def dp_dlm_skips_narrow(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    damped = dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    skips = _narrow(s, y) and _cosine(s, y) > 0
    return Pair(1.0 * s, 1.0 * y) if skips else damped


@mutant("lbfgs_push", "does not store a pair that is almost orthogonal")
def push_skips_narrow(S: Array, Y: Array, s: Array, y: Array, **rest: Any) -> tuple[Array, Array]:
    stored = lbfgs_push(S, Y, s, y, **rest)
    return (S + 0, Y + 0) if _narrow(s, y) else stored
