"""One point of a race: one entrant, one task, one seed, one choice of hyper-parameters.

Everything a point reports is determined by its key: the weights and the order of the mini-batches
come from the seed, the same for every entrant. Time is not among it: it is measured apart
(``timing``).
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.experiments.race.entrants import Entrant
from kfqn_ref.experiments.race.tasks import Images, Task

BLOW_UP = 10.0
"""A run whose loss passes this many times its first loss, or is not finite, has diverged and is
ended.
"""

EVALUATIONS = 8
"""A run is evaluated on held-out images this many times, at equal distances, the last time at its
end.
"""


@dataclass(frozen=True)
class Point:
    """What determines a run, and thereby names it."""

    task: str
    entrant: str
    phase: str
    seed: int
    steps: int
    hyper: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A string that differs between any two points."""
        hyper = ",".join(f"{name}={value:.6g}" for name, value in sorted(self.hyper.items()))
        return f"{self.task}/{self.entrant}/{self.phase}/seed{self.seed}/steps{self.steps}/{hyper}"


def run_point(task: Task, images: Images, entrant: Entrant, point: Point) -> dict[str, Any]:
    """Run a point; return its record: the losses of all mini-batches, and the evaluations.

    ``score`` is the loss on held-out training images at the end; None for a run that diverged.
    """
    model = task.model(images.x.shape[-1], point.seed)
    losses: list[float] = []
    evaluations: list[dict[str, Any]] = []
    count = 1 if point.phase == "tune" else EVALUATIONS
    marks = evaluation_marks(point.steps, count)
    try:
        step = entrant.start(task, model, point.hyper, point.seed)
        torch.manual_seed(point.seed)
        for x, y in mini_batches(images, task.batch, point.steps, point.seed):
            losses.append(step(x, y))
            if not losses[-1] < BLOW_UP * max(losses[0], 1e-8):
                break
            if len(losses) in marks:
                evaluations.append({"step": len(losses), **evaluate(task, images, model)})
    except torch.linalg.LinAlgError:  # type: ignore[reportPrivateImportUsage]  # its documented name
        pass  # a factor of non-finite numbers: the run has diverged
    finished = bool(evaluations) and evaluations[-1]["step"] == point.steps
    score = evaluations[-1]["train_loss"] if finished else None
    record = {**asdict(point), "key": point.key, "score": score}
    if point.phase == "tune":
        return record
    return {**record, "losses": [_short(v) for v in losses], "evaluations": evaluations}


def evaluation_marks(steps: int, count: int) -> set[int]:
    """Return the steps after which a run is evaluated."""
    return {math.ceil(steps * i / count) for i in range(1, count + 1)}


def mini_batches(
    images: Images, size: int, steps: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield mini-batches: epochs of a fresh permutation each, without the incomplete last batch."""
    generator = torch.Generator().manual_seed(seed)
    per_epoch = len(images.x) // size
    order = torch.empty(0, dtype=torch.int64)
    for k in range(steps):
        if k % per_epoch == 0:
            order = torch.randperm(len(images.x), generator=generator)
        index = order[(k % per_epoch) * size :][:size]
        yield images.x[index], images.y[index]


@torch.no_grad()
def evaluate(task: Task, images: Images, model: nn.Module) -> dict[str, float | None]:
    """Return the losses on the first images of both splits, and the share of wrong classes of the
    second.
    """
    model.eval()
    n = task.held_out
    train_loss = task.loss(model(images.x[:n]), images.y[:n])
    outputs = model(images.test_x[:n])
    found = {"train_loss": train_loss, "test_loss": task.loss(outputs, images.test_y[:n])}
    if not task.autoencoder:
        found["test_error"] = (outputs.argmax(1) != images.test_y[:n]).float().mean()
    model.train()
    return {name: _short(float(value)) for name, value in found.items()}


def _short(value: float) -> float | None:
    """Return six significant digits, which is what float32 has; None for what is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
