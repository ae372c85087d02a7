"""The variant with a convergence theorem, and its eigenvalue constants (book: convergence).

Against KF-QN-CNN(L): no momentum, step sizes ``α_k = lr (k + 1)^(−b)``, Powell's damping against
``H_0 = gamma I`` (7.1), and an ``H_a`` that is exact or L-BFGS. A step uses only what earlier
mini-batches left, so that given the past its direction is an unbiased estimate of ``H ∇f``; ``H_a``
starts as ``λ_A⁻¹ I``, or from a warm start.

Mini-batches must be drawn independently of each other, every sample with the same chance: then AS.2
holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from kfqn_ref._typing import Array, InverseEstimate, Pair, require
from kfqn_ref.layers import Layer, Sigmoid, Tanh
from kfqn_ref.method.options import (
    exact_input_start,
    h0,
    lbfgs_output_start,
    lean_input_start,
    no_factor,
)
from kfqn_ref.method.step import KFQN
from kfqn_ref.network import Network

LEAN_INPUT = {"start_H_a": lean_input_start, "renew_H_a": None}
"""Fields of :class:`Convergent` that make ``H_a`` L-BFGS on the pairs (5.1) instead of an exact
inverse.
"""


@dataclass(frozen=True)
class Convergent(KFQN):
    """KF-QN-CNN(L) as the convergence theorem needs it; ``H_a`` exact, or L-BFGS with
    ``**LEAN_INPUT``.

    Args:
        lr: c of ``α_k = c (k + 1)^(−b)``, positive; the theorem wants ``c <= 1 / (L κ_hi)``.
        step_decay: b, in (1/2, 1).
        gamma: scale of ``H_0 = gamma I`` of ``H_g``, positive.
        momentum: 0.
        weight_decay: τ; the theorem is then about ``f + ½ τ ‖θ‖²``, whose L is larger by τ.
        memory: p; keep it small where the constants matter, they grow like ``κ̂^p``.

    Raises:
        ValueError: a value outside its range; the message names the assumption that it breaks.

    Source: derived here, in the framework of wang2017sqn.
    """

    step_decay: float = 0.7
    gamma: float = 1.0
    momentum: float = 0.0
    damp: Callable[[InverseEstimate, Array, Array, float, float], tuple[Pair, bool]] = h0
    first_factor: Callable[[Array], Array] = no_factor
    renew_H_a: Callable[[Array, float, int], InverseEstimate] | None = exact_input_start

    def __post_init__(self) -> None:
        require(
            (0 < self.lr < np.inf, "lr must be positive (AS.4: alpha_k > 0)", self.lr),
            (
                0.5 < self.step_decay < 1,
                "step_decay b must be in (1/2, 1) (AS.4: sum alpha_k diverges, sum alpha_k² does not)",
                self.step_decay,
            ),
            (
                0 < self.gamma < np.inf,
                "gamma must be positive (AS.5: H_0 = gamma I, definite)",
                self.gamma,
            ),
            (
                0 < self.damping < np.inf,
                "damping must be positive (AS.5: λ_A, λ_G > 0)",
                self.damping,
            ),
            (
                self.memory >= 1,
                "memory must be at least 1 (AS.5: H_g keeps p >= 1 pairs)",
                self.memory,
            ),
            (
                self.square_decay == 0,
                "square_decay must be 0 (AS.2: as momentum)",
                self.square_decay,
            ),
            (
                self.momentum == 0,
                "momentum must be 0 (AS.2: an unbiased gradient times H_k)",
                self.momentum,
            ),
            (
                self.renew_H_a is not None or self.start_H_a is lean_input_start,
                "H_a must be exact or L-BFGS (AS.5: at most p pairs from a multiple of I)",
                self.start_H_a,
            ),
        )
        object.__setattr__(self, "start_H_g", partial(lbfgs_output_start, gamma=self.gamma))
        super().__post_init__()


class Bounds(NamedTuple):
    """``lo I ⪯ H ⪯ hi I``."""

    lo: float
    hi: float

    def times(self, other: "Bounds") -> "Bounds":
        """Return the bounds of the Kronecker product: its eigenvalues are the products."""
        return Bounds(self.lo * other.lo, self.hi * other.hi)


def pair_bound(gamma: float, mu1: float, lam: float) -> float:
    r"""Return the smallest M with ``ỹᵀỹ <= M s̃ᵀỹ`` for every pair damped by (7.1).

    .. math:: M_g = \lambda_G + 1 / (\mu_1 \gamma)

    Source: derived here; attained by ``s̃ = mu1 gamma y``.
    """
    return lam + 1 / (mu1 * gamma)


def kantorovich(mu: float, M: float) -> float:
    r"""Return the largest ``‖s‖²‖y‖² / (sᵀy)²`` of pairs with ``(y − mu s)ᵀ(M s − y) >= 0``.

    .. math:: \hat\kappa = (M + \mu)^2 / (4 M \mu) \le \kappa = M / \mu

    Source: derived here; the inequality is Kantorovich's.
    """
    return (M + mu) * ((M + mu) / (4 * M * mu))


def lbfgs_bounds(mu: float, M: float, *, gamma: float, memory: int, d: int) -> Bounds:
    r"""Return the eigenvalue bounds of L-BFGS with up to ``memory`` pairs (Lemma A, sharpened).

    .. math:: (1/\gamma + p M)^{-1} I \preceq H \preceq
        (\hat\kappa^p \gamma + \tfrac1\mu (1 + \hat\kappa + \dots + \hat\kappa^{p-1})) I

    For d = 1, where ``I − ρ s yᵀ = 0``, each pair alone decides: ``1/M <= H <= 1/mu``.

    Args:
        mu, M: ``0 < mu <= M``; the pairs have ``(y − mu s)ᵀ(M s − y) >= 0``.
        gamma: scale of ``H_0``.   memory: p.   d: size of ``H``.

    Source: derived here, in the framework of wang2017sqn.
    """
    if d == 1:
        return Bounds(min(gamma, 1 / M), max(gamma, 1 / mu))
    hi = gamma
    for _ in range(memory):
        hi = kantorovich(mu, M) * hi + 1 / mu
    return Bounds(1 / (1 / gamma + memory * M), hi)


def input_bounds(method: KFQN, R_a: float, lam: float, d: int) -> Bounds:
    """Return the bounds of ``H_a`` (Lemma B): exact, or L-BFGS from any ``gamma I`` between them.

    Args:
        R_a: bound of ``‖A‖``.   lam: λ_A.   d: d_a.
    """
    M = R_a + lam
    if method.renew_H_a is not None:
        return Bounds(1 / M, 1 / lam)
    lo = lbfgs_bounds(lam, M, gamma=1 / M, memory=method.memory, d=d).lo
    return Bounds(lo, lbfgs_bounds(lam, M, gamma=1 / lam, memory=method.memory, d=d).hi)


class LayerConstants(NamedTuple):
    """The constants of a block: ``R_a`` of AS.3, ``M_g``, bounds of ``H_a``, of ``H_g``, of their
    product.
    """

    T: int
    lambda_a: float
    lambda_g: float
    R_a: float
    M_g: float
    H_a: Bounds
    H_g: Bounds
    kappa: Bounds


class Constants(NamedTuple):
    """The constants of every block, and the bounds ``κ_lo``, ``κ_hi`` of all of ``H``."""

    layers: tuple[LayerConstants, ...]
    kappa: Bounds


def constants(method: Convergent, network: Network, x: Array) -> Constants:
    """Return every eigenvalue constant of the method on mini-batches of the data ``x``, at any
    weights.

    Args:
        method: its damping, mu1, gamma, memory, and kind of ``H_a``.
        network: the layers.   x: all the inputs that mini-batches are drawn from, (N, …).

    Raises:
        ValueError: AS.3 fails: the input of a layer has no bound that holds at all weights; the
            message says of which layer, and why.
    """
    layers = []
    for (d_g, d_a), (R_a, T) in zip(network.block_shapes, input_radii(network, x), strict=True):
        lambda_a, lambda_g = map(float, method.split(method.damping, T))
        M_g = pair_bound(method.gamma, method.mu1, lambda_g)
        H_a = input_bounds(method, R_a, lambda_a, d_a)
        H_g = lbfgs_bounds(lambda_g, M_g, gamma=method.gamma, memory=method.memory, d=d_g)
        layers.append(LayerConstants(T, lambda_a, lambda_g, R_a, M_g, H_a, H_g, H_a.times(H_g)))
    kappa = Bounds(min(layer.kappa.lo for layer in layers), max(layer.kappa.hi for layer in layers))
    return Constants(tuple(layers), kappa)


def input_radii(network: Network, x: Array) -> list[tuple[float, int]]:
    """Return (R_a, T) of every block: ``‖Σ_t ā_t ā_tᵀ‖ <= R_a`` for every sample, at any weights.

    The first layer with weights sees the data: there the norm is computed. A later one sees an
    activation of outputs that the weights can make as large as they like: there the largest input
    that a bounded activation can give stands for all.

    Raises:
        ValueError: as :func:`constants`.
    """
    if not np.isfinite(x).all():
        raise ValueError("AS.3 needs bounded data, got values that are not finite")
    radii: list[tuple[float, int]] = []
    unbounded = ""  # why the signal has no bound here, if it has none
    for index, layer in enumerate(network.layers):
        if layer.block_shapes and unbounded:
            raise ValueError(
                f"AS.3 fails: layer {index}, {layer}, must have a bounded input, but {unbounded}"
            )
        x, found = _largest_signal(layer, x)
        radii += found
        if found:
            unbounded = (
                f"no Tanh or Sigmoid bounds the outputs of layer {index}, {layer}, before it"
            )
        elif radii and isinstance(layer, Tanh | Sigmoid):
            x, unbounded = np.ones((1, *x.shape[1:])), ""
    return radii


def _largest_signal(layer: Layer, x: Array) -> tuple[Array, list[tuple[float, int]]]:
    """Return the layer's output for zero weights, and (R_a, T) of its blocks for the inputs
    ``x``.
    """
    zeros = tuple(np.zeros(shape) for shape in layer.block_shapes)
    out, cache = layer.forward(zeros, x)
    _, records = layer.backward(zeros, cache, np.zeros_like(out))
    return out, [(float(sample_norms(r.a_bar).max()), r.a_bar.shape[1]) for r in records]


def sample_norms(a_bar: Array) -> Array:
    """Return ``‖Σ_t ā_t ā_tᵀ‖`` of every sample, (N,), from ``ā`` (N, T, d_a)."""
    return np.linalg.norm(a_bar, 2, axis=(1, 2)) ** 2
