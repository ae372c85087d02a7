"""Settings of the whole suite: hypothesis profiles, one thread, no display."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import torch
from hypothesis import HealthCheck, settings

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
torch.set_num_threads(1)
