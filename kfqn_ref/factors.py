"""The Kronecker factors of a layer's block, and the curvature pairs they give (book: Hessian
action).

All functions work on the format samples × locations × features, (N, T, d).
"""

from dataclasses import replace

import numpy as np

from kfqn_ref._typing import Array, Float, InverseEstimate, Pair, checked
from kfqn_ref.layers import Conv2d, Record
from kfqn_ref.network import gradient


@checked
def input_factor(a_bar: Float[Array, "N T d_a"]) -> Float[Array, "d_a d_a"]:
    r"""Return the input-side factor (4.5): sum over locations, mean over the batch.

    .. math:: A = \tfrac1N \sum_n \sum_t \bar a_{n,t} \bar a_{n,t}^\top

    Source: grosse2016kfc, ren2021kfqn.
    """
    return np.tensordot(a_bar, a_bar, axes=([0, 1], [0, 1])) / len(a_bar)


@checked
def input_mean(a_bar: Float[Array, "N T d_a"]) -> Float[Array, " d_a"]:
    """Return ``ā̄`` of (6.2), the mean of the inputs over samples and locations."""
    return a_bar.mean(axis=(0, 1))


@checked
def hessian_action(a_bar: Float[Array, "N T d_a"], v: Float[Array, " d_a"]) -> Float[Array, " d_a"]:
    r"""Return ``A v`` (6.1) without forming ``A``: 2·N·T·d_a multiply-adds instead of N·T·d_a².

    .. math:: A v = \tfrac1N \sum_{n,t} u_{n,t}\, \bar a_{n,t}, \qquad u_{n,t} = \bar a_{n,t}^\top v

    Source: ren2021kfqn.
    """
    u = a_bar @ v  # (N, T)
    return np.tensordot(u, a_bar, axes=([0, 1], [0, 1])) / len(a_bar)


def conv_hessian_action(conv: Conv2d, a: Array, v: Array) -> Array:
    """Return ``A v`` (6.1) of a convolution by convolutions with one output channel.

    ``u`` is the convolution of the input with ``v`` as its kernel, and ``Σ u ā`` is the weight
    gradient of that convolution for the output gradient ``u``. With fast convolutions no patches
    are stored.

    Args:
        conv: the layer; one group (a grouped convolution is one layer per group).
        a: its input, (N, C_in, H, W).   v: vector, (d_a,), the bias entry last.

    Raises:
        ValueError: ``conv`` has more than one group, or ``v`` is not (d_a,).

    Source: ren2021kfqn; the form by convolutions is derived here.
    """
    d_a = conv.block_shapes[0][1]
    if conv.groups != 1 or v.shape != (d_a,):
        raise ValueError(
            f"conv must have one group and v the shape ({d_a},), got {conv.groups}, {v.shape}"
        )
    one_channel = replace(conv, out_channels=1)
    kernel = (v[None, :],)
    u, cache = one_channel.forward(kernel, a)
    _, (record,) = one_channel.backward(kernel, cache, u)
    return gradient(record)[0]  # mean_n Σ_t u ā


@checked
def input_pair(
    H_a: Float[Array, "d_a d_a"] | InverseEstimate,
    a_mean: Float[Array, " d_a"],
    A: Float[Array, "d_a d_a"] | Float[Array, "N T d_a"],
    *,
    lam: float,
) -> Pair:
    r"""Return the input-side pair by Hessian action (6.2).

    .. math:: s_a = H_a\, \bar{\bar a}, \qquad y_a = A s_a + \lambda_A s_a

    Args:
        H_a: estimate of ``(A + lam I)⁻¹``.
        a_mean: ``ā̄``, (d_a,).
        A: the factor (d_a, d_a), or the inputs ``ā`` (N, T, d_a) that it is made of: then it is
            never formed.
        lam: damping ``λ_A``, not negative.

    Source: goldfarb2020kbfgs, ren2021kfqn.
    """
    s = H_a @ a_mean
    As = A @ s if A.ndim == 2 else hessian_action(A, s)
    return Pair(s, As + lam * s)


def output_pair(first: Record, second: Record) -> Pair:
    r"""Return the output-side pair (7.1): mean change of outputs and of their gradients.

    .. math:: s = \operatorname{mean}_{n,t} (h^+ - h), \qquad
        y = \operatorname{mean}_{n,t} (Dh^+ - Dh)

    Args:
        first, second: records before and after the step, on the same mini-batch with the same
            random state.

    Raises:
        ValueError: the two records differ in shape: they are not of the same batch and block.

    Source: goldfarb2020kbfgs, ren2021kfqn.
    """
    if first.h.shape != second.h.shape:
        raise ValueError(
            f"both passes must see one batch, got outputs {first.h.shape}, {second.h.shape}"
        )
    s = (second.h - first.h).mean(axis=(0, 1))
    y = (second.Dh - first.Dh).mean(axis=(0, 1))
    return Pair(s, y)


@checked
def average_pair(old: Pair, new: Pair, *, decay: float) -> Pair:
    r"""Return the moving average of pairs (7.2), ``decay · old + (1 − decay) · new``.

    Raises:
        ValueError: ``decay`` is not in [0, 1).

    Source: goldfarb2020kbfgs.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    s = decay * old.s + (1 - decay) * new.s
    y = decay * old.y + (1 - decay) * new.y
    return Pair(s, y)
