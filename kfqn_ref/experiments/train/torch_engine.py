"""The engine of torch: the modules equal to a network of the reference, and torch's optimizers."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kfqn_ref.bridge import build, loss_of
from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.models import batch_of, classifies
from kfqn_ref.experiments.train.engine import Score, chunks, initial_weights, total_score
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.presets import PRESETS

if TYPE_CHECKING:
    from kfqn_ref.network import Network


class TorchEngine:
    """The torch modules and optimizers, float32 or float64."""

    def __init__(self, settings: Settings, network: "Network", train: Split) -> None:
        self.network = network
        self.train = train
        self.dtype = getattr(torch, settings.dtype)
        self.model = build(network, initial_weights(settings, network), dtype=self.dtype)
        self.loss = loss_of(network)
        # Any, since torch's stub of step knows no tensors
        self.optimizer: Any = torch_optimizer(settings, self.model)

    def _tensors(
        self, split: Split, index: np.ndarray | slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x, target = (torch.from_numpy(array) for array in batch_of(self.network, split, index))
        if not classifies(self.network):
            target = target.to(self.dtype)
        return x.to(self.dtype), target

    def step(self, index: np.ndarray) -> float:
        x, target = self._tensors(self.train, index)

        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(self.model(x), target)
            loss.backward()
            return loss

        return self.optimizer.step(closure).item()

    @torch.no_grad()
    def evaluate(self, split: Split) -> Score:
        parts = []
        for part in chunks(split):
            x, target = self._tensors(split, part)
            outputs = self.model(x)
            hits = int((outputs.argmax(1) == target).sum()) if classifies(self.network) else 0
            parts.append((len(x), float(self.loss(outputs, target)), hits))
        return total_score(self.network, parts)

    def events(self) -> dict[str, int]:
        if not isinstance(self.optimizer, KFQN):
            return {}
        layers = [m for m in self.model if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
        counts = [self.optimizer.curvature(module).counts for module in layers]
        return {
            "pairs_damped": sum(c.damped_g for c in counts),
            "pairs_skipped": sum(c.skipped_a + c.skipped_g for c in counts),
        }

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def torch_optimizer(settings: Settings, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The torch optimizer that the settings name."""
    if settings.optimizer in PRESETS:
        return KFQN(model, preset=settings.optimizer, **settings.hyper)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), **{"lr": 0.1, "momentum": 0.9, **settings.hyper})
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer](
        model.parameters(), **settings.hyper
    )
