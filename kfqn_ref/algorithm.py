"""KF-QN-CNN on one page: the start, and one iteration, with the step numbers of the book.

This page is made of the public functions of the reference and holds nothing else: it validates no
argument, guards against no number and counts nothing. The method with its variants is
:mod:`kfqn_ref.method`, and ``preset("kfqn_cnn")`` walks the same path to rounding.

A network is a chain of layers; ``params`` are its weight matrices ``W`` (d_g, d_a), one a block,
with the bias as the last column. ``Dh`` is the gradient of the per-sample loss, without 1/N.

Source: ren2021kfqn.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

from kfqn_ref._typing import Array, Pair
from kfqn_ref.bfgs import bfgs_inverse_update
from kfqn_ref.damping import dp_dlm_damp
from kfqn_ref.factors import average_pair, input_factor, input_mean, input_pair, output_pair
from kfqn_ref.layers import Blocks
from kfqn_ref.network import Network, forward_backward


class Block(NamedTuple):
    """What the method remembers of one block, in the shapes of ``W``, ``A``, ``G`` and (d_g,)."""

    M: Array  # moving average of the gradient
    H_a: Array  # estimate of (A + λ_A I)⁻¹
    H_g: Array  # estimate of (G + λ_G I)⁻¹
    averaged: Pair  # moving average of the output pairs


def start(
    network: Network, params: Blocks, x: Array, target: Array, *, lam: float = 0.1
) -> list[Block]:
    """Return the blocks before the first iteration, from the inputs of its mini-batch (step 0)."""
    blocks = []
    for W, seen in zip(params, forward_backward(network, params, x, target).records, strict=True):
        H_a = np.linalg.inv(input_factor(seen.a_bar) + sqrt(lam) * np.eye(W.shape[1]))
        nothing = Pair(np.zeros(W.shape[0]), np.zeros(W.shape[0]))
        blocks.append(Block(np.zeros(W.shape), H_a, np.eye(W.shape[0]), nothing))
    return blocks


def iteration(
    network: Network, params: Blocks, blocks: list[Block], x: Array, target: Array,
    *, alpha: float = 0.3, lam: float = 0.1, beta: float = 0.9, mu1: float = 0.2, tau: float = 0.0,
) -> tuple[Blocks, list[Block]]:  # fmt: skip  # the signature stays three lines
    """Return the parameters and the blocks after one iteration on the mini-batch (x, target)."""
    lambda_a = sqrt(lam)
    lambda_g = sqrt(lam)
    # 1. First pass: inputs ā, outputs h, gradients Dh, and ∇_W f = mean_n Σ_t Dh āᵀ.
    first = forward_backward(network, params, x, target)
    moved = []
    learnt = []
    for W, grad, seen, block in zip(params, first.grads, first.records, blocks, strict=True):
        # 2. Momentum, with weight decay τ.
        M = beta * block.M + (1 - beta) * (grad + tau * W)
        # 3. Step along P = H_g M H_a (4.7), with the estimates of the iteration before.
        moved.append(W - alpha * block.H_g @ M @ block.H_a)
        # 4.1 Input pair by Hessian action (6.2) from the first pass; BFGS (1.3) applies it at once.
        s_a, y_a = input_pair(block.H_a, input_mean(seen.a_bar), seen.a_bar, lam=lambda_a)
        H_a = bfgs_inverse_update(block.H_a, s_a, y_a)
        learnt.append(block._replace(M=M, H_a=H_a))
    # 4.2 Second pass on the same mini-batch, at the new weights.
    second = forward_backward(network, tuple(moved), x, target)
    updated = []
    for before, after, block in zip(first.records, second.records, learnt, strict=True):
        # 4.3 Output pair (7.1) from the changes between the two passes, averaged (7.2).
        averaged = average_pair(block.averaged, output_pair(before, after), decay=beta)
        # 4.4 Damping D_P D_LM: Powell's (2.1), then Levenberg-Marquardt's (2.3).
        s, y = dp_dlm_damp(block.H_g, averaged.s, averaged.y, mu1=mu1, lam=lambda_g)
        # 4.5 Update of H_g by BFGS (1.3).
        H_g = bfgs_inverse_update(block.H_g, s, y)
        updated.append(block._replace(H_g=H_g, averaged=averaged))
    return tuple(moved), updated
