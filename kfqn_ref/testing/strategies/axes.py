"""The axes of the domain: what every strategy has to visit, by classes that have names.

A strategy asks :func:`choose` for the class of each of its axes (a size, a scale, the side of a
condition on which the case lies). Hypothesis draws the classes like everything else, small ones
often; under :func:`forced` they are given, and so a run can visit every pair of classes
(:mod:`kfqn_ref.testing.coverage`) or ask in which classes a failure lives
(:mod:`kfqn_ref.testing.region`). What was chosen for the last case is in :func:`chosen`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy


class Axis(NamedTuple):
    """One axis: all its classes, the simplest first, and those that a random search draws."""

    words: str
    classes: tuple[Any, ...]
    often: tuple[Any, ...]


_NEAR = ("1 ulp", "1e-12", "1e-6", "1e-2")
TIES = ("tie", *(f"{sign}{width}" for width in _NEAR for sign in "-+"))
_SCALES = ("1", "1e-10", "1e+10", "1e-4", "1e+4")
_SIZES = (1, 2, 3, 5, 8, 17, 33, 64)
_LAMBDAS = ("1", "0.5", "1e-3", "1e+3", "1e-8", "1e+6")
_LAMBDAS_OFTEN = ("1", "0.5", "2", "0.1") * 2 + ("1e-3", "1e-2", "1e+1", "1e+3", "1e-8", "1e+6")

AXES = {
    "n": Axis("length of the vectors", _SIZES, (1, 2, 3, 4, 5) * 4 + (6, 7, 8, 17)),
    "spread": Axis(
        "eigenvalues of H",
        ("1", "1e1", "1e3", "1e5", "rest 1e-12", "rest 1e+10"),
        ("1", "1e1", "1", "1e3", "1", "1e5", "1e1", "rest 1e-12", "rest 1e+10"),
    ),
    "angle": Axis(
        "angle between s and y",
        ("any", "parallel", "close", "cosine 1e-2", "cosine 1e-4", "cosine 1e-6", "cosine 1e-8"),
        ("any", "any", "any", "close", "parallel") * 4 + ("cosine 1e-2", "cosine 1e-4"),
    ),
    "units": Axis("units of s, with H", _SCALES, _SCALES[:1] * 16 + _SCALES),
    "scale": Axis(
        "size of s and y, or of the inputs of a layer",
        (*_SCALES, "1e-40", "1e+40"),
        _SCALES[:1] * 16 + _SCALES,
    ),
    "vector": Axis("size of the vector of an action", _SCALES, _SCALES[:1] * 16 + _SCALES),
    "ratio": Axis(
        "size of s alone", ("1", "1e-2", "1e+2", "1e-6", "1e+6"), ("1",) * 30 + ("1e-2", "1e+2")
    ),
    "curvature": Axis(
        "curvature against the threshold of damping",
        ("0", "1", "-1", "2", "half", *TIES, "-1e4", "-1e8", "+1e4", "no step"),
        ("0", "1", "-1", "2", "tie", "half") * 3 + (*TIES, "-1e4", "-1e8", "+1e4", "no step"),
    ),
    "aside": Axis(
        "part of the pair across the curvature",
        ("none", "any", "orthogonal"),
        ("none", "any", "orthogonal"),
    ),
    "mu": Axis(
        "threshold of damping",
        ("0.2", "0.5", "0.05", "0.95", "any", "1e-3"),
        ("0.2", "0.2", "any", "0.5", "0.05", "0.95"),
    ),
    "lambda": Axis("positive factor", _LAMBDAS, _LAMBDAS_OFTEN),
    "damping": Axis("damping λ", (*_LAMBDAS, "0"), (*_LAMBDAS_OFTEN, "0")),
    "pairs": Axis("stored pairs", (0, 1, 2, 3, 4, 7, 12), (0, 1, 2, 3, 4)),
    "gamma": Axis(
        "scale of H_0",
        ("1", "0.5", "2", "1e-6", "1e+6"),
        ("1", "0.5", "2", "1", "0.5", "2", "1e-6", "1e+6"),
    ),
    "memory": Axis("pairs to keep", (1, 2, 3, 4, 7, 20), (1, 2, 3, 4)),
    "pushes": Axis("pairs pushed beyond the memory", (0, 1, 2, -1, 5), (0, 1, 2, -1, 3)),
    "N": Axis("samples", (1, 2, 3, 8), (1, 2, 3)),
    "T": Axis("locations", (1, 2, 3, 9), (1, 2, 3)),
    "d_a": Axis("inputs of a layer", (1, 2, 3, 8, 17), (1, 2, 3)),
    "d_g": Axis("outputs of a layer", (1, 2, 3, 8, 17), (1, 2, 3)),
    "C": Axis("channels", (1, 2, 3), (1, 2)),
    "kernel": Axis(
        "kernel",
        ((1, 1), (2, 2), (1, 2), (2, 1), (3, 3), (5, 5), (1, 7), (7, 1), (3, 2)),
        ((1, 1), (2, 2), (1, 2), (2, 1)) * 2 + ((3, 3), (1, 3)),
    ),
    "stride": Axis(
        "stride",
        ((1, 1), (2, 2), (1, 2), (2, 1), (3, 3)),
        ((1, 1), (2, 2), (1, 2), (2, 1)),
    ),
    "padding": Axis(
        "padding",
        ((0, 0), (1, 1), (0, 1), (2, 2), (2, 0)),
        ((0, 0), (1, 1), (0, 1), (1, 0), (2, 2)),
    ),
    "dilation": Axis(
        "dilation",
        ((1, 1), (2, 2), (1, 2), (2, 1), (3, 3)),
        ((1, 1), (2, 2), (1, 2), (2, 1)),
    ),
    "room": Axis(
        "image beyond one kernel",
        ((0, 0), (2, 1), (0, 2), (5, 4)),
        ((0, 0), (2, 1), (0, 2), (1, 0)),
    ),
    "bias": Axis("bias of a layer", ("yes", "no"), ("yes", "no")),
    "shapes": Axis(
        "shapes of A, G and X",
        (
            *("1 2 3 4", "4 3 2 1", "3 1 4 2", "2 4 1 3", "17 2 3 8", "2 17 8 3"),
            *("1 1 1 1", "5 5 5 5", "1 1 3 3", "3 3 1 1", "2 8 2 8"),
        ),
        ("1 2 3 4", "4 3 2 1", "3 1 4 2", "2 4 1 3", "1 3 2 4", "3 4 1 2", "4 1 3 2", "2 3 4 1"),
    ),
    "cosine": Axis(
        "cosine of pairs that are almost orthogonal",
        ("1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-9"),
        ("1e-4", "1e-5", "1e-6", "1e-7", "1e-8", "1e-9"),
    ),
    "side": Axis("sign of that cosine", ("+", "-"), ("+", "-")),
    "decay": Axis(
        "weight of the old pair",
        ("0.9", "0.0", "0.5", "0.99", "0.05", "1e-3", "1e-8"),
        ("0.9", "0.0", "0.5") * 4 + ("0.99", "0.05", "1e-3", "1e-8"),
    ),
}

_forced: dict[str, Any] = {}
_chosen: dict[str, Any] = {}


@cache
def _drawn(axis: str) -> SearchStrategy[Any]:
    return st.sampled_from(AXES[axis].often)


def choose(draw: DrawFn, axis: str) -> Any:
    """The class of an axis for this case: the forced one, or a drawn one."""
    value = _forced[axis] if axis in _forced else draw(_drawn(axis))
    _chosen[axis] = value
    return value


def settle(axis: str, value: Any) -> Any:
    """Say that a case took another class than the chosen one, which did not fit the others."""
    _chosen[axis] = value
    return value


@contextmanager
def forced(classes: Mapping[str, Any]) -> Iterator[None]:
    """Give these axes these classes inside the block."""
    before = dict(_forced)
    _forced.update(classes)
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)


def chosen() -> dict[str, Any]:
    """The classes of the last case, by axis."""
    return dict(_chosen)


def forget() -> None:
    """Begin a new case: nothing is chosen yet."""
    _chosen.clear()
