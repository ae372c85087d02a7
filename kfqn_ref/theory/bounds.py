"""The eigenvalue bounds of the variant with a convergence theorem (book: convergence).

Lemma A bounds L-BFGS, Lemma B both sides of a block; :func:`constants` puts them together for a
network: with them ``κ_lo I ⪯ H_k ⪯ κ_hi I`` at all iterations and at any weights.
"""

from typing import NamedTuple

import numpy as np

from kfqn_ref._typing import Array
from kfqn_ref.layers import Layer, Sigmoid, Tanh
from kfqn_ref.method.convergent import Convergent
from kfqn_ref.method.step import KFQN
from kfqn_ref.network import Network


class Bounds(NamedTuple):
    """``lo I ⪯ H ⪯ hi I``."""

    lo: float
    hi: float

    def times(self, other: "Bounds") -> "Bounds":
        """Return the bounds of the Kronecker product: its eigenvalues are the products."""
        return Bounds(self.lo * other.lo, self.hi * other.hi)


def pair_bound(gamma: float, mu1: float, lam: float) -> float:
    r"""Return the smallest M with ``ỹᵀỹ <= M s̃ᵀỹ`` for every pair damped by (9.1).

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
    if method.options.input_inverse.renews:
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
        lambda_a, lambda_g = map(float, method.options.split(method.damping, T))
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
            x = np.ones((1, *x.shape[1:]))  # the largest that the activation can give
            unbounded = ""
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
