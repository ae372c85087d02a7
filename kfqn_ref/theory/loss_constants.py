"""L, σ² and f_low of the theorem, computed where a bound for all weights can be derived (book:
convergence).

Two families have one: softmax regression, which is convex, and one layer with a bounded activation
under a squared loss, which is not. With weights in two layers or more the second derivatives of the
loss grow with the weights: there is no global L, and none is invented.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import Polynomial

from kfqn_ref._typing import Array
from kfqn_ref.factors import input_factor
from kfqn_ref.layers import Conv2d, Flatten, Layer, Linear, Sigmoid, Tanh
from kfqn_ref.losses import MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.network import Network
from kfqn_ref.patches import pair_of
from kfqn_ref.pooling import AvgPool2d
from kfqn_ref.theory.bounds import sample_norms


class Smoothness(NamedTuple):
    """Of the mean loss over the data, at all weights.

    Args:
        L: Lipschitz constant of the gradient.
        sigma2: bound of the mean of ``‖∇f_n − ∇f‖²`` over the samples n.
        f_low: lower bound of the loss.
    """

    L: float
    sigma2: float
    f_low: float


class Activation(NamedTuple):
    """φ' and φ'' as polynomials in ``u = φ(h)``, and the range of u."""

    first: Polynomial
    second: Polynomial
    lo: float
    hi: float


_u = Polynomial([0.0, 1.0])
_TANH = Activation(1 - _u**2, -2 * _u * (1 - _u**2), -1.0, 1.0)
_SIGMOID = Activation(_u * (1 - _u), _u * (1 - _u) * (1 - 2 * _u), 0.0, 1.0)


def smoothness(network: Network, x: Array, target: Array) -> Smoothness:
    """Return L, σ² and f_low of the mean loss over the data (x, target).

    Args:
        network: [layers without weights], one Linear or Conv2d with one group, then nothing and
            softmax cross-entropy, or Tanh or Sigmoid, [AvgPool2d], [Flatten] and squared loss.
        x, target: all the samples that mini-batches are drawn from.

    Raises:
        ValueError: AS.1 or AS.2 cannot be shown for this network; the message says why.

    Source: derived here.
    """
    head, layer, tail = _parts(network)
    for each in head:
        x, _ = each.forward((), x)
    zeros = (np.zeros(layer.block_shapes[0]),)
    h, cache = layer.forward(zeros, x)
    a_bar = layer.backward(zeros, cache, np.zeros_like(h))[1][0].a_bar
    if not tail and h.ndim == 2 and isinstance(network.loss, SoftmaxCrossEntropy):
        return softmax_regression(a_bar)
    if tail and isinstance(network.loss, MeanSquaredError):
        phi, windows = _activation(tail)
        return squared_loss(a_bar, target, phi, windows)
    raise ValueError(
        "AS.1 and AS.2 must have constants that hold at all weights: they are derived for one "
        "Linear with SoftmaxCrossEntropy, or one layer, Tanh or Sigmoid, and MeanSquaredError, "
        f"got {network}"
    )


def softmax_regression(a_bar: Array) -> Smoothness:
    r"""Return the constants of softmax regression, ``ā`` (N, 1, d_a).

    .. math:: L = \tfrac12 \lambda_{\max}(A), \qquad
        \sigma^2 = 2 \operatorname{mean}_n \|\bar a_n\|^2

    The Hessian is ``mean (diag p − p pᵀ) ⊗ ā āᵀ``, and ``diag p − p pᵀ ⪯ I/2``; a sample's gradient
    is ``(p − e) āᵀ`` with ``‖p − e‖² <= 2``.
    """
    return Smoothness(_largest_eigenvalue(a_bar) / 2, 2 * float(sample_norms(a_bar).mean()), 0.0)


def squared_loss(a_bar: Array, target: Array, phi: Activation, K: int) -> Smoothness:
    r"""Return the constants of the mean over F outputs of (mean over a window of K of φ(h) −
    target)².

    .. math::
        L = \tfrac{2}{F K} \max_u (\varphi'^2 + E |\varphi''|)\, \lambda_{\max}(A), \qquad
        \sigma^2 = \tfrac{4}{F K} E^2 \max_u \varphi'^2 \operatorname{mean}_n \|A_n\|

    with E the largest ``|output − target|``, and ``A_n`` the sample's own factor.
    """
    F = target[0].size
    E = max(phi.hi - float(target.min()), float(target.max()) - phi.lo)
    curvature = max(_largest(phi.first**2 + sign * E * phi.second, phi) for sign in (1, -1))
    slope2 = _largest(phi.first**2, phi)
    L = 2 * curvature * _largest_eigenvalue(a_bar) / (F * K)
    return Smoothness(L, 4 * E**2 * slope2 * float(sample_norms(a_bar).mean()) / (F * K), 0.0)


def _parts(network: Network) -> tuple[tuple[Layer, ...], Linear | Conv2d, tuple[Layer, ...]]:
    """Return the layers before the one with weights, that one, and those after it."""
    if len(network.block_shapes) != 1:
        raise ValueError(
            f"AS.1 must hold at all weights, but with {len(network.block_shapes)} blocks of "
            "weights the second derivatives of the loss grow with the weights: there is no "
            "global L"
        )
    at = next(i for i, layer in enumerate(network.layers) if layer.block_shapes)
    layer = network.layers[at]
    assert isinstance(layer, Linear | Conv2d), "only these have blocks"
    return network.layers[:at], layer, network.layers[at + 1 :]


def _activation(tail: tuple[Layer, ...]) -> tuple[Activation, int]:
    """Return the activation and the pooling window of [Tanh | Sigmoid], [AvgPool2d], [Flatten]."""
    pools = [layer for layer in tail[1:] if isinstance(layer, AvgPool2d)]
    others = [layer for layer in tail[1:] if not isinstance(layer, AvgPool2d | Flatten)]
    disjoint = all(p.stride is None or pair_of(p.stride) == pair_of(p.kernel_size) for p in pools)
    if not isinstance(tail[0], Tanh | Sigmoid) or others or len(pools) > 1 or not disjoint:
        raise ValueError(
            "AS.1 must have an L that holds at all weights: it is derived for Tanh or Sigmoid, "
            f"then at most one AvgPool2d of disjoint windows and Flatten, got {tail}"
        )
    K = int(np.prod(pair_of(pools[0].kernel_size))) if pools else 1
    phi = _TANH if isinstance(tail[0], Tanh) else _SIGMOID
    return phi, K


def _largest(p: Polynomial, phi: Activation) -> float:
    """Return the maximum of a polynomial on the range of u: at an end or where its derivative
    vanishes.
    """
    roots = p.deriv().roots()
    inside = roots.real[(abs(roots.imag) < 1e-9) & (phi.lo < roots.real) & (roots.real < phi.hi)]
    return max(float(p(u)) for u in (phi.lo, phi.hi, *inside))


def _largest_eigenvalue(a_bar: Array) -> float:
    return float(np.linalg.eigvalsh(input_factor(a_bar))[-1])
