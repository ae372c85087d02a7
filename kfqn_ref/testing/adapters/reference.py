"""The NumPy reference: its functions have the names already; only whole runs need an adapter."""

from types import SimpleNamespace
from typing import Any

import numpy as np

import kfqn_ref
from kfqn_ref.testing.strategies.networks import BlockView, Snapshot

Batches = tuple[tuple[np.ndarray, np.ndarray], ...]


def view(block: Any) -> BlockView:
    """What the checks see of the state of a block."""
    counts = block.counts
    return BlockView(
        block.H_a.dense(), block.H_g.dense(), block.lambda_a, block.lambda_g, block.T, counts.updates_a,
        counts.skipped_a, counts.updates_g, counts.damped_g, counts.skipped_g,
    )  # fmt: skip  # the fields in their order


def optimizer_steps(
    network: Any, params: Any, batches: Batches, *, preset: str, **options: Any
) -> list[Snapshot]:
    """One snapshot a step of the reference's optimizer."""
    method = kfqn_ref.preset(preset, **options)
    state, snapshots = method.init(params), []
    for x, target in batches:
        params, state, _ = method.step(network, params, state, x, target)
        snapshots.append(Snapshot(params, tuple(map(view, state.blocks))))
    return snapshots


def names() -> dict[str, Any]:
    """All names the reference provides."""
    return vars(kfqn_ref) | {"optimizer_steps": optimizer_steps}


REFERENCE = SimpleNamespace(**names())
"""All of it as one object: ``kfqn check kfqn_ref.testing.adapters.reference:REFERENCE``."""
