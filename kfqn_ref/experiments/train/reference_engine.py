"""The engine of the NumPy reference."""

from typing import Any

import numpy as np

from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.models import batch_of, classifies
from kfqn_ref.experiments.train.engine import Score, chunks, initial_weights, total_score
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.files import pack, unpack
from kfqn_ref.method.baselines import SGD, Adam
from kfqn_ref.method.kfac import KFAC
from kfqn_ref.method.presets import PRESETS, preset
from kfqn_ref.network import Network


class ReferenceEngine:
    """The NumPy reference, float64."""

    def __init__(self, settings: Settings, network: Network, train: Split) -> None:
        self.network = network
        self.train = train
        self.method = reference_method(settings)
        self.params = initial_weights(settings, network)
        self.memory: Any = self.method.init(self.params)

    def step(self, index: np.ndarray) -> float:
        x, target = batch_of(self.network, self.train, index)
        self.params, self.memory, loss = self.method.step(
            self.network, self.params, self.memory, x, target
        )
        return loss

    def evaluate(self, split: Split) -> Score:
        parts = []
        for part in chunks(split):
            x, target = batch_of(self.network, split, part)
            outputs = self.network.predict(self.params, x)
            right = outputs.argmax(1) == split.y[part] if classifies(self.network) else 0
            hits = int(np.sum(right))
            parts.append((len(x), float(self.network.loss.value(outputs, target).mean()), hits))
        return total_score(self.network, parts)

    def events(self) -> dict[str, int]:
        blocks = [b for b in getattr(self.memory, "blocks", ()) if hasattr(b, "counts")]
        if not blocks:
            return {}
        return {
            "pairs_damped": sum(b.counts.damped_g for b in blocks),
            "pairs_skipped": sum(b.counts.skipped_a + b.counts.skipped_g for b in blocks),
        }

    def state(self) -> dict[str, Any]:
        return {"params": pack(self.params), "memory": pack(self.memory)}

    def load(self, state: dict[str, Any]) -> None:
        self.params = unpack(state["params"])
        self.memory = unpack(state["memory"])


def reference_method(settings: Settings) -> Any:
    """The reference optimizer that the settings name."""
    if settings.optimizer in PRESETS:
        return preset(settings.optimizer, **settings.hyper)
    return {"sgd": SGD, "adam": Adam, "kfac": KFAC}[settings.optimizer](**settings.hyper)
