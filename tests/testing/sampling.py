"""Draws of a strategy, the same ones every time."""

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy


def sample(strategy: SearchStrategy[Any], size: int = 400) -> list[Any]:
    draws: list[Any] = []

    @settings(
        max_examples=size,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # this is what measures the strategies
    )
    @given(strategy)
    def collect(draw: Any) -> None:
        draws.append(draw)

    collect()
    return draws
