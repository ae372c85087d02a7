"""Runs of reference and torch side by side, for the trajectory test and for the mutants of the
torch side.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from kfqn_ref import bridge
from kfqn_ref.layers import Blocks, Conv2d, Flatten, Linear, ReLU, Tanh
from kfqn_ref.losses import SoftmaxCrossEntropy
from kfqn_ref.method.options import LbfgsInput
from kfqn_ref.method.presets import preset
from kfqn_ref.method.state import State
from kfqn_ref.method.step import KFQN as Reference
from kfqn_ref.network import Network
from kfqn_ref.optim import KFQN
from kfqn_ref.pooling import MaxPool2d

CNN = Network(
    (
        Conv2d(1, 4, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(4, 6, 3, stride=2, bias=False, groups=2),
        Tanh(),
        Flatten(),
        Linear(6, 8),
        ReLU(),
        Linear(8, 10),
    ),
    SoftmaxCrossEntropy(),
)
"""Padding, stride, a bias-free layer and a grouped one, all on 8 × 8 images."""

MLP = Network((Linear(64, 12), Tanh(), Linear(12, 10)), SoftmaxCrossEntropy())
"""For the presets that take linear layers only."""

BATCH = 24


class Moment(NamedTuple):
    """Where a run stands: deviation of the twins, path length of the weights, and the two
    states.
    """

    deviation: bridge.Deviation
    path: float
    params: Blocks
    state: State
    opt: KFQN
    model: torch.nn.Sequential


def network_of(name: str) -> Network:
    return MLP if name.endswith("2020") else CNN


@cache
def batches(network: Network, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Noisy prototypes of ten classes, in a fixed order."""
    rng = np.random.default_rng(7)
    prototypes = rng.standard_normal((10, 1, 8, 8))
    drawn = []
    for _ in range(steps):
        target = rng.integers(0, 10, BATCH)
        x = prototypes[target] + rng.standard_normal((BATCH, 1, 8, 8))
        drawn.append((x if network is CNN else x.reshape(BATCH, -1), target))
    return drawn


@cache
def reference_run(
    name: str, steps: int, options: tuple[tuple[str, Any], ...]
) -> tuple[list, Blocks]:
    """Parameters and state after every step of the reference, and the initial parameters."""
    network = network_of(name)
    given = dict(options)
    above = given.pop("lean", None)
    lean = {} if above is None else {"input_inverse": LbfgsInput(lean_above=above)}
    method: Reference = preset(name, **given, **lean)
    initial = params = network.init(np.random.default_rng(3))
    state, moments = method.init(params), []
    for x, target in batches(network, steps):
        params, state, _ = method.step(network, params, state, x, target)
        moments.append((params, state))
    return moments, initial


def side_by_side(
    name: str,
    steps: int,
    *,
    dtype: torch.dtype = torch.float64,
    compile: bool = False,
    **options: Any,
) -> Iterator[Moment]:
    """Yield the state of the two runs after every step; ``dtype`` and ``compile`` are of torch's
    alone.
    """
    network = network_of(name)
    moments, initial = reference_run(name, steps, tuple(sorted(options.items())))
    model = bridge.build(network, initial, dtype=dtype)
    above = options.pop("lean", None)
    factor = {} if above is None else {"input_inverse": "lbfgs", "lean_above": above}
    opt = KFQN(model, name, compile=compile, **factor, **options)
    path, before = 0.0, initial
    for (x, target), (params, state) in zip(batches(network, steps), moments, strict=True):
        opt.step(bridge.closure_of(model, network, x, target))
        path += max(
            float(np.linalg.norm(b - a) / np.linalg.norm(b))
            for a, b in zip(before, params, strict=True)
        )
        before = params
        yield Moment(
            bridge.deviation(opt, model, network, params, state), path, params, state, opt, model
        )
