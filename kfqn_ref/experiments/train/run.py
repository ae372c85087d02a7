"""The training loop: deterministic batches, a checkpoint after every epoch, and exact continuation.

What is on disk is consistent at any moment: ``checkpoint.pt`` is replaced as a whole and holds the
history, and ``metrics.jsonl`` and ``curves.png`` are made from that history.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kfqn_ref.experiments.data import Data
from kfqn_ref.experiments.models import build_network
from kfqn_ref.experiments.plots import plot_run
from kfqn_ref.experiments.train.engine import Engine, Score
from kfqn_ref.experiments.train.engines import build_engine
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.files import CheckpointError, load, save, write_atomically

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
CURVES = "curves.png"


@dataclass(frozen=True)
class Position:
    """Where a run is: whole epochs done, steps done in the current one, and what they measured."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: tuple[dict[str, Any], ...] = ()


class Stopped(Exception):
    """The run was asked to stop, did so after a step, and is saved."""


class Diverged(Exception):
    """The training loss is not finite; the run is saved up to there."""


def epoch_batches(seed: int, epoch: int, size: int, batch_size: int) -> np.ndarray:
    """Indices (steps, batch_size) of one epoch's batches, a function of seed and epoch; a rest is
    left out.

    Raises:
        ValueError: the batch is larger than the data.
    """
    if batch_size > size:
        raise ValueError(f"batch_size must be at most the {size} training images, got {batch_size}")
    steps = size // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(size)
    return order[: steps * batch_size].reshape(steps, batch_size)


def has_results(out: Path) -> bool:
    """Whether a run has written into the directory."""
    return any((out / name).exists() for name in (CHECKPOINT, METRICS))


class Run:
    """A training run that lives in the directory ``out``.

    Args:
        settings: what is trained, and how.   data: the images.
        out: directory of the run, created if missing.
        resume: go on from the checkpoint in ``out``.

    Raises:
        ValueError: the settings do not fit the data or the optimizer.
        CheckpointError: there is no usable checkpoint, or its data were others.
    """

    def __init__(self, settings: Settings, data: Data, out: Path, *, resume: bool = False) -> None:
        self.settings = settings
        self.data = data
        self.out = out
        self.steps = len(epoch_batches(settings.seed, 0, len(data.train.y), settings.batch_size))
        network = build_network(settings.model, data.train.x.shape[2:], data.classes)
        self.engine: Engine = build_engine(settings, network, data.train)
        self.position = Position()
        if resume:
            self._restore(load(out / CHECKPOINT))
        out.mkdir(parents=True, exist_ok=True)
        self.save()

    def _restore(self, content: dict[str, Any]) -> None:
        if content["data"] != self.data.fingerprint:
            raise CheckpointError(
                f"{self.out / CHECKPOINT} belongs to other data than the {self.settings.data} given"
            )
        self.engine.load(content["engine"])
        self.position = Position(
            **{**content["position"], "history": tuple(content["position"]["history"])}
        )

    def save(self) -> None:
        """Replace the checkpoint, then the files made from its history."""
        content = {
            "settings": asdict(self.settings),
            "data": self.data.fingerprint,
            "position": {**asdict(self.position), "history": list(self.position.history)},
            "engine": self.engine.state(),
        }
        save(self.out / CHECKPOINT, content)
        lines = [json.dumps(record, allow_nan=False) + "\n" for record in self.position.history]
        write_atomically(self.out / METRICS, "".join(lines).encode())

    def train(
        self,
        *,
        should_stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int, float], None] = lambda done, loss: None,
        on_epoch: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        """Train until ``settings.epochs`` are done.

        Args:
            should_stop: asked after every step.
            on_step: told the steps done of all epochs, and the loss.
            on_epoch: told the record of every finished epoch.

        Raises:
            Stopped: ``should_stop`` said so.
            Diverged: the training loss after an epoch is not finite.
        """
        while self.position.epoch < self.settings.epochs:
            self._finish_epoch(should_stop, on_step)
            record = self.position.history[-1]
            self.save()
            plot_run(self.position.history, self.title, self.out / CURVES)
            on_epoch(record)
            if record["train_loss"] is None:
                raise Diverged(f"the training loss is not finite after epoch {record['epoch']}")

    @property
    def title(self) -> str:
        """What the curves show, in one line."""
        s = self.settings
        data = f"{s.data}, transposed" if s.transposed else s.data
        return f"{s.optimizer} ({s.engine}), {s.model} on {data}, batch {s.batch_size}"

    def _finish_epoch(
        self, should_stop: Callable[[], bool], on_step: Callable[[int, float], None]
    ) -> None:
        s = self.settings
        at = self.position
        for index in epoch_batches(s.seed, at.epoch, len(self.data.train.y), s.batch_size)[
            at.step :
        ]:
            start = time.perf_counter()
            loss = self.engine.step(index)
            seconds = at.seconds + time.perf_counter() - start
            at = replace(at, step=at.step + 1, loss_sum=at.loss_sum + loss, seconds=seconds)
            self.position = at
            on_step(at.epoch * self.steps + at.step, loss)
            if should_stop():
                self.save()
                raise Stopped
        record = self._record(
            at, self.engine.evaluate(self.data.train), self.engine.evaluate(self.data.test)
        )
        self.position = Position(at.epoch + 1, 0, 0.0, at.seconds, (*at.history, record))

    def _record(self, at: Position, train: Score, test: Score) -> dict[str, Any]:
        """One line of the metrics: losses and errors after the epoch, seconds spent in steps so
        far.
        """
        return {
            "epoch": at.epoch + 1,
            "optimizer": self.settings.optimizer,
            "steps": (at.epoch + 1) * self.steps,
            "mean_step_loss": _finite(at.loss_sum / self.steps),
            "train_loss": _finite(train.loss),
            "train_error": train.error,
            "test_loss": _finite(test.loss),
            "test_error": test.error,
            **self.engine.events(),
            "seconds": round(at.seconds, 4),
        }


def _finite(value: float) -> float | None:
    """The value, or None (JSON's null) where it is not finite."""
    return value if math.isfinite(value) else None
