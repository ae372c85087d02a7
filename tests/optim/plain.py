"""KF-QN-CNN in plain formulas, for layers of which a function gives rows, outputs and gradients."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from kfqn_ref._typing import Pair
from kfqn_ref.algorithm import Block
from kfqn_ref.bfgs import bfgs_inverse_update
from kfqn_ref.damping import dp_dlm_damp
from kfqn_ref.factors import average_pair, input_factor, input_mean, input_pair, output_pair
from kfqn_ref.layers import Record

LAM = 0.1**0.5


def plain_steps(
    one_pass: Callable[..., list[Record]],
    Ws: list[np.ndarray],
    batches: Sequence[tuple[Any, ...]],
    trained: Sequence[int],
    *,
    output: bool,
    exact: Collection[int] = (),
) -> list[np.ndarray]:
    """Return the weights after a step on each mini-batch, as on the page of the algorithm.

    Args:
        one_pass: takes the weights and what a mini-batch consists of.
        Ws: the weights of all layers, (d_g, d_a).   trained: the numbers of those that move.
        output: whether ``H_g`` learns; else it is ``I``.
        exact: layers whose ``H_a`` is the inverse of the average of ``A``, not a BFGS estimate.
    """
    Ws = list(Ws)
    blocks = []
    averages = {}
    for i, seen in enumerate(one_pass(Ws, *batches[0])):
        d_g, d_a = Ws[i].shape
        averages[i] = input_factor(seen.a_bar)
        H_a = np.linalg.inv(averages[i] + LAM * np.eye(d_a))
        nothing = Pair(np.zeros(d_g), np.zeros(d_g))
        blocks.append(Block(np.zeros((d_g, d_a)), H_a, np.eye(d_g), nothing))
    for batch in batches:
        first = one_pass(Ws, *batch)
        for i in trained:
            seen = first[i]
            block = blocks[i]
            grad = np.einsum("ntg,nta->ga", seen.Dh, seen.a_bar) / len(seen.Dh)
            M = 0.9 * block.M + 0.1 * grad
            Ws[i] = Ws[i] - 0.3 * block.H_g @ M @ block.H_a
            if i in exact:
                averages[i] = 0.9 * averages[i] + 0.1 * input_factor(seen.a_bar)
                H_a = np.linalg.inv(averages[i] + LAM * np.eye(len(averages[i])))
            else:
                pair = input_pair(block.H_a, input_mean(seen.a_bar), seen.a_bar, lam=LAM)
                H_a = bfgs_inverse_update(block.H_a, *pair)
            blocks[i] = block._replace(M=M, H_a=H_a)
        second = one_pass(Ws, *batch)
        for i in trained if output else ():
            block = blocks[i]
            averaged = average_pair(block.averaged, output_pair(first[i], second[i]), decay=0.9)
            s, y = dp_dlm_damp(block.H_g, averaged.s, averaged.y, mu1=0.2, lam=LAM)
            H_g = bfgs_inverse_update(block.H_g, s, y)
            blocks[i] = block._replace(H_g=H_g, averaged=averaged)
    return Ws
