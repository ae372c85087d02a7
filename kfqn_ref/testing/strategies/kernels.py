"""Hypothesis strategies for the kernels: read-only arrays of readable numbers, cases of every kind
frequent.

Vectors have quarters of integers as entries; a positive definite matrix is L D Lᵀ with halves in
the unit triangle L and powers of ten in D. So a counterexample, once shrunk, is short and can be
checked by hand, and the condition number is drawn and not an accident. No strategy filters: a case
that breaks a condition is mended. Strategies are cached, as hypothesis analyses each new one (that
took two thirds of the time of a check).
"""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from kfqn_ref.testing.law import Case
from kfqn_ref.testing.tolerances import Precision

MAX_N = 5


def frozen(X: Any) -> np.ndarray:
    """A read-only float64 copy."""
    array = np.array(X, dtype=np.float64)
    array.setflags(write=False)
    return array


@cache
def dimensions() -> SearchStrategy[int]:
    """n, with n = 1 in about one case of five."""
    return st.integers(1, MAX_N)


@cache
def digits(count: int, limit: int) -> SearchStrategy[np.ndarray]:
    """``count`` integers between −limit and limit, as the digits of one drawn integer: much faster
    than many draws.

    Digits 0, 1, 2, 3, 4 stand for 0, 1, −1, 2, −2, so that a smaller draw is a simpler vector.
    """
    base = 2 * limit + 1
    powers = base ** np.arange(count)

    def decode(k: int) -> np.ndarray:
        digit = k // powers % base
        return (digit + 1) // 2 * np.where(digit % 2, 1, -1)

    return st.integers(0, base**count - 1).map(decode)


@cache
def vectors(n: int, *, nonzero: bool = True) -> SearchStrategy[np.ndarray]:
    """Read-only vectors of quarters between −2 and 2; a zero vector becomes the first unit
    vector.
    """

    def scaled(k: np.ndarray) -> np.ndarray:
        if nonzero and not k.any():
            k = np.eye(n)[0]
        return frozen(k / 4)

    return digits(n, 8).map(scaled)


@cache
def scales(precision: Precision) -> SearchStrategy[float]:
    """1 mostly, else a power of ten, tiny or large."""
    decades = 6 if precision.u < 1e-10 else 2
    return st.one_of(st.just(1.0), st.integers(-decades, decades).map(lambda k: 10.0**k))


@cache
def _decades(limit: int) -> SearchStrategy[int]:
    return st.sampled_from([0, 1, 0, min(3, limit), 0, limit, 1])


@cache
@st.composite
def spd(draw: DrawFn, precision: Precision, n: int) -> np.ndarray:
    """Read-only symmetric positive definite matrices with a drawn condition number, near-singular
    ones included.
    """
    limit = int(np.log10(precision.max_cond))
    decades = draw(_decades(limit))
    exponents = np.abs(draw(digits(n, decades)))
    exponents[n - 1] = decades if n > 1 else 0
    L = draw(unit_triangles(n))
    H = (L * 10.0**-exponents) @ L.T
    return frozen((H + H.T) / 2 * draw(scales(precision)))


