"""The laws that are stated in exact arithmetic.

A statement takes the functions under test, the draws and a size, and compares without a tolerance.
An identity is decided; an inequality is stated for rationals and not found broken.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kfqn_ref.testing.exact.draws import Draws
from kfqn_ref.testing.exact.scalars import inverse, positive_definite
from kfqn_ref.testing.law import Check, Violation

EXACT: dict[str, Check] = {}
INEQUALITIES: set[str] = set()
SIZES = (1, 2, 3, 5, 8)

GEOMETRIES = {
    1: {"kernel_size": (1, 1)},
    2: {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)},
    3: {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    5: {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (2, 1)},
    8: {"kernel_size": (1, 7), "padding": (0, 1)},
}
"""A convolution for every size; the images are 6 × 7."""


def _exact(words: str, formula: str, requires: str, *, inequality: bool = False) -> Any:
    """List the decorated statement as ``exact.function``."""

    def register(statement: Callable[..., None]) -> Check:
        name = f"exact.{statement.__name__}"
        needed = tuple(requires.split())
        check = Check(
            name, words, formula, "exact", needed, lambda _: st.nothing(), statement, "exact"
        )
        EXACT[name] = check
        if inequality:
            INEQUALITIES.add(name)
        return check

    return register


def same(left: str, lhs: Any, right: str, rhs: Any) -> None:
    """State that two numbers or arrays are the same, entry by entry."""
    if np.shape(lhs) != np.shape(rhs):
        shapes = f"{left} of shape {np.shape(lhs)}", f"{right} of shape {np.shape(rhs)}"
        raise Violation(shapes[0], lhs, shapes[1], rhs, size=np.inf, tolerance=0.0)
    pairs = zip(np.ravel(lhs), np.ravel(rhs), strict=True)
    if not all(a == b for a, b in pairs):
        raise Violation(left, lhs, right, rhs, size=np.inf, tolerance=0.0)


def true(what: str, value: bool, got: Any) -> None:
    """State an inequality that has been decided exactly."""
    if not value:
        raise Violation(what, got, "to hold", True, size=np.inf, tolerance=0.0)


def _textbook(H: Any, s: Any, y: Any) -> Any:
    """(1.3), multiplied out: an order of terms that the reference does not use."""
    sy = s @ y
    Hy = H @ y
    middle = (np.outer(Hy, s) + np.outer(s, Hy)) / sy
    return H - middle + np.outer(s, s) * ((1 + (y @ Hy) / sy) / sy)


# ------------------------------------------------------------------------------------------- BFGS


@_exact("The new estimate maps y to s.", "H⁺ y = s", "bfgs_inverse_update")
def bfgs_secant(f: Any, d: Draws, n: int) -> None:
    H = d.spd("H", n)
    s, y = d.pair(n)
    same("H⁺ y", f.bfgs_inverse_update(H, s, y) @ y, "s", s)


@_exact(
    "The update is (1.3), multiplied out.",
    "H⁺ = H − (H y sᵀ + s yᵀ H) ρ + (1 + ρ yᵀ H y) ρ s sᵀ",
    "bfgs_inverse_update",
)
def bfgs_formula(f: Any, d: Draws, n: int) -> None:
    H = d.spd("H", n)
    s, y = d.pair(n)
    same("H⁺", f.bfgs_inverse_update(H, s, y), "(1.3)", _textbook(H, s, y))


@_exact(
    "In the metric W with W s = y the change is orthogonal to every symmetric E with E y = 0: no "
    "estimate that maps y to s is nearer to H.",
    "tr(W (H⁺ − H) W E) = 0",
    "bfgs_inverse_update",
)
def bfgs_least_change(f: Any, d: Draws, n: int) -> None:
    H = d.spd("H", n)
    s, y = d.pair(n)
    change = f.bfgs_inverse_update(H, s, y) - H
    W = inverse(_textbook(d.spd("W", n), s, y))
    P = np.eye(n) - np.outer(y, y) / (y @ y)
    Z = d.matrix("Z", n, n)
    E = P @ (Z + Z.T) @ P.T
    same("tr(W (H⁺ − H) W E)", np.trace(W @ change @ W @ E), "0", 0)


@_exact(
    "The direct update and the update of the inverse stay inverses of each other (Woodbury's "
    "identity for a change of rank two).",
    "B⁺(H⁻¹, s, y) H⁺(H, s, y) = I",
    "bfgs_inverse_update bfgs_direct_update",
)
def bfgs_twins(f: Any, d: Draws, n: int) -> None:
    H = d.spd("H", n)
    s, y = d.pair(n)
    product = f.bfgs_direct_update(inverse(H), s, y) @ f.bfgs_inverse_update(H, s, y)
    same("B⁺ H⁺", product, "I", np.eye(n))


@_exact("The new direct estimate maps s to y.", "B⁺ s = y", "bfgs_direct_update")
def direct_secant(f: Any, d: Draws, n: int) -> None:
    B = d.spd("B", n)
    s, y = d.pair(n)
    same("B⁺ s", f.bfgs_direct_update(B, s, y) @ s, "y", y)


@_exact(
    "The direct update is the inverse of the update of the inverse.",
    "B⁺ = (H⁺)⁻¹ with H = B⁻¹",
    "bfgs_direct_update",
)
def direct_formula(f: Any, d: Draws, n: int) -> None:
    H = d.spd("H", n)
    s, y = d.pair(n)
    wanted = inverse(_textbook(H, s, y))
    same("B⁺", f.bfgs_direct_update(inverse(H), s, y), "(H⁺)⁻¹", wanted)


@_exact(
    "A positive definite estimate stays positive definite.",
    "xᵀ H⁺ x > 0, by its leading minors",
    "bfgs_inverse_update",
    inequality=True,
)
def bfgs_positive(f: Any, d: Draws, n: int) -> None:
    H = d.spd("H", n)
    s, y = d.pair(n)
    updated = f.bfgs_inverse_update(H, s, y)
    true("H⁺ positive definite", positive_definite(updated), updated)


# ----------------------------------------------------------------------------------------- L-BFGS


def _stored(d: Draws, n: int) -> tuple[Any, Any, Any, Any]:
    """Pairs, a vector and a scale of H_0, and H by (1.3), pair after pair."""
    gamma = d.positive("gamma")
    S, Y = d.pairs(min(n, 3), n)
    H = gamma * np.eye(n)
    for s, y in zip(S, Y, strict=True):
        H = _textbook(H, s, y)
    return S, Y, gamma, H


@_exact(
    "The two loops give what the updates, one after the other, give.",
    "two_loop(S, Y, q) = H q",
    "lbfgs_two_loop",
)
def two_loop(f: Any, d: Draws, n: int) -> None:
    S, Y, gamma, H = _stored(d, n)
    q = d.matrix("q", n)
    same("two loops", f.lbfgs_two_loop(S, Y, q, gamma=gamma), "H q", H @ q)


@_exact(
    "The compact form gives what the updates, one after the other, give.",
    "compact(S, Y) = H",
    "lbfgs_compact",
)
def compact(f: Any, d: Draws, n: int) -> None:
    S, Y, gamma, H = _stored(d, n)
    same("compact form", f.lbfgs_compact(S, Y, gamma=gamma), "H", H)


@_exact("The dense form is (1.3), pair after pair.", "dense(S, Y) = H", "lbfgs_dense")
def dense(f: Any, d: Draws, n: int) -> None:
    S, Y, gamma, H = _stored(d, n)
    same("dense form", f.lbfgs_dense(S, Y, gamma=gamma), "H", H)


@_exact(
    "A full memory drops its oldest pair and ends with the newest.",
    "push = the last rows of (S; s) and (Y; y)",
    "lbfgs_push",
)
def push(f: Any, d: Draws, n: int) -> None:
    S, Y = d.pairs(3, n)
    s, y = d.pair(n)
    for memory in (1, 3, 4):
        pushed = f.lbfgs_push(S, Y, s, y, memory=memory)
        for side, old, new in zip(pushed, (S, Y), (s, y), strict=True):
            same("stored rows", side, "the last rows", np.vstack([old, new])[-memory:])


# ---------------------------------------------------------------------------------------- damping


def _powell_case(d: Draws, n: int, side: str) -> tuple[Any, Any, Any, Any]:
    H = d.spd("H", n)
    y = d.nonzero("y", n)
    mu1 = d.fraction("mu1")
    return H, d.beside(H @ y, y, mu1, side), y, mu1


def _wanted(curvature: Any, metric: Any, mu: Any, side: str) -> Any:
    return curvature if side == "rests" else mu * metric


SIDES = ("acts", "rests", "tie")


@_exact(
    "After Powell's damping the curvature is what it was, or exactly the threshold where it was "
    "below.",
    "s̃ᵀy = max(sᵀy, mu1 yᵀHy), also on the threshold",
    "powell_damp",
)
def powell_curvature(f: Any, d: Draws, n: int) -> None:
    for side in SIDES:
        H, s, y, mu1 = _powell_case(d, n, side)
        wanted = _wanted(s @ y, y @ H @ y, mu1, side)
        same("s̃ᵀy", f.powell_damp(H, s, y, mu1=mu1) @ y, "max(sᵀy, mu1 yᵀHy)", wanted)


@_exact(
    "Powell's damping moves s straight towards H y.",
    "s̃ = s + (1 − θ)(H y − s), with the θ that keeps the curvature",
    "powell_damp",
)
def powell_formula(f: Any, d: Draws, n: int) -> None:
    for side in SIDES:
        H, s, y, mu1 = _powell_case(d, n, side)
        moved = (_wanted(s @ y, y @ H @ y, mu1, side) - s @ y) / (y @ H @ y - s @ y)
        same("s̃", f.powell_damp(H, s, y, mu1=mu1), "θ s + (1 − θ) H y", s + moved * (H @ y - s))


@_exact(
    "Damping with the identity moves y straight towards s, until the curvature is the threshold.",
    "ỹ = y + (1 − θ)(s − y), s̃ᵀỹ = max(sᵀy, mu2 sᵀs)",
    "identity_damp",
)
def identity_formula(f: Any, d: Draws, n: int) -> None:
    for side in SIDES:
        s = d.nonzero("s", n)
        mu2 = d.fraction("mu2")
        y = d.beside(s, s, mu2, side)
        moved = (_wanted(s @ y, s @ s, mu2, side) - s @ y) / (s @ s - s @ y)
        same("ỹ", f.identity_damp(s, y, mu2=mu2), "θ y + (1 − θ) s", y + moved * (s - y))


@_exact("Levenberg-Marquardt damping adds λ s.", "ỹ = y + λ s", "lm_damp")
def lm_formula(f: Any, d: Draws, n: int) -> None:
    s, y = d.matrix("s", n), d.matrix("y", n)
    lam = d.positive("lam")
    same("ỹ", f.lm_damp(s, y, lam=lam), "y + λ s", y + lam * s)


@_exact(
    "D_P D_LM is Powell's damping and then λ s̃.",
    "ỹ = y + λ s̃, s̃ = powell(H, s, y)",
    "dp_dlm_damp",
)
def dp_dlm(f: Any, d: Draws, n: int) -> None:
    lam = d.positive("lam")
    for side in SIDES:
        H, s, y, mu1 = _powell_case(d, n, side)
        moved = (_wanted(s @ y, y @ H @ y, mu1, side) - s @ y) / (y @ H @ y - s @ y)
        wanted = s + moved * (H @ y - s)
        s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
        same("s̃", s_tilde, "θ s + (1 − θ) H y", wanted)
        same("ỹ", y_tilde, "y + λ s̃", y + lam * wanted)


@_exact(
    "Double damping keeps at least the curvature of both thresholds.",
    "s̃ᵀỹ ≥ mu2 s̃ᵀs̃ and s̃ᵀy ≥ mu1 yᵀHy",
    "double_damp",
    inequality=True,
)
def double_bounds(f: Any, d: Draws, n: int) -> None:
    mu2 = d.fraction("mu2")
    for side in SIDES:
        H, s, y, mu1 = _powell_case(d, n, side)
        s_tilde, y_tilde = f.double_damp(H, s, y, mu1=mu1, mu2=mu2)
        true("s̃ᵀỹ ≥ mu2 s̃ᵀs̃", s_tilde @ y_tilde >= mu2 * (s_tilde @ s_tilde), s_tilde @ y_tilde)
        true("s̃ᵀy ≥ mu1 yᵀHy", s_tilde @ y >= mu1 * (y @ H @ y), s_tilde @ y)


@_exact(
    "After D_P D_LM the curvature exceeds λ s̃ᵀs̃ by what Powell's damping keeps.",
    "s̃ᵀỹ ≥ mu1 yᵀHy + λ s̃ᵀs̃",
    "dp_dlm_damp",
    inequality=True,
)
def lm_curvature(f: Any, d: Draws, n: int) -> None:
    lam = d.positive("lam")
    for side in SIDES:
        H, s, y, mu1 = _powell_case(d, n, side)
        s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
        least = mu1 * (y @ H @ y) + lam * (s_tilde @ s_tilde)
        true("s̃ᵀỹ ≥ mu1 yᵀHy + λ s̃ᵀs̃", s_tilde @ y_tilde >= least, s_tilde @ y_tilde)


# ------------------------------------------------------------------- Kronecker products and layers


@_exact(
    "The Kronecker product acts on stacked columns as two products of matrices.",
    "(A ⊗ G) cvec(X) = cvec(G X Aᵀ)",
    "kron kron_matvec cvec",
)
def kron_action(f: Any, d: Draws, n: int) -> None:
    A, G, X = d.matrix("A", 2, n), d.matrix("G", n, 3), d.matrix("X", 3, n)
    stacked = f.kron(A, G) @ f.cvec(X)
    same("(A ⊗ G) cvec(X)", stacked, "cvec(G X Aᵀ)", f.cvec(f.kron_matvec(A, G, X)))


@_exact("The matrix form is G X Aᵀ.", "matvec = G X Aᵀ", "kron_matvec")
def kron_matvec(f: Any, d: Draws, n: int) -> None:
    A, G, X = d.matrix("A", 2, n), d.matrix("G", n, 3), d.matrix("X", 3, n)
    same("(A ⊗ G) X", f.kron_matvec(A, G, X), "G X Aᵀ", G @ (X @ A.T))


@_exact("Block (i, j) of the product is A_ij G.", "(A ⊗ G) block (i, j) = A_ij G", "kron")
def kron_blocks(f: Any, d: Draws, n: int) -> None:
    A, G = d.matrix("A", 2, n), d.matrix("G", n, 3)
    blocks = np.block([[a * G for a in row] for row in A])
    same("A ⊗ G", f.kron(A, G), "blocks A_ij G", blocks)


@_exact("cvec stacks the columns.", "cvec(X)_(j m + i) = X_ij", "cvec")
def columns(f: Any, d: Draws, n: int) -> None:
    X = d.matrix("X", n, 3)
    same("cvec(X)", f.cvec(X), "the columns", np.array([x for column in X.T for x in column]))


@_exact("rvec stacks the rows.", "rvec(X)_(i n + j) = X_ij", "rvec")
def rows(f: Any, d: Draws, n: int) -> None:
    X = d.matrix("X", n, 3)
    same("rvec(X)", f.rvec(X), "the rows", np.array([x for row in X for x in row]))


@_exact(
    "Adding patches up is the adjoint of taking them.",
    "⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩",
    "im2col col2im",
)
def patches_adjoint(f: Any, d: Draws, n: int) -> None:
    geometry = dict(GEOMETRIES[n])
    kernel = geometry.pop("kernel_size")
    x = d.matrix("x", 2, 2, 6, 7)
    taken = f.im2col(x, kernel, **geometry)
    c = d.matrix("c", *taken.shape)
    added = f.col2im(c, x.shape, kernel, **geometry)
    same("⟨im2col(x), c⟩", (taken * c).sum(), "⟨x, col2im(c)⟩", (x * added).sum())


@_exact("The input factor is Σ ā āᵀ / N.", "A = (1/N) Σ ā āᵀ", "input_factor")
def factor(f: Any, d: Draws, n: int) -> None:
    a = d.matrix("a_bar", 2, 3, n)
    wanted = sum(np.outer(x, x) for sample in a for x in sample) / 2
    same("A", f.input_factor(a), "Σ ā āᵀ / N", wanted)


@_exact(
    "The Hessian action is the factor times the vector.",
    "action(ā, v) = A v",
    "input_factor hessian_action",
)
def action(f: Any, d: Draws, n: int) -> None:
    a, v = d.matrix("a_bar", 2, 3, n), d.matrix("v", n)
    same("Hessian action", f.hessian_action(a, v), "A v", f.input_factor(a) @ v)


@_exact(
    "The input pair is s = H ā̄, y = A s + λ s.",
    "s_a = H_a ā̄, y_a = A s_a + λ s_a",
    "input_pair",
)
def pair_of_inputs(f: Any, d: Draws, n: int) -> None:
    H, A, mean = d.spd("H", n), d.spd("A", n), d.matrix("a_mean", n)
    lam = d.positive("lam")
    s, y = f.input_pair(H, mean, A, lam=lam)
    same("s_a", s, "H_a ā̄", H @ mean)
    same("y_a", y, "A s_a + λ s_a", A @ (H @ mean) + lam * (H @ mean))


@_exact(
    "Along every direction in which the inputs vary the input factor is positive.",
    "A positive definite, from more inputs than features",
    "input_factor",
    inequality=True,
)
def factor_positive(f: Any, d: Draws, n: int) -> None:
    a = d.matrix("a_bar", n + 1, 2, n)
    for k in range(n):
        a[k, 0] = np.eye(n)[k]
    found = f.input_factor(a)
    true("A positive definite", positive_definite(found), found)
