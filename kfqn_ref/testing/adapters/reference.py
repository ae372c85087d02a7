"""The NumPy reference: its functions have the names already; only whole runs need an adapter."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from kfqn_ref import bfgs, damping, factors, hessian, kronecker, lbfgs, network, patches
from kfqn_ref.method.presets import preset as preset_of
from kfqn_ref.testing.implementation import NAMES
from kfqn_ref.testing.strategies.networks import BlockView, Snapshot

Batches = tuple[tuple[np.ndarray, np.ndarray], ...]


def view(block: Any) -> BlockView:
    """What the checks see of the state of a block."""
    counts = block.counts
    return BlockView(
        block.H_a.dense(),
        block.H_g.dense(),
        block.lambda_a,
        block.lambda_g,
        block.T,
        counts.updates_a,
        counts.skipped_a,
        counts.updates_g,
        counts.damped_g,
        counts.skipped_g,
    )


def optimizer_steps(
    network: Any, params: Any, batches: Batches, *, preset: str, **options: Any
) -> list[Snapshot]:
    """One snapshot a step of the reference's optimizer, with the direction (4.7)."""
    method = preset_of(preset, **options)
    state = method.init(params)
    snapshots = []
    for x, target in batches:
        params, state, _ = method.step(network, params, state, x, target)
        snapshots.append(Snapshot(params, tuple(map(view, state.blocks))))
    return snapshots


MODULES = (bfgs, damping, lbfgs, kronecker, patches, factors, hessian, network)


def names() -> dict[str, Any]:
    """All names that the checks know, as the reference provides them."""
    found = {
        name: vars(module)[name] for module in MODULES for name in NAMES if name in vars(module)
    }
    return found | {"optimizer_steps": optimizer_steps}


REFERENCE = SimpleNamespace(**names())
"""All of it as one object: ``kfqn check kfqn_ref.testing.adapters.reference:REFERENCE``."""
