"""What happens to numbers that cannot be used: a wrapper around the plain update, and the counters.

A mini-batch whose loss or gradient is not finite moves nothing; a pair that carries no curvature,
or is not finite, leaves its estimate as it is. Each of these events is counted, none is silent.
"""

from dataclasses import replace

import numpy as np

from kfqn_ref._typing import Array, InverseEstimate, Pair
from kfqn_ref.method.state import BlockState, State
from kfqn_ref.network import Pass


def finite(*arrays: Array) -> bool:
    """Return whether every entry of every array is finite."""
    return all(np.isfinite(array).all() for array in arrays)


def sound(first: Pass) -> bool:
    """Return whether the first pass can be used: its loss and all of its gradients are finite."""
    return bool(np.isfinite(first.loss)) and finite(*first.grads)


def trusted(A: Array) -> Array:
    """Return ``A``, or 0 where it has overflowed: it may, though loss and gradient have not."""
    return A if finite(A) else np.zeros_like(A)


def without_step(state: State) -> State:
    """Return the state after an iteration that could not be made: only counters change."""
    return replace(state, k=state.k + 1, skipped_steps=state.skipped_steps + 1)


def has_curvature(H: InverseEstimate, y: Array) -> bool:
    """Return whether damping can use ``y``: ``yᵀHy`` is positive and finite, so that y ≠ 0."""
    return bool(0 < H @ y @ y < np.inf)


def updated(
    H: InverseEstimate, pair: Pair, g: Array, *, skip_below: float
) -> InverseEstimate | None:
    """Return ``H`` updated by the pair, or None where the pair must be skipped.

    Args:
        g: the mean that ``skip_below`` is relative to, (d,).
        skip_below: the pair is skipped unless ``sᵀy > skip_below ‖s‖² ‖g‖``.
    """
    s, y = pair
    sy = s @ y
    if not (finite(s, y) and np.isfinite(sy)):
        return None
    if not sy > skip_below * (s @ s) * np.linalg.norm(g):
        return None
    H_plus = H.update(s, y)
    if not finite(H_plus @ y):
        return None
    return H_plus


def count_input(block: BlockState, H_a: InverseEstimate | None) -> BlockState:
    """Return the block with its new ``H_a``, counted as an update; None is counted as a skip."""
    counts = block.counts
    if H_a is None:
        return replace(block, counts=replace(counts, skipped_a=counts.skipped_a + 1))
    return replace(block, H_a=H_a, counts=replace(counts, updates_a=counts.updates_a + 1))


def count_output(
    block: BlockState, H_g: InverseEstimate | None, *, damped: bool = False
) -> BlockState:
    """Return the block with its new ``H_g``, counted as in :func:`count_input`.

    Args:
        damped: the damping changed the pair.
    """
    counts = block.counts
    if H_g is None:
        return replace(block, counts=replace(counts, skipped_g=counts.skipped_g + 1))
    counts = replace(counts, updates_g=counts.updates_g + 1, damped_g=counts.damped_g + damped)
    return replace(block, H_g=H_g, counts=counts)
