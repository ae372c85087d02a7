"""Mistakes in the damping formulas (2.1)-(2.3)."""

from typing import Any

import numpy as np

import kfqn_ref as ref
from kfqn_ref import Pair, damping
from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray


def _theta(sy: Any, q: Any, mu: float) -> float:
    return 1.0 if sy >= mu * q else (1 - mu) * q / (q - sy)


@mutant("powell_damp", "sign in Powell's damping: θ s − (1 − θ) H y")
def sign(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    theta = _theta(s @ y, y @ H @ y, mu1)
    return theta * s - (1 - theta) * (H @ y)


@mutant("powell_damp", "(1 − mu1) and mu1 swapped in θ")
def swapped_mu(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    sy = s @ y
    q = y @ H @ y
    theta = 1.0 if sy >= mu1 * q else mu1 * q / (q - sy)
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "(1 − mu1) and mu1 swapped in the test for damping")
def swapped_test(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    sy = s @ y
    q = y @ H @ y
    theta = 1.0 if sy >= (1 - mu1) * q else (1 - mu1) * q / (q - sy)
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "the wrong way round: damps where the curvature suffices")
def inverted_test(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    sy = s @ y
    q = y @ H @ y
    theta = (1 - mu1) * q / (q - sy) if sy > mu1 * q and q != sy else 1.0
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "y instead of H y is mixed in")
def without_metric(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    theta = _theta(s @ y, y @ H @ y, mu1)
    return theta * s + (1 - theta) * y


@mutant("powell_damp", "yᵀy instead of yᵀHy")
def euclidean(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    theta = _theta(s @ y, y @ y, mu1)
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "θ and 1 − θ swapped")
def swapped_weights(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    theta = _theta(s @ y, y @ H @ y, mu1)
    return (1 - theta) * s + theta * (H @ y)


@mutant("powell_damp", "damps only where sᵀy is negative")
def only_negative(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    theta = 1.0 if s @ y >= 0 else _theta(s @ y, y @ H @ y, mu1)
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "damps only where sᵀy is not positive")
def only_not_positive(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    theta = 1.0 if s @ y > 0 else _theta(s @ y, y @ H @ y, mu1)
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "an absolute threshold: sᵀy ≥ mu1 instead of sᵀy ≥ mu1 yᵀHy")
def absolute(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    sy = s @ y
    q = y @ H @ y
    theta = 1.0 if sy >= mu1 else (1 - mu1) * q / (q - sy + 1e-12)
    return theta * s + (1 - theta) * (H @ y)


@mutant("powell_damp", "no damping at all")
def identity(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    return 1.0 * s


@mutant("powell_damp", "mu1 is ignored: always 0.2")
def fixed_mu(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    return ref.powell_damp(H, s, y, mu1=0.2)


@mutant("powell_damp", "another default: mu1 = 0.1")
def other_default(H: Array, s: Array, y: Array, *, mu1: float = 0.1) -> Array:
    return ref.powell_damp(H, s, y, mu1=mu1)


@mutant("identity_damp", "sign in damping against I: θ y − (1 − θ) s̃")
def identity_sign(s: Array, y: Array, *, mu2: float) -> Array:
    theta = _theta(s @ y, s @ s, mu2)
    return theta * y - (1 - theta) * s


@mutant("identity_damp", "(1 − mu2) and mu2 swapped in θ")
def identity_swapped(s: Array, y: Array, *, mu2: float) -> Array:
    sy = s @ y
    q = s @ s
    theta = 1.0 if sy >= mu2 * q else mu2 * q / (q - sy)
    return theta * y + (1 - theta) * s


@mutant("identity_damp", "θ measured against yᵀy instead of s̃ᵀs̃")
def identity_metric(s: Array, y: Array, *, mu2: float) -> Array:
    theta = _theta(s @ y, y @ y, mu2)
    return theta * y + (1 - theta) * s


@mutant("lm_damp", "sign in Levenberg-Marquardt damping: y − λ s̃")
def lm_sign(s: Array, y: Array, *, lam: float) -> Array:
    return y - lam * s


@mutant("lm_damp", "λ added as a number instead of λ s̃")
def lm_constant(s: Array, y: Array, *, lam: float) -> Array:
    return y + lam


@mutant("lm_damp", "√λ instead of λ")
def lm_root(s: Array, y: Array, *, lam: float) -> Array:
    return y + np.sqrt(lam) * s


@mutant("dp_dlm_damp", "Levenberg-Marquardt damping with the undamped step s")
def undamped_step(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    return Pair(ref.powell_damp(H, s, y, mu1=mu1), y + lam * s)


@mutant("dp_dlm_damp", "Levenberg-Marquardt damping before Powell's")
def lm_first(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    y_tilde = y + lam * s
    return Pair(ref.powell_damp(H, s, y_tilde, mu1=mu1), y_tilde)


@mutant("dp_dlm_damp", "no Powell damping: the step is kept as it is")
def only_lm(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    return Pair(1.0 * s, y + lam * s)


@mutant("dp_dlm_damp", "no Levenberg-Marquardt damping")
def only_powell(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    return Pair(ref.powell_damp(H, s, y, mu1=mu1), 1.0 * y)


@mutant("dp_dlm_damp", "sign in Powell's damping, inside D_P D_LM")
def pair_sign(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    s_tilde = sign(H, s, y, mu1=mu1)
    return Pair(s_tilde, y + lam * s_tilde)


@mutant("dp_dlm_damp", "s̃ and ỹ returned in the wrong order")
def returned_swapped(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    s_tilde, y_tilde = ref.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    return Pair(y_tilde, s_tilde)


@mutant("double_damp", "damping against I with the undamped step s")
def double_undamped(H: Array, s: Array, y: Array, *, mu1: float = 0.2, mu2: float) -> Pair:
    damped = damping.identity_damp(s, y, mu2=mu2) if s.any() else 1.0 * y
    return Pair(ref.powell_damp(H, s, y, mu1=mu1), damped)


@mutant("double_damp", "mu1 and mu2 swapped")
def double_swapped(H: Array, s: Array, y: Array, *, mu1: float = 0.2, mu2: float) -> Pair:
    return damping.double_damp(H, s, y, mu1=mu2, mu2=mu1)


@mutant("double_damp", "only the first of the two dampings")
def double_once(H: Array, s: Array, y: Array, *, mu1: float = 0.2, mu2: float) -> Pair:
    return Pair(ref.powell_damp(H, s, y, mu1=mu1), 1.0 * y)
