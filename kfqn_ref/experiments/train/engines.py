"""The two engines that train a network, behind one interface: the NumPy reference and torch.

Both start from the weights that ``network.init`` draws in float64 from the run's seed.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from kfqn_ref.bridge import build, loss_of
from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.models import batch_of, classifies
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.files import pack, unpack
from kfqn_ref.method.baselines import SGD, Adam
from kfqn_ref.method.kfac import KFAC
from kfqn_ref.method.presets import PRESETS, preset
from kfqn_ref.network import Network
from kfqn_ref.optim import KFQN

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


def build_engine(settings: Settings, network: Network, train: Split) -> Engine:
    """The engine that the settings name, at the initial weights.

    Raises:
        ValueError: the optimizer refuses a hyper-parameter or the network.
    """
    kind = TorchEngine if settings.engine == "torch" else ReferenceEngine
    return kind(settings, network, train)


def initial_weights(settings: Settings, network: Network) -> tuple[np.ndarray, ...]:
    """The weights that every engine starts from, float64."""
    return network.init(np.random.default_rng(settings.seed))


def total_score(network: Network, parts: list[tuple[int, float, int]]) -> Score:
    """The score of a split from (size, mean loss, number of hits) of its chunks."""
    size = sum(n for n, _, _ in parts)
    loss = sum(n * value for n, value, _ in parts) / size
    return Score(
        loss, 1 - sum(hits for _, _, hits in parts) / size if classifies(network) else None
    )


def chunks(split: Split) -> list[slice]:
    """Slices of at most ``CHUNK`` samples that cover a split."""
    return [slice(start, start + CHUNK) for start in range(0, len(split.y), CHUNK)]


class ReferenceEngine:
    """The NumPy reference, float64."""

    def __init__(self, settings: Settings, network: Network, train: Split) -> None:
        self.network, self.train = network, train
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
            hits = (
                int((outputs.argmax(1) == split.y[part]).sum()) if classifies(self.network) else 0
            )
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
        self.params, self.memory = unpack(state["params"]), unpack(state["memory"])


def reference_method(settings: Settings) -> Any:
    """The reference optimizer that the settings name."""
    if settings.optimizer in PRESETS:
        return preset(settings.optimizer, **settings.hyper)
    return {"sgd": SGD, "adam": Adam, "kfac": KFAC}[settings.optimizer](**settings.hyper)


class TorchEngine:
    """The torch modules and optimizers, float32 or float64."""

    def __init__(self, settings: Settings, network: Network, train: Split) -> None:
        self.network, self.train = network, train
        self.dtype = getattr(torch, settings.dtype)
        self.model = build(network, initial_weights(settings, network), dtype=self.dtype)
        self.loss = loss_of(network)
        self.optimizer: Any = torch_optimizer(
            settings, self.model
        )  # torch's stub of step knows no tensors

    def _tensors(
        self, split: Split, index: np.ndarray | slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x, target = (torch.from_numpy(array) for array in batch_of(self.network, split, index))
        return x.to(self.dtype), target if classifies(self.network) else target.to(self.dtype)

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
