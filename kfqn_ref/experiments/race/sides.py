"""Which half of the method helps: each side learns or stays at its start, tuned by one rule.

A variant is tuned over step size and damping on one seed. The grid begins with 3 x 3 points around
the task's centre; as long as its best point lies on an edge, it grows by one row on that side, so
that the optimum is interior unless the budget of extensions is spent, which the results then say.
The losses are those of other seeds at the chosen point.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.experiments.race.entrants import Entrant, Hyper, Stepper, stepper
from kfqn_ref.experiments.race.intervals import difference, interval
from kfqn_ref.experiments.race.report import WINDOW, smoothed
from kfqn_ref.experiments.race.run import Point, run_point
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.tasks import (
    DIGITS,
    FASHION,
    FULL,
    Images,
    Task,
    narrow_autoencoder,
)
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.update import update_

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
DAMPINGS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
EXTENSIONS = 10
TUNING_SEED = 1000
SEEDS = (3, 4, 5, 6, 7)


class Sequence1d(nn.Module):
    """Two 1-D convolutions over the rows of an image, its columns being the channels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(side, 16, 3, padding=1)
        self.second = nn.Conv1d(16, 16, 3, padding=1)
        self.last = nn.Linear(16 * side, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images (N, 1, side, side)."""
        h = torch.relu(self.first(x[:, 0].mT))
        return self.last(torch.relu(self.second(h)).flatten(1))


TASKS = (
    *FULL,
    Task("conv1d", "1-D convolutions over rows, Fashion-MNIST at 14x14", FASHION, Sequence1d, 64,
         240, 120, pool=2),
    Task("narrow", "narrow autoencoder, digits", DIGITS, narrow_autoencoder, 100, 240, 120,
         autoencoder=True, he=True, held_out=297),
)  # fmt: skip  # a table

CENTRES: Mapping[str, tuple[float, float]] = {
    "cnn": (0.3, 1e-2),
    "autoencoder": (0.03, 0.1),
    "resnet": (0.3, 1e-2),
    "vgg": (0.3, 1e-2),
    "allcnn": (0.3, 1e-2),
    "conv1d": (0.3, 1e-2),
    "narrow": (0.1, 0.1),
}
"""Step size and damping around which the grid of a task begins."""


@dataclass(frozen=True)
class Sides:
    """One cell of the ablation.

    Args:
        label: what the results call it.
        input, output: whether ``H_a`` and ``H_g`` learn.
        scaled: ``H_g`` starts from ``I/λ_G``, not from ``I``.
        interval: iterations from one curvature update to the next.
        split: how damping is split, ``sqrt`` or by ``location``.
    """

    label: str
    input: bool
    output: bool
    scaled: bool
    interval: int
    split: str = "sqrt"

    def start(self, task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
        """Return the step of this variant."""
        learning = "kfqn_cnn" if self.split == "sqrt" else "kbfgs_2022"
        preset = learning if self.output else "kfqn_input"
        gamma = 1 / math.sqrt(hyper["damping"]) if self.scaled else 1.0
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="covered:")
            opt = KFQN(model, preset, gamma=gamma, curvature_interval=self.interval, **hyper)
        if not self.input:
            opt._update_ = without_input_
        return stepper(task, model, opt)


def without_input_(states: Sequence[dict[str, Any]], *rest: Any) -> Any:
    """Do the updates, and put every ``H_a`` back to what it was."""
    kept = [state["H_a"]["H"].clone() for state in states]
    damped = update_(states, *rest)
    for state, H in zip(states, kept, strict=True):
        state["H_a"]["H"].copy_(H)
    return damped


VARIANTS = (
    Sides("input, every 1", True, False, False, 1),
    Sides("both, H_g from 1, every 1", True, True, False, 1),
    Sides("both, H_g from 1/λ_G, every 1", True, True, True, 1),
    Sides("input, every 10", True, False, False, 10),
    Sides("neither", False, False, False, 1),
    Sides("output, H_g from 1, every 1", False, True, False, 1),
    Sides("output, H_g from 1/λ_G, every 1", False, True, True, 1),
    Sides("both, H_g from 1, every 10", True, True, False, 10),
    Sides("both, H_g from 1/λ_G, every 10", True, True, True, 10),
    Sides("both, split by locations, every 1", True, True, False, 1, "location"),
)
"""Without an output side its start is a factor of the step size, so it has one value there."""

Loss = float | None
Grid = dict[tuple[int, int], Loss]


def grid_point(task: Task, variant: Sides, at: tuple[int, int]) -> Point:
    """Return the tuning run at these places of :data:`RATES` and :data:`DAMPINGS`."""
    hyper = {"lr": RATES[at[0]], "damping": DAMPINGS[at[1]]}
    return Point(task.name, variant.label, "tune", TUNING_SEED, task.tuning_steps, hyper)


def best_of(grid: Grid) -> tuple[int, int] | None:
    """Return where the loss is lowest; None where all runs diverged."""
    known = {at: loss for at, loss in grid.items() if loss is not None}
    return min(known, key=lambda at: known[at]) if known else None


def next_row(grid: Grid) -> list[tuple[int, int]]:
    """Return the points that make the optimum more interior; none where it is already.

    Where all runs diverged the step size falls.
    """
    best = best_of(grid)
    lrs = sorted({i for i, _ in grid})
    lams = sorted({j for _, j in grid})
    if best is None or best[0] == lrs[0]:
        return [(lrs[0] - 1, j) for j in lams if lrs[0] > 0]
    if best[0] == lrs[-1]:
        return [(lrs[-1] + 1, j) for j in lams if lrs[-1] + 1 < len(RATES)]
    if best[1] == lams[0]:
        return [(i, lams[0] - 1) for i in lrs if lams[0] > 0]
    if best[1] == lams[-1]:
        return [(i, lams[-1] + 1) for i in lrs if lams[-1] + 1 < len(DAMPINGS)]
    return []


def tuned(task: Task, variant: Sides, score: Callable[[Point], Loss]) -> tuple[Grid, bool]:
    """Return the grid of a variant with its losses, and whether its optimum is interior."""
    lr, lam = CENTRES[task.name]
    i = RATES.index(lr)
    j = DAMPINGS.index(lam)
    new = [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    grid: Grid = {}
    for _ in range(EXTENSIONS + 1):
        grid |= {at: score(grid_point(task, variant, at)) for at in new}
        new = next_row(grid)
        if not new:
            break
    return grid, best_of(grid) is not None and not next_row(grid) and not _on_edge(grid)


def _on_edge(grid: Grid) -> bool:
    best = best_of(grid)
    assert best is not None, "the caller asks only where there is one"
    lrs = {i for i, _ in grid}
    lams = {j for _, j in grid}
    return best[0] in (min(lrs), max(lrs)) or best[1] in (min(lams), max(lams))


def final_points(task: Task, variant: Sides, grid: Grid) -> list[Point]:
    """Return the runs of the other seeds at the best point of the grid."""
    best = best_of(grid)
    if best is None:
        return []
    chosen = grid_point(task, variant, best)
    return [replace(chosen, phase="final", seed=seed, steps=task.steps) for seed in SEEDS]


def chosen(names: Sequence[str]) -> tuple[Task, ...]:
    """Return the tasks of these names; none named is all.

    Raises:
        ValueError: a name is not one of a task.
    """
    known = [task.name for task in TASKS]
    for name in names:
        if name not in known:
            raise ValueError(f"the task must be one of {', '.join(known)}, got {name!r}")
    return tuple(task for task in TASKS if not names or task.name in names)


def runs(tasks: Sequence[Task] = TASKS) -> int:
    """Return how many runs there are at least; grids that grow have more."""
    return len(tasks) * len(VARIANTS) * (9 + len(SEEDS))


def run_sides(
    store: Store, tell: Callable[[str], None] = lambda key: None, tasks: Sequence[Task] = TASKS
) -> None:
    """Run what the store does not have yet."""
    for task in tasks:
        images = task.images()
        for variant in VARIANTS:
            entrant = Entrant(variant.label, variant.label, variant.start, [{}] * 6, ours=True)

            def score(
                point: Point, task: Task = task, images: Images = images, entrant: Entrant = entrant
            ) -> Loss:
                if point.key not in store:
                    store.add(run_point(task, images, entrant, point))
                tell(point.key)
                return store[point.key]["score"]

            grid, _ = tuned(task, variant, score)
            for point in final_points(task, variant, grid):
                score(point)


def results(store: Store, tasks: Sequence[Task] = TASKS) -> dict[str, Any]:
    """Return what the store holds, as plain values: chosen points, losses, means and intervals."""
    settings = {
        "rates": RATES,
        "dampings": DAMPINGS,
        "extensions": EXTENSIONS,
        "tuning_seed": TUNING_SEED,
        "seeds": SEEDS,
        "loss": f"mean over the last {WINDOW} mini-batches of a run",
        "tuned_by": "loss on fixed training images at the end of a run of the tuning seed",
    }
    return {**settings, "tasks": {task.name: _of_task(task, store) for task in tasks}}


def _of_task(task: Task, store: Store) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for variant in VARIANTS:
        row = _row(task, variant, store)
        if row is not None:
            rows[variant.label] = row
    reference = rows.get("input, every 1", {}).get("losses", [])
    for row in rows.values():
        row["minus_input"] = difference(row["losses"], reference)
    sizes = {"title": task.title, "batch": task.batch, "steps": task.steps}
    return {**sizes, "rows": rows}


def _row(task: Task, variant: Sides, store: Store) -> dict[str, Any] | None:
    """Return the row of a variant; None where a run is missing."""
    try:
        grid, interior = tuned(task, variant, lambda point: store[point.key]["score"])
        finals = [store[point.key] for point in final_points(task, variant, grid)]
    except KeyError:
        return None
    best = best_of(grid)
    if best is None:
        return None
    losses = [_final_loss(record) for record in finals]
    hyper = {"lr": RATES[best[0]], "damping": DAMPINGS[best[1]]}
    points = {"points": len(grid), "interior": interior}
    errors = [
        record["evaluations"][-1].get("test_error")
        for record in finals
        if record["score"] is not None
    ]
    return {**hyper, **points, "losses": losses, "test_errors": errors, **interval(losses)}


def _final_loss(record: dict[str, Any]) -> Loss:
    if record["score"] is None:
        return None
    return smoothed(record["losses"], record["steps"])
