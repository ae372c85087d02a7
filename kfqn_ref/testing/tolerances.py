r"""Every tolerance of the suite, derived from the unit roundoff and the conditioning of the case.

The model is the standard one: a computed :math:`a \circ b` is :math:`(a \circ b)(1 + \delta)` with
:math:`|\delta| \le u`, so an inner product of length n has an error of at most
:math:`n u \|a\| \|b\|` (first order), a matrix product ``n u |A||B|``, and a solve with (or an
inverse of) a symmetric positive definite matrix a relative error of ``n u cond``. Each function
below adds these bounds along the formula that its docstring shows. ``OPERATIONS`` is the only
constant: no formula of the suite chains more than sixteen such operations, and the factor counts
them all at the size of the largest. Nothing here is fitted to results: the tests of this module
show both that correct code stays below the bounds and that a change of ten times the bound is seen.

Source: derived here, from the rounding model of nocedal2006 (appendix A).
"""

from typing import NamedTuple

import numpy as np

OPERATIONS = 16.0


class Precision(NamedTuple):
    """Arithmetic that an implementation uses: its unit roundoff and the largest condition number to
    ask of it.
    """

    name: str
    u: float

    @property
    def max_cond(self) -> float:
        """The condition number at which the worst correct form, inverting B, loses its last digit:
        cond³ u = 1.
        """
        return self.u ** (-1 / 3)


FLOAT64 = Precision("float64", 2.0**-53)
FLOAT32 = Precision("float32", 2.0**-24)


def norm(X: np.ndarray) -> float:
    """Spectral norm of a matrix, Euclidean norm of a vector."""
    if np.ndim(X) == 2 and np.size(X) and _symmetric(X):
        return float(np.abs(np.linalg.eigvalsh(X)).max())
    return float(np.linalg.norm(X, 2)) if np.size(X) else 0.0


def cond(H: np.ndarray) -> float:
    """Spectral condition number of a matrix; of a symmetric one by its eigenvalues."""
    if not _symmetric(H):
        return float(np.linalg.cond(H, 2))
    sizes = np.abs(np.linalg.eigvalsh(H))
    smallest = float(sizes.min())
    return float(sizes.max()) / smallest if smallest > 0 else np.inf


def _symmetric(X: np.ndarray) -> bool:
    return X.shape[0] == X.shape[1] and np.array_equal(X, X.T) and bool(np.isfinite(X).all())


def cosine(s: np.ndarray, y: np.ndarray) -> float:
    """``κ = ‖s‖‖y‖ / |sᵀy|``, the condition number of the inner product and the norm of I − ρ s yᵀ
    less one.
    """
    return norm(s) * norm(y) / abs(float(s @ y))


def rounding(u: float, n: int, size: float) -> float:
    """``OPERATIONS · n · u · size``: sums of length n of terms that together have this size."""
    return OPERATIONS * max(n, 1) * u * size


def product(u: float, *factors: np.ndarray) -> float:
    """Error of a product of matrices and vectors: ``n u ∏‖factor‖_F``."""
    n = max(max(np.shape(factor), default=1) for factor in factors)
    return rounding(u, n, float(np.prod([np.linalg.norm(factor) for factor in factors])))


def singular(u: float, H: np.ndarray) -> bool:
    """Whether ``H`` is singular to working precision: an implementation that factorises it may
    refuse it.

    A relative error of n u in ``H`` moves eigenvalues by up to n u ‖H‖, past 0 where n u cond(H) ≥
    1.
    """
    return bool(len(H) * u * cond(H) >= 1)


