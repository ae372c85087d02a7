"""How a grid grows until its best point is interior: one rule for every entrant.

The first six points are the entrant's own. After them a compass search adds what the best point
lacks: in every hyper-parameter a tried value on both sides of it, the others being equal. It ends
when nothing is missing, or at ``LIMIT`` points, which the report then says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Hyper = Mapping[str, Any]
Loss = float | None

LIMIT = 15
FACTOR = {"lr": 2.0, "adamw_lr": 2.0, "damping": 3.0}
"""A missing neighbour is this many times larger or smaller."""


def best_of(tried: Sequence[tuple[Hyper, Loss]]) -> Hyper | None:
    """Return the point of the lowest loss, None where all diverged."""
    sound = [(loss, hyper) for hyper, loss in tried if loss is not None]
    return min(sound, key=lambda each: each[0])[1] if sound else None


def missing(tried: Sequence[tuple[Hyper, Loss]]) -> list[dict[str, Any]]:
    """Return the neighbours that the best point lacks; where all diverged, a tenth of the smallest
    step size.

    Args:
        tried: points with their losses, None for one that diverged.
    """
    points = [hyper for hyper, _ in tried]
    best = best_of(tried)
    if best is None:
        smallest = min(points, key=lambda hyper: hyper["lr"])
        return [{**smallest, "lr": _short(smallest["lr"] / 10)}]
    found: list[dict[str, Any]] = []
    for axis in best:
        values = [hyper[axis] for hyper in points if _differ_in(hyper, best) <= {axis}]
        if max(values) == best[axis]:
            found.append({**best, axis: _short(best[axis] * FACTOR[axis])})
        if min(values) == best[axis]:
            found.append({**best, axis: _short(best[axis] / FACTOR[axis])})
    return found


def _differ_in(a: Hyper, b: Hyper) -> set[str]:
    return {axis for axis in a if a[axis] != b[axis]}


def _short(value: float) -> float:
    return float(f"{value:.3g}")
