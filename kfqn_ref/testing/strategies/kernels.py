"""Hypothesis strategies for the kernels: read-only arrays of readable numbers, cases of every kind
frequent.

Vectors have quarters of integers as entries; a positive definite matrix is L D Lᵀ with halves in
the unit triangle L and powers of ten in D. So a counterexample, once shrunk, is short and can be
checked by hand, and the condition number is drawn and not an accident. No strategy filters: a case
that breaks a condition is mended. Vectors of more than five entries come from a drawn seed. What a
case has to visit (sizes, scales, both sides of a condition) are axes, :mod:`.axes`. Strategies are
cached, as hypothesis analyses each new one (that took two thirds of the time of a check).
"""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from kfqn_ref.testing.law import Case
from kfqn_ref.testing.strategies.axes import choose, chosen, settle
from kfqn_ref.testing.tolerances import Precision

MAX_N = 5
NARROW = ("cosine 1e-6", "cosine 1e-8")
REST = 3  # coordinates beside those of s and y, at most


def frozen(X: Any) -> np.ndarray:
    """A read-only float64 copy."""
    array = np.array(X, dtype=np.float64)
    array.setflags(write=False)
    return array


@cache
@st.composite
def dimensions(draw: DrawFn) -> int:
    """n: up to five mostly, with n = 1 in about one case of five."""
    return choose(draw, "n")


@cache
def digits(count: int, limit: int) -> SearchStrategy[np.ndarray]:
    """``count`` integers between −limit and limit: the digits of one drawn integer where they are
    few (much faster than many draws), else random ones of a drawn seed.

    Digits 0, 1, 2, 3, 4 stand for 0, 1, −1, 2, −2, so that a smaller draw is a simpler vector.
    """
    base = 2 * limit + 1
    if base**count == 1:
        return st.just(np.zeros(count, dtype=int))  # no draw: the fewer, the simpler
    if base**count > 2**62:
        return st.integers(0, 2**32 - 1).map(
            lambda seed: np.random.default_rng(seed).integers(-limit, limit + 1, count)
        )
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


def scale_of(precision: Precision, name: str) -> float:
    """The number of a class of scales; float32 has room for 1e-2 to 1e+2 only."""
    if precision.u < 1e-10:
        return float(name)
    return float(np.clip(float(name), 1e-2, 1e2))


@cache
@st.composite
def spd(draw: DrawFn, precision: Precision, n: int) -> np.ndarray:
    """Read-only symmetric positive definite matrices with drawn eigenvalues and a drawn scale."""
    spread = choose(draw, "spread")
    scale = scale_of(precision, choose(draw, "units"))
    if spread.startswith("rest") or n > MAX_N:
        spread = "1" if spread.startswith("rest") else spread
        return frozen(draw(_turned(n, _decades(precision, spread))) * scale)
    decades = _decades(precision, spread)
    exponents = np.abs(draw(digits(n, decades)))
    exponents[n - 1] = decades if n > 1 else 0
    L = draw(unit_triangles(n))
    H = (L * 10.0**-exponents) @ L.T
    return frozen((H + H.T) / 2 * scale)


def _decades(precision: Precision, spread: str) -> int:
    return min(int(np.log10(float(spread))), int(np.log10(precision.max_cond)))


@cache
@st.composite
def _turned(draw: DrawFn, n: int, decades: int) -> np.ndarray:
    """Q D Q, Q a reflection and D the powers of ten down to −decades: well scaled for every n."""
    if not decades:
        return frozen(np.eye(n))
    v = draw(vectors(n))
    exponents = np.abs(draw(digits(n, decades)))
    exponents[n - 1] = decades if n > 1 else 0
    Q = np.eye(n) - 2 * np.outer(v, v) / (v @ v)
    H = (Q * 10.0**-exponents) @ Q
    return frozen((H + H.T) / 2)