@cache
def unit_triangles(n: int, limit: int = 2) -> SearchStrategy[np.ndarray]:
    """Unit lower triangles with halves between −limit/2 and limit/2 below the diagonal."""

    def filled(k: np.ndarray) -> np.ndarray:
        L = np.eye(n)
        L[np.tril_indices(n, -1)] = k / 2
        return frozen(L)

    return digits(n * (n - 1) // 2, limit).map(filled)


@cache
@st.composite
def pairs(draw: DrawFn, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(s, y) with sᵀy > 0: s is turned round where its curvature is negative, and tilted towards y
    where it is zero.
    """
    s, y = draw(vectors(n)), draw(vectors(n))
    sy = float(s @ y)
    return frozen(s + y if sy == 0 else s * np.sign(sy)), y


@cache
@st.composite
def triples(draw: DrawFn, precision: Precision) -> Case:
    """(H, s, y) that (3.1) can take: H positive definite, sᵀy > 0, each on its own scale."""
    n = draw(dimensions())
    s, y = draw(pairs(n))
    scale_s, scale_y = draw(scales(precision)), draw(scales(precision))
    return {"H": draw(spd(precision, n)), "s": frozen(s * scale_s), "y": frozen(y * scale_y)}


@cache
@st.composite
def damping_cases(draw: DrawFn, precision: Precision) -> Case:
    """(H, s, y, mu1) for (4.1), any sᵀy: s = z + t Hy, t on both sides of 0 and of mu1, and on
    them.
    """
    n = draw(dimensions())
    H, y, z = draw(spd(precision, n)), draw(vectors(n)), draw(vectors(n, nonzero=False))
    mu1 = draw(thresholds())
    t = draw(st.sampled_from([0.0, 1.0, -1.0, 2.0, mu1, mu1 / 2]))
    with_z = draw(st.booleans())
    s = t * (H @ y) + (z * np.linalg.norm(H, 2) if with_z else 0)
    scale = draw(scales(precision))
    return {"H": H, "s": frozen(s * scale), "y": frozen(y * scale), "mu1": mu1}


@cache
def thresholds() -> SearchStrategy[float]:
    """mu1 and mu2, in (0, 1): the customary 0.2 first, one half too, and the rest in twentieths."""
    return st.one_of(st.just(0.2), st.integers(1, 19).map(lambda k: k / 20))


@cache
@st.composite
def identity_cases(draw: DrawFn, precision: Precision) -> Case:
    """(s, y, mu2) for (4.2): y = z + t s, both signs of sᵀy, θ = 1 and θ < 1."""
    n = draw(dimensions())
    s, z, mu2 = draw(vectors(n)), draw(vectors(n, nonzero=False)), draw(thresholds())
    t = draw(st.sampled_from([0.0, 1.0, -1.0, 2.0, mu2, mu2 / 2]))
    y = t * s + (z if draw(st.booleans()) else 0)
    scale = draw(scales(precision))
    return {"s": frozen(s * scale), "y": frozen(y * scale), "mu2": mu2}


@cache
def lambdas() -> SearchStrategy[float]:
    """λ > 0 for (4.3): around one, and powers of ten."""
    return st.one_of(
        st.sampled_from([1.0, 0.5, 2.0, 0.1]), st.integers(-3, 3).map(lambda k: 10.0**k)
    )


@cache
@st.composite
def lbfgs_cases(draw: DrawFn, precision: Precision) -> Case:
    """(S, Y, q, gamma): up to four pairs of positive curvature (none at all included), oldest
    first.
    """
    n, m = draw(dimensions()), draw(st.integers(0, 4))
    rows = [draw(pairs(n)) for _ in range(m)]
    S = np.array([s for s, _ in rows]).reshape(m, n)
    Y = np.array([y for _, y in rows]).reshape(m, n)
    gamma = draw(st.sampled_from([1.0, 0.5, 2.0]))
    return {"S": frozen(S), "Y": frozen(Y), "q": draw(vectors(n)), "gamma": gamma}


@cache
@st.composite
def unimodular(draw: DrawFn, n: int) -> np.ndarray:
    """Invertible M = L U with unit triangles of halves: det M = 1, never far from well
    conditioned.
    """
    return frozen(draw(unit_triangles(n)) @ draw(unit_triangles(n)).T)


@st.composite
def extended(draw: DrawFn, base: SearchStrategy[Case], **extra: Any) -> Case:
    """A case with more named draws; each extra is a strategy, or a function of the case that
    returns one.
    """
    case = dict(draw(base))
    for name, strategy in extra.items():
        chosen: Any = strategy(case) if callable(strategy) else strategy
        case[name] = draw(chosen)
    return case
