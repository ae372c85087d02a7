"""A training loop over mini-batches, for every optimizer of the reference."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from numpy.random import Generator

from kfqn_ref._typing import Array
from kfqn_ref.layers import Blocks
from kfqn_ref.method.state import Step
from kfqn_ref.network import Network


class Optimizer(Protocol):
    """What :func:`fit` needs of an optimizer."""

    def init(self, params: Blocks) -> Any:
        """Return the state before the first iteration."""
        ...

    def step(self, network: Network, params: Blocks, state: Any, x: Array, target: Array) -> Step:
        """Return parameters, state and loss after one iteration."""
        ...


def minibatches(
    x: Array, target: Array, batch_size: int, rng: Generator
) -> Iterator[tuple[Array, Array]]:
    """Yield the samples of one epoch in mini-batches, in an order drawn from ``rng``; a rest is
    left out.

    Args:
        x, target: N samples each.   batch_size: in [1, N].

    Raises:
        ValueError: ``x`` and ``target`` differ in length, or ``batch_size`` is outside [1, N].
    """
    if len(x) != len(target):
        raise ValueError(f"x and target must have the same length, got {len(x)} and {len(target)}")
    if not 1 <= batch_size <= len(x):
        raise ValueError(f"batch_size must be in [1, {len(x)}], got {batch_size}")
    order = rng.permutation(len(x))
    for start in range(0, len(x) - batch_size + 1, batch_size):
        rows = order[start : start + batch_size]
        yield x[rows], target[rows]


def fit(
    optimizer: Optimizer,
    network: Network,
    params: Blocks,
    batches: Iterable[tuple[Array, Array]],
    state: Any = None,
) -> Iterator[Step]:
    """Yield the :class:`~kfqn_ref.method.state.Step` of every mini-batch.

    Args:
        state: where to continue from; None starts with ``optimizer.init(params)``.
    """
    state = optimizer.init(params) if state is None else state
    for x, target in batches:
        step = optimizer.step(network, params, state, x, target)
        params = step.params
        state = step.state
        yield step
