"""Strategies for layers and factors: geometries of every kind, small integer-valued data."""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref.layers import Record
from kfqn_ref.testing.law import Case
from kfqn_ref.testing.strategies.axes import choose, settle
from kfqn_ref.testing.strategies.kernels import digits, frozen, scale_of
from kfqn_ref.testing.tolerances import Precision

LARGEST_BLOCK = 40_000  # terms that a Hessian block may have as numbers of a law


@cache
def arrays(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Read-only arrays of quarters between −1 and 1, seven digits a draw."""
    size = int(np.prod(shape))
    if size > 42:  # more than six draws: all of them from one seed
        return st.integers(0, 2**32 - 1).map(
            lambda seed: frozen(np.random.default_rng(seed).integers(-4, 5, shape) / 4)
        )
    sizes = [7] * (size // 7)
    if size % 7:
        sizes.append(size % 7)

    def joined(parts: tuple[np.ndarray, ...]) -> np.ndarray:
        return frozen(np.concatenate([*parts, np.zeros(0)]).reshape(shape) / 4)

    return st.tuples(*[digits(k, 4) for k in sizes]).map(joined)


def scaled(
    draw: DrawFn, precision: Precision, *parts: np.ndarray, axis: str = "scale"
) -> tuple[np.ndarray, ...]:
    """The arrays on one scale, which an axis names."""
    scale = scale_of(precision, choose(draw, axis))
    return tuple(frozen(part * scale) for part in parts)


@cache
@st.composite
def geometries(draw: DrawFn) -> dict[str, Any]:
    """Kernel, stride, padding and dilation as (rows, columns), and an image size that they fit."""
    kernel = choose(draw, "kernel")
    stride = choose(draw, "stride")
    dilation = choose(draw, "dilation")
    padding = choose(draw, "padding")
    least = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    room = choose(draw, "room")
    size = tuple(max(1, n) + more for n, more in zip(least, room, strict=True))
    return {
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "size": size,
    }


@st.composite
def images(draw: DrawFn, precision: Precision) -> Case:
    """(x, geometry): a batch of images for a convolution."""
    geometry = dict(draw(geometries()))
    size = geometry.pop("size")
    N = choose(draw, "N")
    C = choose(draw, "C")
    (x,) = scaled(draw, precision, draw(arrays(N, C, *size)))
    return {"x": x, "geometry": geometry}


@st.composite
def inputs(draw: DrawFn, precision: Precision) -> Case:
    """(a_bar, v): inputs samples × locations × features, with the appended 1, and a vector of the
    features.
    """
    N, T, d = (choose(draw, axis) for axis in ("N", "T", "d_a"))
    (a,) = scaled(draw, precision, draw(arrays(N, T, d)))
    a_bar = frozen(np.concatenate([a, np.ones((N, T, 1))], axis=2))
    (v,) = scaled(draw, precision, draw(arrays(d + 1)), axis="vector")
    return {"a_bar": a_bar, "v": v}


@st.composite
def two_records(draw: DrawFn, precision: Precision) -> Case:
    """(first, second): records of one block before and after a step, on one batch."""
    N, T, d_g = (choose(draw, axis) for axis in ("N", "T", "d_g"))
    a_bar = draw(arrays(N, T, 2))
    h, h_plus, Dh, Dh_plus = scaled(draw, precision, *(draw(arrays(N, T, d_g)) for _ in range(4)))
    return {"first": Record(a_bar, h, Dh), "second": Record(a_bar, h_plus, Dh_plus)}


@st.composite
def matrices(draw: DrawFn, precision: Precision) -> Case:
    """(A, G, X) of shapes that ``G X Aᵀ`` fits, mostly no two sizes the same."""
    a, b, c, d = (int(size) for size in choose(draw, "shapes").split())
    A, G, X = scaled(draw, precision, *(draw(arrays(*s)) for s in ((a, b), (c, d), (d, b))))
    return {"A": A, "G": G, "X": X}


@st.composite
def second_derivatives(draw: DrawFn, precision: Precision) -> Case:
    """(a_bar, Hh): inputs, and symmetric second derivatives (N, T, d_g, T, d_g) of each sample."""
    N, T, d_a, d_g = (choose(draw, axis) for axis in ("N", "T", "d_a", "d_g"))
    if N * (T * d_g * d_a) ** 2 > LARGEST_BLOCK:  # not everything is large at once
        N = settle("N", min(N, 3))
        T = settle("T", min(T, 3))
        d_a = settle("d_a", min(d_a, 8))
        d_g = settle("d_g", min(d_g, 8))
    (Hh,) = scaled(draw, precision, draw(arrays(N, T, d_g, T, d_g)))
    return {"a_bar": draw(arrays(N, T, d_a)), "Hh": frozen((Hh + Hh.transpose(0, 3, 4, 1, 2)) / 2)}
