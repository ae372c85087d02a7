"""Cases in bulk: the strategies of the checks, drawn by NumPy's generator in the place of
hypothesis.

Hypothesis keeps every choice, so as to shrink it; for a hundred thousand cases that costs more than
the laws. Here the same strategies draw from :class:`Draws`, which only answers: same ranges, same
weights, same kinds of cases (the tests measure their frequencies), nothing kept. What fails is
sought again by hypothesis, and shrunk.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis.control import BuildContext
from hypothesis.strategies import SearchStrategy
from hypothesis.strategies._internal.strategies import MappedStrategy, SampledFromStrategy


class Rejected(Exception):
    """A filter found nothing in three attempts; the draw does not count."""


class Draws:
    """What a strategy asks for while it draws: integers, booleans and draws of other strategies.

    It answers the part of hypothesis' ``ConjectureData`` that the strategies of the checks use; one
    that asks for more is an AttributeError.
    """

    provider = SimpleNamespace(avoid_realization=False)

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.events: dict[str, str] = {}
        self.last_rejected_filter_location = lambda: None

    def draw(self, strategy: SearchStrategy[Any], *_: Any, **__: Any) -> Any:
        """A value of ``strategy``.

        Choices and maps take a short way to what ``do_draw`` gives, without its notes for
        shrinking: they are nine draws of ten.
        """
        inner: Any = getattr(strategy, "wrapped_strategy", strategy)
        if type(inner) is SampledFromStrategy and not inner._transformations:
            return inner.elements[self.draw_integer(0, len(inner.elements) - 1)]
        if type(inner) is MappedStrategy:
            return inner.pack(self.draw(inner.mapped_strategy))
        return inner.do_draw(self)  # type: ignore[reportArgumentType]  # it stands in for ConjectureData

    def draw_integer(
        self, min_value: int, max_value: int, *, weights: dict[int, float] | None = None, **_: Any
    ) -> int:
        """Uniform between the bounds, both included; first, by ``weights``, one of the named
        integers.
        """
        if weights:
            at = np.searchsorted(np.cumsum([*weights.values()]), self.rng.random(), side="right")
            if at < len(weights):
                return [*weights][at]
        return int(self.rng.integers(min_value, max_value, endpoint=True))

    def draw_boolean(self, p: float = 0.5, **_: Any) -> bool:
        """True with probability p."""
        return bool(self.rng.random() < p)

    def track_arg_label(self, _: str) -> Any:
        """Nothing is shrunk, so nothing needs a label."""
        return nullcontext({})

    def start_span(self, *_: Any) -> None:
        """As :meth:`track_arg_label`."""

    def stop_span(self, *_: Any, **__: Any) -> None:
        """As :meth:`track_arg_label`."""

    def mark_invalid(self, *_: Any, **__: Any) -> None:
        """Give this draw up."""
        raise Rejected


def draw_case(strategy: SearchStrategy[Any], rng: np.random.Generator) -> Any:
    """One draw of a strategy.

    Raises:
        Rejected: its filters refused what was drawn.
    """
    draws = Draws(rng)
    with BuildContext(draws, wrapped_test=None):  # type: ignore[reportArgumentType]  # it stands in for ConjectureData
        return draws.draw(strategy)


def cases(strategy: SearchStrategy[Any], seed: int) -> Iterator[Any]:
    """Draws of a strategy without end; what its filters refuse is drawn anew."""
    rng = np.random.default_rng(seed)
    while True:
        try:
            case = draw_case(strategy, rng)
        except Rejected:
            continue
        yield case
