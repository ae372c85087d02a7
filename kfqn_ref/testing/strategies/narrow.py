"""Pairs that are almost orthogonal, with cosines from 1e-4 to 1e-9, for functions with a condition
on ``sᵀy``: code often skips such a pair, and no law allows that.

The pairs of the updates are powers of two on the coordinates. So all forms of an update are
accurate, although the updated matrix has a condition number beyond 1e16.
"""

from functools import cache

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref.testing.law import Case
from kfqn_ref.testing.strategies.axes import choose, settle
from kfqn_ref.testing.strategies.kernels import (
    at_cosine,
    dampings,
    digits,
    frozen,
    threshold,
    thresholds,
    vectors,
)
from kfqn_ref.testing.tolerances import Precision


def _length(draw: DrawFn) -> int:
    """n, at least two: vectors of one entry are parallel."""
    return settle("n", max(2, choose(draw, "n")))


@cache
@st.composite
def narrow_updates(draw: DrawFn, precision: Precision) -> Case:
    """(B, s, y) for the direct update: s along one coordinate, and y almost orthogonal to it."""
    n = _length(draw)
    name = choose(draw, "cosine")
    if precision.u > 1e-10:
        name = settle("cosine", "1e-4")  # float32 has no digit left beyond
    cosine = 2.0 ** np.round(np.log2(float(name)))
    along = draw(st.integers(0, n - 1))
    y = np.where(draw(digits(n, 1)) < 0, -1.0, 1.0)
    s = np.zeros(n)
    s[along] = y[along]
    y[along] *= cosine
    B = np.diag(2.0 ** draw(digits(n, 2)))
    return {"B": frozen(B), "s": frozen(s), "y": frozen(y)}


def _beside(draw: DrawFn, x: np.ndarray) -> np.ndarray:
    """A vector at a drawn cosine to x, on either side of the orthogonal ones."""
    cosine = float(choose(draw, "cosine"))
    side = 1.0 if choose(draw, "side") == "+" else -1.0
    return at_cosine(x, draw(vectors(len(x))), side * cosine)


@cache
@st.composite
def narrow_damping(draw: DrawFn, precision: Precision, more: str = "") -> Case:
    """(H, s, y, mu1) for (2.1), and ``lam`` or ``mu2`` for what follows it."""
    n = _length(draw)
    mu1 = draw(threshold())
    H = frozen(np.diag(2.0 ** draw(digits(n, 2))))
    y = draw(vectors(n))
    case = {"H": H, "s": _beside(draw, y), "y": y, "mu1": mu1}
    rest = {"lam": dampings(), "mu2": thresholds()}
    return case | ({more: draw(rest[more])} if more else {})


@cache
@st.composite
def narrow_identity(draw: DrawFn, precision: Precision) -> Case:
    """(s, y, mu2) for (2.2)."""
    n = _length(draw)
    mu2 = draw(threshold())
    s = draw(vectors(n))
    return {"s": s, "y": _beside(draw, s), "mu2": mu2}


@cache
@st.composite
def narrow_lm(draw: DrawFn, precision: Precision) -> Case:
    """(s, y, lam) for (2.3)."""
    s = draw(vectors(_length(draw)))
    return {"s": s, "y": _beside(draw, s), "lam": draw(dampings())}


@cache
@st.composite
def narrow_memories(draw: DrawFn, precision: Precision) -> Case:
    """(S, Y, memory): two pairs of positive curvature, with room for both."""
    first, second = (draw(narrow_updates(precision)) for _ in range(2))
    if len(second["s"]) != len(first["s"]):
        second = first
    S, Y = (np.array([first[name], second[name]]) for name in "sy")
    return {"S": frozen(S), "Y": frozen(Y), "memory": 2}
