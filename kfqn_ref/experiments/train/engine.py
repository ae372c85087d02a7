"""What an engine that trains a network offers, and what both engines share.

An engine starts from the weights that ``network.init`` draws in float64 from the run's seed.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np

from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.models import classifies
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.network import Network

CHUNK = 500  # images evaluated at a time


class Score(NamedTuple):
    """Mean loss over a split, and the share of wrong classes (None without classes)."""

    loss: float
    error: float | None


class Engine(Protocol):
    """What the training loop needs."""

    def step(self, index: np.ndarray) -> float:
        """One step on the training images ``index``; the loss before it."""
        ...

    def evaluate(self, split: Split) -> Score:
        """Loss and error of a whole split."""
        ...

    def events(self) -> dict[str, int]:
        """How many pairs were damped and skipped so far; empty for optimizers without pairs."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as a checkpoint holds it."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` returned."""
        ...


def initial_weights(settings: Settings, network: Network) -> tuple[np.ndarray, ...]:
    """The weights that every engine starts from, float64."""
    return network.init(np.random.default_rng(settings.seed))


def total_score(network: Network, parts: list[tuple[int, float, int]]) -> Score:
    """The score of a split from (size, mean loss, number of hits) of its chunks."""
    size = sum(n for n, _, _ in parts)
    loss = sum(n * value for n, value, _ in parts) / size
    if not classifies(network):
        return Score(loss, None)
    return Score(loss, 1 - sum(hits for _, _, hits in parts) / size)


def chunks(split: Split) -> list[slice]:
    """Slices of at most ``CHUNK`` samples that cover a split."""
    return [slice(start, start + CHUNK) for start in range(0, len(split.y), CHUNK)]