@cache
def unit_triangles(n: int, limit: int = 2) -> SearchStrategy[np.ndarray]:
    """Unit lower triangles with halves between −limit/2 and limit/2 below the diagonal; for more
    than five rows in the first column only, as a product of many such grows without bound.
    """
    rows = np.tril_indices(n, -1) if n <= MAX_N else (np.arange(1, n), np.zeros(n - 1, dtype=int))

    def filled(k: np.ndarray) -> np.ndarray:
        L = np.eye(n)
        L[rows] = k / 2
        return frozen(L)

    return digits(len(rows[0]), limit).map(filled)


@cache
@st.composite
def pairs(draw: DrawFn, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(s, y) with sᵀy > 0, at a drawn angle.

    At any angle, s is turned round where its curvature is negative, and tilted towards y where it
    is zero.
    """
    angle = choose(draw, "angle")
    if angle in NARROW:  # B⁺ would be singular to working precision
        angle = settle("angle", "cosine 1e-4")
    return draw(pairs_at(n, angle))


@cache
@st.composite
def pairs_at(draw: DrawFn, n: int, angle: str) -> tuple[np.ndarray, np.ndarray]:
    """(s, y) with sᵀy > 0 at this angle."""
    s = draw(vectors(n))
    z = draw(vectors(n))
    if angle == "parallel" or (n == 1 and angle.startswith("cosine")):
        return s, frozen(s / 2)
    if angle == "close":
        return s, frozen(s * 2.0 ** np.sign(z))
    if angle.startswith("cosine"):
        return s, at_cosine(s, z, float(angle.split()[1]))
    sz = float(s @ z)
    towards = s + z if sz == 0 else s * np.sign(sz)
    return frozen(towards), z


def at_cosine(s: np.ndarray, z: np.ndarray, cosine: float) -> np.ndarray:
    """A vector at this cosine to s (to first order), in the plane of s and z; negative ones too."""
    across = z - s * (s @ z) / (s @ s)
    if np.linalg.norm(across) < 1e-6 * np.linalg.norm(z):  # z was parallel to s
        unit = np.eye(len(s))[np.argmin(np.abs(s))]
        across = unit - s * (s @ unit) / (s @ s)
    return frozen(across + cosine * np.linalg.norm(across) / np.linalg.norm(s) * s)


def with_rest(
    precision: Precision, spread: str, H: np.ndarray, *vectors: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Add coordinates that H couples with nothing else and on which s and y are zero.

    H is then as ill-conditioned as the rest says, and still every correct form is accurate: no
    rounding of one part reaches the other.
    """
    if not spread.startswith("rest"):
        return H, *vectors
    decades = int(np.log10(float(spread.split()[1])))
    limit = 12 if precision.u < 1e-10 else 4
    n = len(H)
    more = min(n, REST)
    wide = np.zeros((n + more, n + more))
    wide[:n, :n] = H
    tail = np.linalg.norm(H, 2) * 10.0 ** np.clip(decades, -limit, limit)
    rest = np.arange(n, n + more)
    wide[rest, rest] = tail
    return frozen(wide), *(frozen(np.concatenate([v, np.zeros(more)])) for v in vectors)


@cache
@st.composite
def triples(draw: DrawFn, precision: Precision) -> Case:
    """(H, s, y) that (1.3) can take: H positive definite, sᵀy > 0.

    The pair has a scale, s and H have units, and s may be out of proportion to them.
    """
    # scales first: what is drawn first, hypothesis makes simple first
    scale, ratio = (scale_of(precision, choose(draw, axis)) for axis in ("scale", "ratio"))
    n = choose(draw, "n")
    H = draw(spd(precision, n))
    s, y = draw(pairs(n))
    units = scale_of(precision, chosen()["units"])
    s = frozen(s * (scale * ratio * units))
    y = frozen(y * scale)
    H, s, y = with_rest(precision, chosen()["spread"], H, s, y)
    return {"H": H, "s": s, "y": y}


@cache
@st.composite
def damping_cases(draw: DrawFn, precision: Precision) -> Case:
    """(H, s, y, mu1) for (2.1), any sᵀy: s = t Hy + z, t on both sides of 0 and of mu1, and on
    them.
    """
    scale = scale_of(precision, choose(draw, "scale"))
    n = choose(draw, "n")
    mu1 = draw(threshold())
    H = draw(spd(precision, n))
    y = draw(vectors(n))
    s = draw(_beside(H @ y, y, float(np.linalg.norm(H, 2)), mu1))
    H, s, y = with_rest(precision, chosen()["spread"], H, s * scale, y * scale)
    return {"H": H, "s": frozen(s), "y": frozen(y), "mu1": mu1}


@st.composite
def _beside(
    draw: DrawFn, along: np.ndarray, normal: np.ndarray, size: float, mu: float
) -> np.ndarray:
    """t along + z, with t from the axis of the curvature, z across it or anywhere."""
    t = curvature_of(choose(draw, "curvature"), mu)
    aside = choose(draw, "aside")
    z = draw(vectors(len(along), nonzero=False)) if aside != "none" else np.zeros(len(along))
    if t is None:  # no step at all
        return np.zeros(len(along))
    if aside == "orthogonal":
        z = z - normal * (normal @ z) / (normal @ normal)
    return t * along + z * size


def curvature_of(name: str, mu: float) -> float | None:
    """sᵀy as a multiple of the metric term, for a class of the axis; None for no step."""
    plain = {"half": mu / 2, "tie": mu, "no step": None}
    if name in plain:
        return plain[name]
    if name.endswith("ulp"):
        towards = np.inf if name[0] == "+" else 0.0
        return float(np.nextafter(mu, towards))
    value = float(name)
    near = abs(value) <= 1e-2 and value != 0
    return mu * (1 + value) if near else value


@cache
@st.composite
def threshold(draw: DrawFn) -> float:
    """mu1 or mu2 of a case, by the axis."""
    name = choose(draw, "mu")
    return draw(st.integers(1, 19)) / 20 if name == "any" else float(name)


@cache
def thresholds() -> SearchStrategy[float]:
    """mu1 and mu2, in (0, 1): the customary 0.2 first, one half too, and the rest in twentieths."""
    return st.one_of(st.just(0.2), st.integers(1, 19).map(lambda k: k / 20))


@cache
@st.composite
def identity_cases(draw: DrawFn, precision: Precision) -> Case:
    """(s, y, mu2) for (2.2): y = t s + z, both signs of sᵀy, θ = 1 and θ < 1, and the tie."""
    scale = scale_of(precision, choose(draw, "scale"))
    n = choose(draw, "n")
    mu2 = draw(threshold())
    s = draw(vectors(n))
    y = draw(_beside(s, s, 1.0, mu2))
    return {"s": frozen(s * scale), "y": frozen(y * scale), "mu2": mu2}


@cache
@st.composite
def lambdas(draw: DrawFn) -> float:
    """Positive factors: around one, and powers of ten."""
    return float(choose(draw, "lambda"))


@cache
@st.composite
def dampings(draw: DrawFn) -> float:
    """λ ≥ 0 for (2.3): as :func:`lambdas`, and none."""
    return float(choose(draw, "damping"))


@cache
@st.composite
def lm_cases(draw: DrawFn, precision: Precision) -> Case:
    """(s, y, lam) for (2.3): any s, zero too."""
    case = draw(identity_cases(precision))
    return {"s": case["y"], "y": case["s"], "lam": draw(dampings())}


@cache
@st.composite
def lbfgs_cases(draw: DrawFn, precision: Precision) -> Case:
    """(S, Y, q, gamma): pairs of positive curvature (none at all included), oldest first."""
    scale = scale_of(precision, choose(draw, "scale"))
    n, m, angle = (choose(draw, axis) for axis in ("n", "pairs", "angle"))
    # each pair multiplies H by up to the squared cosine of its angle: only the first two are wide
    if angle in NARROW and precision.u > 1e-10:  # float32 does not compute sᵀy there
        angle = settle("angle", "cosine 1e-4")
    angles = [angle, angle, *["close"] * m][:m]
    rows = [draw(pairs_at(n, each)) for each in angles]
    S = np.array([s for s, _ in rows]).reshape(m, n)
    Y = np.array([y for _, y in rows]).reshape(m, n)
    gamma = scale_of(precision, choose(draw, "gamma"))
    q = draw(vectors(n))
    return {"S": frozen(S * scale), "Y": frozen(Y * scale), "q": q, "gamma": gamma}


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
