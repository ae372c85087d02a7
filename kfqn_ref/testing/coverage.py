"""Cases that visit the domain on purpose: every pair of classes of a law's axes, whatever the seed.

``rows`` asks a law's strategy which axes it has, and lets ``allpairspy`` list combinations of their
classes so that every pair of classes occurs in one of them (pairwise coverage). ``covering`` draws
a case for each row. A mistake that lives in one class, or where two classes meet, is met in every
run, and not only when the random search happens to go there.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from allpairspy import AllPairs
from hypothesis.strategies import SearchStrategy

from kfqn_ref.testing.bulk import Rejected, draw_case
from kfqn_ref.testing.law import Case, Check
from kfqn_ref.testing.strategies.axes import AXES, chosen, forced, forget
from kfqn_ref.testing.tolerances import Precision

Row = dict[str, Any]

LARGE = (33, 64)

# A law that is compared at every length visits these sizes one by one too.
BLOCKS = (31, 32, 33, 63, 64, 65, 100, 128, 129)  # where code that works by blocks has borders
_SHAPES = ("{0} 3 4 5", "2 {0} 4 5", "2 3 {0} 5", "2 3 4 {0}", "2 {0} 3 {0}")
SWEPT: dict[str, tuple[Any, ...]] = {
    "memory": (*range(1, 26), 50, 100),
    "pairs": (*range(15), 16, 17, 20),
    "N": (*range(1, 18), *BLOCKS),
    "T": (*range(1, 18), *BLOCKS),
    "d_a": (*range(1, 21), *BLOCKS),
    "d_g": (*range(1, 21), *BLOCKS),
    "C": (*range(1, 10), 16, 17, 32, 33),
    "kernel": ((1, 3), (3, 1), (4, 4), (6, 6), (7, 7), (2, 5), (9, 1), (1, 11)),
    "stride": ((4, 4), (5, 5), (1, 3), (3, 2), (5, 1)),
    "padding": ((1, 0), (3, 3), (4, 4), (1, 2), (0, 5)),
    "dilation": ((4, 4), (5, 5), (1, 3), (3, 2), (5, 1)),
    "room": ((7, 7), (9, 3), (16, 16), (1, 33)),
    "shapes": (
        *(shape.format(n) for shape in _SHAPES for n in (*range(1, 18), 33, 64)),
        *(f"{n} {n} {n} {n}" for n in range(1, 8)),
    ),
}


@cache
def axes_of(check: Check, precision: Precision) -> tuple[str, ...]:
    """The axes that a law's strategy asks for, in order: seen by drawing a few cases."""
    found: dict[str, None] = {}
    strategy = check.given(precision)
    for seed in range(20):
        forget()
        try:
            draw_case(strategy, np.random.default_rng(seed))
        except Rejected:
            continue
        found.update(dict.fromkeys(chosen()))
    return tuple(found)


@cache
def _pairwise(axes: tuple[str, ...], largest: int) -> tuple[tuple[Any, ...], ...]:
    lists = [[c for c in AXES[a].classes if a != "n" or c <= largest] for a in axes]
    if len(axes) < 2:
        return tuple((value,) for values in lists for value in values)
    return tuple(tuple(row) for row in AllPairs(lists))


def largest_size(check: Check) -> int:
    """The longest vectors with which a law meets every pair of classes."""
    if check.cost > 1:
        return 8
    return 33 if check.sizes else 17


def rows(check: Check, precision: Precision) -> list[Row]:
    """Combinations of classes in which every pair of classes of the law's axes occurs.

    A law that is compared at every length meets every pair of classes of vectors up to 33 entries;
    the others up to 17, and one case at each larger size; a law that costs more than a kernel's up
    to eight.
    """
    if check.group == "protocol":
        return [{}]  # it brings its own cases
    axes = axes_of(check, precision)
    largest = largest_size(check)
    covering_rows = [dict(zip(axes, row, strict=True)) for row in _pairwise(axes, largest)]
    if not check.sizes:
        return covering_rows + [{"n": n} for n in LARGE if "n" in axes and check.cost == 1]
    swept = SWEPT | {"n": check.sizes}
    return covering_rows + [{axis: value} for axis in axes for value in swept.get(axis, ())]


def draw_forced(
    strategy: SearchStrategy[Case], row: Row, rng: np.random.Generator
) -> tuple[Row, Case] | None:
    """A case of these classes, with all its classes; None where the law says nothing of them."""
    with forced(row):
        for _ in range(3):
            forget()
            try:
                case = draw_case(strategy, rng)
            except Rejected:
                continue
            return chosen(), case
    return None


def covering(check: Check, precision: Precision, seed: int) -> Iterator[tuple[Row, Case]]:
    """One case a row; data are drawn by NumPy from the law's name and the seed."""
    strategy = check.given(precision)
    rng = np.random.default_rng([seed, zlib.crc32(check.name.encode())])
    for row in rows(check, precision):
        found = draw_forced(strategy, row, rng)
        if found is not None:
            yield found


class Visited:
    """What a run has visited: how often each class of each axis, and which pairs of classes."""

    def __init__(self) -> None:
        self.classes: dict[str, Counter[Any]] = {}
        self.pairs: set[tuple[str, Any, str, Any]] = set()

    def add(self, row: Row) -> None:
        """Count one case."""
        for axis, value in row.items():
            self.classes.setdefault(axis, Counter())[value] += 1
        for (a, x), (b, y) in combinations(sorted(row.items()), 2):
            self.pairs.add((a, x, b, y))

    def join(self, other: "Visited") -> None:
        """Add what another run has visited."""
        for axis, counts in other.classes.items():
            self.classes.setdefault(axis, Counter()).update(counts)
        self.pairs |= other.pairs
