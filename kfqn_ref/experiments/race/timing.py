"""Step times: all entrants of a task in one process, their steps interleaved with SGD's.

A machine that others use too slows down and speeds up while one measures. So every entrant takes
one step in turn, round after round, and what is reported is the ratio to SGD: of the medians, and
of the means.
"""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from kfqn_ref.experiments.race.entrants import ENTRANTS, Stepper
from kfqn_ref.experiments.race.run import mini_batches
from kfqn_ref.experiments.race.tasks import Images, Task

WARM_UP = 10
"""Rounds that are not counted: first steps allocate, and form the first factors."""


def step_times(
    task: Task, images: Images, chosen: Mapping[str, Mapping[str, Any]], rounds: int
) -> dict[str, dict[str, float]]:
    """Return median and mean seconds of a step and their ratios to SGD's.

    Args:
        chosen: the hyper-parameters of every entrant; ``sgd`` among them.
        rounds: counted rounds; the mean counts what happens every 10th step only if it is a
            multiple of 10.
    """
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    steppers = {name: _fresh(task, images, name, hyper) for name, hyper in chosen.items()}
    for k, (x, y) in enumerate(mini_batches(images, task.batch, WARM_UP + rounds, 0)):
        for name, hyper in chosen.items():
            before = time.perf_counter()
            try:
                steppers[name](x, y)
            except torch.linalg.LinAlgError:  # type: ignore[reportPrivateImportUsage]  # its documented name
                steppers[name] = _fresh(task, images, name, hyper)  # diverged: not counted
                continue
            if k >= WARM_UP:
                seconds[name].append(time.perf_counter() - before)
    return with_ratios({n: (statistics.median(t), statistics.fmean(t)) for n, t in seconds.items()})


def _fresh(task: Task, images: Images, name: str, hyper: Mapping[str, Any]) -> Stepper:
    return ENTRANTS[name].start(task, task.model(images.x.shape[-1], 0), hyper, 0)


def with_ratios(times: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Return the times (median, mean) with their ratios to those of ``sgd``."""
    median_sgd, mean_sgd = times["sgd"]
    return {
        name: {
            "median_s": median, "mean_s": mean,
            "median_ratio": median / median_sgd, "mean_ratio": mean / mean_sgd,
        }
        for name, (median, mean) in times.items()
    }  # fmt: skip  # two and two
