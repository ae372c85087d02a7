"""Where a failure lives: the classes of each axis in which the law is broken ("only for n ≥ 6").

Starting from the classes of a failing case, one axis at a time takes each of its classes, with a
few new cases each; for sizes the border between holding and failing is then found by bisection. A
region is what the search saw, not a proof: a class counts as holding after ``TRIES`` cases without
a failure.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from kfqn_ref.testing.coverage import Row, axes_of, draw_forced
from kfqn_ref.testing.implementation import Implementation
from kfqn_ref.testing.law import Case, Check
from kfqn_ref.testing.strategies.axes import AXES

TRIES = 4


class Found(NamedTuple):
    """The region of a failure in words, and a failing case of its simplest classes, if one is
    known.
    """

    words: str
    case: Case | None = None
    error: Exception | None = None


def failing(check: Check, implementation: Implementation, row: Row) -> Found | None:
    """A case of these classes that breaks the law, among a few."""
    strategy = check.given(implementation.precision)
    rng = np.random.default_rng(0)
    for _ in range(TRIES):
        found = draw_forced(strategy, row, rng)
        if found is None:
            return None
        try:
            with np.errstate(all="ignore"):
                check(implementation, found[1])
        except SystemExit:
            return None
        except Exception as error:  # whatever is raised, the law does not hold here
            return Found("", found[1], error)
    return None


def region(check: Check, implementation: Implementation, row: Row) -> Found:
    """Where the law is broken: the axes that matter with their broken classes, and a case of the
    simplest classes that still fail.
    """
    if check.group == "protocol":
        return Found("")
    axes = axes_of(check, implementation.precision)
    simplest = {axis: row[axis] for axis in axes if axis in row}
    if not simplest or failing(check, implementation, simplest) is None:
        return Found("")

    def fails(axis: str, value: Any) -> bool:
        return failing(check, implementation, simplest | {axis: value}) is not None

    for axis in reversed(axes):  # the axes that a strategy asks last matter least
        if axis in simplest:
            simplest[axis] = next(
                c for c in (*AXES[axis].classes, simplest[axis]) if fails(axis, c)
            )
    parts = []
    for axis in simplest:
        largest = 8 if check.cost > 1 else 64
        classes = [c for c in AXES[axis].classes if axis != "n" or c <= largest]
        broken = [value for value in classes if fails(axis, value)]
        if 2 * len(broken) < len(classes) or _at_one_end(classes, broken):
            parts.append(_words(axis, classes, broken, simplest[axis], partial(fails, axis)))
    found = failing(check, implementation, simplest)
    return Found(", ".join(parts)) if found is None else found._replace(words=", ".join(parts))


def _at_one_end(classes: list[Any], broken: list[Any]) -> bool:
    """Whether sizes fail from one size on, or up to one."""
    holding = [value for value in classes if value not in broken]
    numbers = broken + holding
    if not (broken and holding and all(isinstance(value, int) for value in numbers)):
        return False
    return min(broken) > max(holding) or max(broken) < min(holding)


def _words(
    axis: str, classes: list[Any], broken: list[Any], seen: Any, fails: Callable[[Any], bool]
) -> str:
    broken = broken if seen in broken else [seen, *broken]
    name = axis if axis in ("n", "N", "T", "C", "d_a", "d_g") else AXES[axis].words
    if isinstance(seen, int):
        ranged = _range(classes, sorted(broken), fails)
        if ranged:
            return f"{name} {ranged}"
    shown = " or ".join(_class(value) for value in broken)
    return f"{name} = {shown}" if isinstance(seen, int) else f"{name}: {shown}"


def _class(value: Any) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _range(classes: list[int], broken: list[int], fails: Callable[[Any], bool]) -> str:
    """ "≥ 6" or "≤ 5" where the broken sizes are the largest or the smallest ones, else nothing."""
    holding = [value for value in sorted(classes) if value not in broken]
    if not holding:
        return ""
    if min(broken) > max(holding):
        return f"≥ {_border(max(holding), min(broken), fails)}"
    if max(broken) < min(holding):
        last = _border(min(holding), max(broken), fails)
        return f"= {last}" if last == min(classes) else f"≤ {last}"
    return ""


def _border(holds: int, breaks: int, fails: Callable[[Any], bool]) -> int:
    """The broken size nearest to the holding ones."""
    while abs(breaks - holds) > 1:
        middle = (holds + breaks) // 2
        if fails(middle):
            breaks = middle
        else:
            holds = middle
    return breaks
