"""Settings of the whole suite: hypothesis profiles, draws that depend on the seed alone, one
thread, no display; work done once for all workers.
"""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, settings

from kfqn_ref.testing.independence import switch_off_constants

settings.register_profile(
    "ci",
    derandomize=True,  # the same examples every run: a red suite means a change, not luck
    database=None,
    max_examples=50,
    deadline=None,  # no timed assertions
    suppress_health_check=[HealthCheck.too_slow],  # it measures the machine, not the strategy
)
settings.register_profile(
    "thorough", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
switch_off_constants()  # else the draws depend on which modules a worker has imported
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that fills a folder once, whichever worker comes first, for all workers."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # a worker's own folder lies in that of the run

    def folder(name: str, fill: Callable[[Path], None]) -> Path:
        made = run / name
        with FileLock(run / f"{name}.lock"):
            if not (made / "whole").exists():
                made.mkdir(exist_ok=True)
                fill(made)
                (made / "whole").touch()
        return made

    return folder
