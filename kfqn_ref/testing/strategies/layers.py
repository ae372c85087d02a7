"""Strategies for layers and factors: small geometries of every kind, small integer-valued data."""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref.layers import Record
from kfqn_ref.testing.law import Case
from kfqn_ref.testing.strategies.kernels import digits, frozen
from kfqn_ref.testing.tolerances import Precision


@cache
def arrays(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Read-only arrays of quarters between −1 and 1, seven digits a draw."""
    size = int(np.prod(shape))
    sizes = [7] * (size // 7) + ([size % 7] if size % 7 else [])

    def joined(parts: tuple[np.ndarray, ...]) -> np.ndarray:
        return frozen(np.concatenate([*parts, np.zeros(0)]).reshape(shape) / 4)

    return st.tuples(*[digits(k, 4) for k in sizes]).map(joined)


@cache
@st.composite
def geometries(draw: DrawFn) -> dict[str, Any]:
    """Kernel, stride, padding and dilation as (rows, columns), and an image size that they fit."""
    two = st.tuples(st.integers(1, 2), st.integers(1, 2))
    kernel, stride, dilation = draw(two), draw(two), draw(two)
    padding = draw(st.tuples(st.integers(0, 1), st.integers(0, 1)))
    least = [d * (k - 1) + 1 - 2 * p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    extra = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = tuple(max(1, n) + more for n, more in zip(least, extra, strict=True))
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
    N, C = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return {"x": draw(arrays(N, C, *size)), "geometry": geometry}


@st.composite
def inputs(draw: DrawFn, precision: Precision) -> Case:
    """(a_bar, v): inputs samples × locations × features, with the appended 1, and a vector of the
    features.
    """
    N, T, d = (draw(st.integers(1, 3)) for _ in range(3))
    a = draw(arrays(N, T, d))
    a_bar = frozen(np.concatenate([a, np.ones((N, T, 1))], axis=2))
    return {"a_bar": a_bar, "v": draw(arrays(d + 1))}


@st.composite
def two_records(draw: DrawFn, precision: Precision) -> Case:
    """(first, second): records of one block before and after a step, on one batch."""
    N, T, d_g = (draw(st.integers(1, 3)) for _ in range(3))
    a_bar = draw(arrays(N, T, 2))
    records = [Record(a_bar, draw(arrays(N, T, d_g)), draw(arrays(N, T, d_g))) for _ in range(2)]
    return {"first": records[0], "second": records[1]}


@st.composite
def matrices(draw: DrawFn, precision: Precision) -> Case:
    """(A, G, X) of shapes that ``G X Aᵀ`` fits, no two sizes the same."""
    a, b, c, d = draw(st.permutations([1, 2, 3, 4]))
    return {"A": draw(arrays(a, b)), "G": draw(arrays(c, d)), "X": draw(arrays(d, b))}


@st.composite
def second_derivatives(draw: DrawFn, precision: Precision) -> Case:
    """(a_bar, Hh): inputs, and symmetric second derivatives (N, T, d_g, T, d_g) of each sample."""
    N, T, d_a, d_g = (draw(st.integers(1, 2)) for _ in range(4))
    Hh = draw(arrays(N, T, d_g, T, d_g))
    return {"a_bar": draw(arrays(N, T, d_a)), "Hh": frozen((Hh + Hh.transpose(0, 3, 4, 1, 2)) / 2)}
