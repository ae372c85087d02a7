"""Strategies: what the presets do differently, as values of the fields of ``KFQN`` (book:
KF-QN-CNN).

How λ is split over the two sides, how the output pair is damped, and what ``H_a`` and ``H_g`` start
from.
"""

from collections.abc import Callable

import numpy as np

from kfqn_ref._typing import Array, InverseEstimate, Pair
from kfqn_ref.bfgs import DenseInverse
from kfqn_ref.damping import double_damp, dp_dlm_damp, h0_damp, identity_theta, powell_theta
from kfqn_ref.lbfgs import LBFGSInverse


def sqrt_split(lam: float, T: int) -> tuple[float, float]:
    """Return (λ_A, λ_G) = (√λ, √λ).   Source: goldfarb2020kbfgs, ren2021kfqn."""
    return np.sqrt(lam), np.sqrt(lam)


def location_split(lam: float, T: int) -> tuple[float, float]:
    """Return ``(λ_A, λ_G) = (√(λ|T|), √(λ/|T|))``.   Source: ren2022kfqn."""
    return np.sqrt(lam * T), np.sqrt(lam / T)


def dp_dlm(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> tuple[Pair, bool]:
    """Return the D_P D_LM pair, and whether Powell's damping acted."""
    return dp_dlm_damp(H, s, y, mu1=mu1, lam=lam), powell_theta(H, s, y, mu1=mu1) < 1


def dd(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> tuple[Pair, bool]:
    """Return the doubly damped pair, mu2 = lam, and whether one of the two dampings acted."""
    pair = double_damp(H, s, y, mu1=mu1, mu2=lam)
    return pair, powell_theta(H, s, y, mu1=mu1) < 1 or identity_theta(pair.s, y, mu2=lam) < 1


def h0(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> tuple[Pair, bool]:
    """Return the pair damped against ``H_0 = gamma I`` (7.1), and whether Powell's damping
    acted.
    """
    assert isinstance(H, LBFGSInverse), "only L-BFGS has a gamma"
    pair = h0_damp(s, y, gamma=H.gamma, mu1=mu1, lam=lam)
    return pair, bool(s @ y < mu1 * H.gamma * (y @ y))


def no_factor(a_bar: Array) -> Array:
    """Return ``A_0 = 0``, (d_a, d_a): a start that no mini-batch has a say in."""
    return np.zeros((a_bar.shape[2], a_bar.shape[2]))


def exact_input_start(A: Array, lam: float, memory: int) -> InverseEstimate:
    """Return ``(A + lam I)⁻¹`` as a matrix, to be changed by BFGS."""
    return DenseInverse(np.linalg.inv(A + lam * np.eye(len(A))))


def lean_input_start(A: Array, lam: float, memory: int) -> InverseEstimate:
    """Return L-BFGS from ``gamma I``, 1/gamma being the mean eigenvalue of ``A + lam I``: 2 p d_a
    numbers.
    """
    return LBFGSInverse.empty(len(A), gamma=1 / (lam + np.trace(A) / len(A)), memory=memory)


def lean_input_start_above(d_a: int) -> Callable[[Array, float, int], InverseEstimate]:
    """Return the start that is lean where ``A`` has more than ``d_a`` rows, and exact where it has
    not.
    """

    def start(A: Array, lam: float, memory: int) -> InverseEstimate:
        return (lean_input_start if len(A) > d_a else exact_input_start)(A, lam, memory)

    return start


def dense_output_start(d_g: int, memory: int) -> InverseEstimate:
    """Return ``I`` as a matrix, to be changed by BFGS."""
    return DenseInverse(np.eye(d_g))


def lbfgs_output_start(d_g: int, memory: int, gamma: float = 1.0) -> InverseEstimate:
    """Return L-BFGS from ``gamma I``."""
    return LBFGSInverse.empty(d_g, gamma=gamma, memory=memory)