def coupled(H: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The coordinates that take part: those of s and y, and all that H couples with them.

    On the others every term of a sum is exactly zero, so no rounding passes between the two parts.
    """
    part = (s != 0) | (y != 0)
    reached = part | (H[:, part] != 0).any(axis=1)
    while (reached != part).any():
        part = reached
        reached = part | (H[:, part] != 0).any(axis=1)
    return np.flatnonzero(part)


def powell(u: float, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> float:
    r"""Error of s̃ in (2.1).

    With q = yᵀHy: δq ≤ n u ‖H‖‖y‖² and δ(sᵀy) ≤ n u ‖s‖‖y‖. Where q − sᵀy < 0 beyond these errors,
    θ = 1 for every mu1. Where damping acts, 1 − θ = (mu1 q − sᵀy)/(q − sᵀy) has an error of at most
    (2δq + δ(sᵀy))/(q − sᵀy), and s̃ = s − (1 − θ)(s − Hy) multiplies it by ‖s‖ + ‖Hy‖; the
    denominator is at least (1 − mu1) q, and mu1 ≤ 0.95 in every case of the suite.
    """
    part = coupled(H, s, y)
    H = H[np.ix_(part, part)]
    s = s[part]
    y = y[part]
    Hy = H @ y
    n = len(part)
    q = float(y @ Hy)
    sy = float(s @ y)
    errors = 2 * norm(H) * norm(y) ** 2 + norm(s) * norm(y)
    if sy - q > rounding(u, n, errors):
        return rounding(u, 1, norm(s))
    relative = 1 + errors / max(q - sy, 0.05 * q)
    return rounding(u, n, relative * (norm(s) + norm(Hy)) + norm(H) * norm(y))


def identity(u: float, s: np.ndarray, y: np.ndarray) -> float:
    """Error of ỹ in (2.2): :func:`powell` with H = I and the roles of s and y changed."""
    return powell(u, np.eye(len(s)), y, s)


def inverse_update(u: float, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> float:
    r"""Error of H⁺ in (1.3), by the product form, the rank-two form or the inverse of the updated
    B.

    Product and rank-two form: every term is at most (1 + κ)²‖H‖ + ‖s‖²/sᵀy, and ρ = 1/sᵀy adds the
    relative error n u κ. Through B: δB ≤ n u cond(H)‖B‖; B s sᵀB/(sᵀBs) ≤ ‖B‖ has the relative
    error n u cond(H)² in each of its three inner products; and δH⁺ = H⁺ δB⁺ H⁺. The relative
    error n u κ of yyᵀ/sᵀy gives n u κ ssᵀ/sᵀy, as H⁺y = s, which is in the first bound already; its
    entries are rounded by u‖y‖²/sᵀy besides.
    """
    part = coupled(H, s, y)
    if len(part) < len(s):  # the rest is not changed, or inverted twice on its own
        inner = inverse_update(u, H[np.ix_(part, part)], s[part], y[part])
        return inner + rounding(u, len(s) - len(part), norm(np.delete(H, part, axis=0)))
    n = len(s)
    kappa = cosine(s, y)
    sy = abs(float(s @ y))
    h = norm(H)
    c = cond(H)
    terms = (1 + kappa) ** 2 * h + norm(s) ** 2 / sy
    through_H = (1 + kappa) * terms
    H_plus = norm(_updated(H, s, y))
    through_B = H_plus**2 * (4 * c**2 * c / h + norm(y) ** 2 / sy)
    return rounding(u, n, through_H + through_B)


def update_change(H: np.ndarray, s: np.ndarray, y: np.ndarray, ds: float, dy: float) -> float:
    """Change of H⁺ when s changes by at most ds and y by at most dy, to first order; infinite where
    that says nothing.

    With r = ds/‖s‖ + dy/‖y‖: δρ/ρ ≤ κ r and ‖δ(I − ρ s yᵀ)‖ ≤ κ(1 + κ) r, so δH⁺ ≤ 2(1 + κ) r
    (κ²‖H‖ + ‖s‖²/sᵀy).
    """
    kappa = cosine(s, y)
    r = ds / norm(s) + dy / norm(y)
    terms = (1 + kappa) ** 2 * norm(H) + norm(s) ** 2 / abs(float(s @ y))
    return np.inf if kappa * r > 0.1 else 2 * (1 + kappa) * r * terms


def powell_change(
    H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, ds: float, dy: float
) -> float:
    """Change of s̃ in (2.1) when s changes by at most ds and y by at most dy, to first order.

    With q = yᵀHy: δq ≤ 2‖Hy‖ dy, δ(sᵀy) ≤ ‖y‖ ds + ‖s‖ dy and δθ ≤ δq/q + (δq + δ(sᵀy))/((1 − mu1)
    q).
    """
    Hy = H @ y
    q = float(y @ Hy)
    dq = 2 * norm(Hy) * dy
    dsy = norm(y) * ds + norm(s) * dy
    dtheta = dq / q + (dq + dsy) / ((1 - mu1) * q)
    return ds + norm(H) * dy + dtheta * (norm(s) + norm(Hy))


def direct_update(u: float, B: np.ndarray, s: np.ndarray, y: np.ndarray) -> float:
    """Error of B⁺: :func:`inverse_update` with (B, y, s) for (H, s, y), as the two updates are
    dual, plus its own terms.

    sᵀBs ≥ ‖s‖²‖B‖/cond(B), so the subtracted term has the relative error n u cond(B).
    """
    part = coupled(B, s, y)
    if len(part) < len(s):
        inner = direct_update(u, B[np.ix_(part, part)], s[part], y[part])
        return inner + rounding(u, len(s) - len(part), norm(np.delete(B, part, axis=0)))
    own = cond(B) * norm(B) + (1 + cosine(s, y)) * norm(y) ** 2 / abs(float(s @ y))
    return rounding(u, len(s), 4 * own) + inverse_update(u, B, y, s)


def lbfgs(u: float, S: np.ndarray, Y: np.ndarray, gamma: float) -> float:
    r"""Error of the L-BFGS matrix, by recursion or by the compact form.

    Recursion (1.3): I − ρ s yᵀ is an oblique projector of norm κ, so an error e becomes κ² e, and
    e⁺ = κ² e + n u (1 + κ)((1 + κ)²‖H‖ + ‖s‖²/sᵀy) with ‖H⁺‖ ≤ κ²‖H‖ + ‖s‖²/sᵀy.
    Compact form: two triangular solves with R (R_ij = s_iᵀy_j, i ≤ j), each of relative error m u
    cond(R), in terms of size (‖S‖‖R⁻¹‖)²(‖D‖ + gamma‖Y‖²) + 2 gamma‖S‖‖R⁻¹‖‖Y‖ + gamma.
    """
    error = 0.0
    size = gamma
    for s, y in zip(S, Y, strict=True):
        kappa = cosine(s, y)
        new = norm(s) ** 2 / abs(float(s @ y))
        error = kappa**2 * error + (1 + kappa) * ((1 + kappa) ** 2 * size + new)
        size = kappa**2 * size + new
    return rounding(u, S.shape[1] * max(len(S), 1), error + size + _compact_error(S, Y, gamma))


def _compact_error(S: np.ndarray, Y: np.ndarray, gamma: float) -> float:
    if not len(S):
        return gamma
    R = np.triu(S @ Y.T)
    R_inv = norm(np.linalg.inv(R))
    left = norm(S) * R_inv
    size = left**2 * (norm(np.diag(R)) + gamma * norm(Y) ** 2) + 2 * gamma * left * norm(Y) + gamma
    return (1 + norm(R) * R_inv) * (1 + norm(S) * norm(Y) * R_inv) * size


def _updated(H: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
    return left @ H @ left.T + np.outer(s, s) / (s @ y)
