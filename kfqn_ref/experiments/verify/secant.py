"""The secant equation on a run of KFQN: every accepted pair, made anew, against both sides'
matrices.
"""

from collections.abc import Iterator

import numpy as np

from kfqn_ref.experiments.data import Split
from kfqn_ref.factors import input_mean, input_pair
from kfqn_ref.method.state import BlockState, State, Step
from kfqn_ref.method.step import KFQN
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.testing.tolerances import FLOAT64, inverse_update

Blocks = list[np.ndarray]


def blocks_of(step: Step) -> tuple[BlockState, ...]:
    """The blocks of the state after a step of KFQN."""
    assert isinstance(step.state, State), "the other optimizers have no such blocks"
    return step.state.blocks


def secant_residuals(
    method: KFQN,
    network: Network,
    steps: tuple[Step, Step],
    batch: Split,
    torch_H: tuple[Blocks, Blocks],
    allowed: float,
) -> Iterator[tuple[float, float]]:
    """``‖H⁺y − s‖ / ‖s‖`` of every pair accepted in a step, on both sides, and its bound.

    Args:
        method, network: the reference.
        steps: the reference before and after the step on ``batch``.
        torch_H: H_a and H_g of torch after it.
        allowed: their relative distance from the reference at most.
    """
    before, after = steps
    records = forward_backward(network, before.params, *batch).records
    sides = zip(blocks_of(before), blocks_of(after), records, *torch_H, strict=True)
    for old, new, record, torch_H_a, torch_H_g in sides:
        if new.H_a is not None and new.counts.updates_a > old.counts.updates_a:
            A_0 = _factor(new, record.a_bar)
            start = method.options.input_inverse.start(A_0, new.lambda_a, method.memory)
            H = old.H_a or start
            source = record.a_bar if new.A is None else new.A
            s, y = input_pair(H, input_mean(record.a_bar), source, lam=new.lambda_a)
            yield from _residuals(H.dense(), s, y, (new.H_a.dense(), torch_H_a), allowed)
        if new.counts.updates_g > old.counts.updates_g:
            (s, y), _ = method.options.damp(old.H_g, new.s_g, new.y_g, method.mu1, new.lambda_g)
            yield from _residuals(old.H_g.dense(), s, y, (new.H_g.dense(), torch_H_g), allowed)


def _factor(block: BlockState, a_bar: np.ndarray) -> np.ndarray:
    """The factor A_0 of the first mini-batch."""
    flat = a_bar.reshape(-1, a_bar.shape[-1])
    return flat.T @ flat / len(a_bar) if block.A is None else block.A


def _residuals(
    H: np.ndarray,
    s: np.ndarray,
    y: np.ndarray,
    updated: tuple[np.ndarray, np.ndarray],
    allowed: float,
) -> Iterator[tuple[float, float]]:
    rounding = inverse_update(FLOAT64.u, H, s, y)
    for H_plus, extra in zip(updated, (0.0, allowed), strict=True):
        bound = (rounding + extra * np.linalg.norm(H_plus)) * np.linalg.norm(y)
        yield (
            float(np.linalg.norm(H_plus @ y - s) / np.linalg.norm(s)),
            float(bound / np.linalg.norm(s)),
        )
