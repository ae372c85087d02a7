"""Theorems on BFGS: least change, quadratic termination, interlacing of eigenvalues on a fixed
matrix.
"""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.bfgs import may_refuse
from kfqn_ref.testing.law import Case, at_most, equal, law
from kfqn_ref.testing.strategies.axes import choose
from kfqn_ref.testing.strategies.kernels import (
    digits,
    extended,
    frozen,
    spd,
    triples,
    unit_triangles,
    vectors,
)
from kfqn_ref.testing.tolerances import Precision


@cache
@st.composite
def _well_conditioned(draw: DrawFn, n: int) -> np.ndarray:
    """Unit triangles of halves and a diagonal of 1, 2, 4: positive definite and never
    near-singular.
    """
    L = draw(unit_triangles(n, limit=1))
    A = (L * 2.0 ** np.abs(draw(digits(n, 2)))) @ L.T
    return frozen((A + A.T) / 2)


@st.composite
def quadratics(draw: DrawFn, precision: Precision) -> Case:
    """A strictly convex quadratic with matrix A, a first H, and step lengths along A-conjugate
    directions.
    """
    n = draw(st.integers(1, 4))
    lengths = frozen(2.0 ** draw(digits(n, 1)))
    return {"H": draw(_well_conditioned(n)), "A": draw(_well_conditioned(n)), "lengths": lengths}


@st.composite
def fixed_matrix(draw: DrawFn, precision: Precision) -> Case:
    """(H, A, s) for y = A s."""
    n = choose(draw, "n")
    return {"H": draw(spd(precision, n)), "A": draw(_well_conditioned(n)), "s": draw(vectors(n))}


def _with_direction(precision: Precision) -> Any:
    return extended(triples(precision), r=lambda case: vectors(len(case["s"])))


@law(
    "Of all symmetric matrices with H⁺y = s the update is the one closest to H, in the norm "
    "weighted by W, "
    "W s = y.",
    "tr(W (H⁺ − H) W Z) = 0 for every symmetric Z with Z y = 0 (what being closest means)",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=_with_direction,
)
@may_refuse
def least_change(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, r: np.ndarray) -> None:
    n = len(s)
    W = np.eye(n) - np.outer(s, s) / (s @ s) + np.outer(y, y) / (s @ y)
    z = r - y * (r @ y) / (y @ y)
    H_plus = f.bfgs_inverse_update(H, s, y)
    inner = (W @ z) @ (H_plus - H) @ (W @ z)  # tr(W D W zzᵀ)
    Wz = tol.norm(W) * tol.norm(r)
    terms = tol.rounding(f.u, n, Wz**2 * (1 + tol.cosine(s, y)) * (tol.norm(H_plus) + tol.norm(H)))
    equal("zᵀW(H⁺ − H)W z", inner, "0", 0.0, 4 * terms + Wz**2 * tol.inverse_update(f.u, H, s, y))


@law(
    "On a strictly convex quadratic in n variables, n updates along conjugate directions "
    "find the inverse "
    "from any H.",
    "s_iᵀA s_j = 0 (i ≠ j), y_i = A s_i  ⟹  H_n A = I",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=quadratics,
    cost=2,
)
def quadratic_termination(f: Any, H: np.ndarray, A: np.ndarray, lengths: np.ndarray) -> None:
    n = len(lengths)
    error = 0.0
    directions = np.linalg.inv(np.linalg.cholesky(A))  # rows: A = L Lᵀ gives L⁻¹ A L⁻ᵀ = I
    for length, direction in zip(lengths, directions, strict=True):
        s = length * direction
        y = A @ s
        growth = (1 + tol.cosine(s, y)) ** 2
        # An error e in H becomes (I − ρ s yᵀ) e (I − ρ y sᵀ), directions are conjugate to n u
        # cond(A).
        error = growth * (error + tol.rounding(f.u, n, tol.cond(A) * tol.norm(H)))
        error += tol.inverse_update(f.u, H, s, y)
        H = f.bfgs_inverse_update(H, s, y)
        H = (H + H.T) / 2
    equal("H_n A", H @ A, "I", np.eye(n), tol.norm(A) * error)


@law(
    "With y = A s for a fixed A the eigenvalues of A^½ H A^½ move towards 1, each between "
    "its old value and "
    "1.",
    "min(ω_i, 1) ≤ ω_i⁺ ≤ max(ω_i, 1), both sorted",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=fixed_matrix,
)
def interlacing(f: Any, H: np.ndarray, A: np.ndarray, s: np.ndarray) -> None:
    y = A @ s
    root = np.linalg.cholesky(A)  # Aᵀᐟ² in place of A^½: rootᵀ H root has the same eigenvalues
    H_plus = f.bfgs_inverse_update(H, s, y)
    old = np.linalg.eigvalsh(root.T @ H @ root)
    new = np.linalg.eigvalsh(root.T @ (H_plus + H_plus.T) @ root / 2)
    bound = tol.norm(A) * tol.inverse_update(f.u, H, s, y) + tol.rounding(
        f.u, len(s), tol.norm(A) * tol.norm(H_plus)
    )
    for before, after in zip(old, new, strict=True):
        at_most("min(ω, 1)", min(before, 1.0), "ω⁺", after, bound)
        at_most("ω⁺", after, "max(ω, 1)", max(before, 1.0), bound)
