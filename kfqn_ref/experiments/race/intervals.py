"""Means and differences over seeds, with Student's interval."""

import math
from collections.abc import Sequence

from scipy import stats

Loss = float | None


def interval(values: Sequence[Loss], level: float = 0.95) -> dict[str, float | None]:
    """Return the mean and its interval by Student's t; None where a run diverged.

    Args:
        values: one a seed.   level: the probability with which the interval covers the mean.
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < 2:
        return {"mean": None, "low": None, "high": None}
    mean = math.fsum(known) / len(known)
    error = float(stats.sem(known))
    if error == 0:  # as where a row is compared with itself
        return {"mean": mean, "low": mean, "high": mean}
    low, high = stats.t.interval(level, len(known) - 1, loc=mean, scale=error)
    return {"mean": mean, "low": float(low), "high": float(high)}


def difference(
    losses: Sequence[Loss], reference: Sequence[Loss], level: float = 0.95
) -> dict[str, float | None]:
    """Return the interval of the differences, seed by seed."""
    if len(losses) != len(reference):
        return interval([None])
    if None in (*losses, *reference):
        return interval([None])
    pairs = zip(losses, reference, strict=True)
    return interval([a - b for a, b in pairs], level)  # type: ignore[operator]  # no None among them
