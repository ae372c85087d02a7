"""A training run that kills itself at a bad moment, for a process of its own."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfqn_ref.experiments.data import digits
from kfqn_ref.experiments.train import run
from kfqn_ref.experiments.train.settings import Settings


def train_and_die(where: str, count: int, out: Path) -> None:
    """Train until the ``count``-th call of a place, and be killed before that call."""
    owner, name = {
        "fsync": (os, "fsync"),  # before the new file takes its name
        "rename": (Path, "replace"),  # at the moment it takes it
        "epoch": (run.Run, "_finish_epoch"),  # within an epoch
    }[where]
    setattr(owner, name, _deadly(getattr(owner, name), count))
    settings = Settings(model="mlp", batch_size=40, epochs=2, dtype="float64")
    resume = (out / run.CHECKPOINT).exists()
    run.Run(settings, digits().first(120), out, resume=resume).train()


def _deadly(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    calls = iter(range(1, count + 1))

    def counted(*args: Any, **options: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)

    return counted
