"""Laws of one BFGS update (1.3), each as an exact identity."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.law import EVERY_SIZE, at_most, equal, law
from kfqn_ref.testing.strategies.kernels import extended, lambdas, triples, unimodular
from kfqn_ref.testing.tolerances import Precision


def product_form(H: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(1.3) as it is displayed."""
    rho = 1 / (s @ y)
    left = np.eye(len(s)) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


@contextmanager
def factorised(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> Iterator[None]:
    """Let an implementation refuse to factorise an ``H⁺`` that is singular to working precision."""
    try:
        yield
    except np.linalg.LinAlgError:
        if not tol.singular(f.u, product_form(H, s, y)):
            raise


def may_refuse(statement: Callable[..., None]) -> Callable[..., None]:
    """Let the implementation refuse the case of a law where ``H⁺`` is singular so."""

    @wraps(statement)
    def stated(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, **rest: Any) -> None:
        with factorised(f, H, s, y):
            statement(f, H, s, y, **rest)

    return stated


def _covariant(precision: Precision) -> Any:
    return extended(triples(precision), M=lambda case: unimodular(len(case["s"])))


def _scaled(precision: Precision) -> Any:
    return extended(triples(precision), c=lambdas())


@law(
    "The updated H maps the change of gradient y back to the step s: the secant equation.",
    "H⁺ y = s",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=triples,
)
@may_refuse
def secant(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    H_plus = f.bfgs_inverse_update(H, s, y)
    equal(
        "H⁺ y",
        H_plus @ y,
        "s",
        s,
        tol.inverse_update(f.u, H, s, y) * tol.norm(y) + tol.rounding(f.u, 1, tol.norm(s)),
    )


@law(
    "The update is the product form, term by term.",
    "H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,  ρ = 1/sᵀy   (1.3)",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=triples,
    sizes=EVERY_SIZE,
)
@may_refuse
def formula(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    H_plus = f.bfgs_inverse_update(H, s, y)
    equal("H⁺", H_plus, "product form", product_form(H, s, y), tol.inverse_update(f.u, H, s, y))


@law(
    "The updated H is symmetric.",
    "H⁺ = H⁺ᵀ",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=triples,
)
@may_refuse
def symmetry(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    H_plus = f.bfgs_inverse_update(H, s, y)
    equal("H⁺", H_plus, "H⁺ᵀ", H_plus.T, 2 * tol.inverse_update(f.u, H, s, y))


@law(
    "The updated H is positive definite: B⁺ is at most B + yyᵀ/sᵀy, which bounds H⁺ from below.",
    "λ_min(H⁺) ≥ 1/(‖H⁻¹‖ + ‖y‖²/sᵀy) > 0",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=triples,
)
@may_refuse
def positive_definite(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    H_plus = f.bfgs_inverse_update(H, s, y)
    floor = 1 / (1 / np.linalg.eigvalsh(H)[0] + tol.norm(y) ** 2 / (s @ y))
    smallest = np.linalg.eigvalsh((H_plus + H_plus.T) / 2)[0]
    at_most("1/(‖H⁻¹‖ + ‖y‖²/sᵀy)", floor, "λ_min(H⁺)", smallest, tol.inverse_update(f.u, H, s, y))


@law(
    "The update multiplies the determinant by sᵀH⁻¹s / sᵀy.",
    "det H⁺ = det H · sᵀH⁻¹s / sᵀy",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=triples,
)
@may_refuse
def determinant(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    H_plus = f.bfgs_inverse_update(H, s, y)
    Bs = np.linalg.solve(H, s)
    ratio = s @ Bs / (s @ y)
    # |δ log det| ≤ n ‖B⁺‖ ‖δH⁺‖; where that leaves no digit the determinant's sign is not
    # determined either. B⁺ comes from B, by the direct update: a rounded H⁺ may be singular.
    B_plus = np.linalg.inv(H) - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    error = len(s) * tol.norm(B_plus) * tol.inverse_update(f.u, H, s, y)
    error += tol.rounding(f.u, len(s), tol.cond(H) ** 2 + tol.cosine(s, y))
    if error > 0.5:
        return
    wanted = np.linalg.slogdet(H)[1] + np.log(ratio)
    sign, logdet = np.linalg.slogdet(H_plus)
    equal(
        "sign, log det H⁺", [sign, logdet], "1, log(det H · sᵀH⁻¹s / sᵀy)", [1, wanted], 2 * error
    )


@law(
    "The direct update of B = H⁻¹ is the inverse of the update of H.",
    "B⁺ H⁺ = I,  B = H⁻¹",
    chapter="bfgs",
    requires="bfgs_inverse_update bfgs_direct_update",
    given=triples,
)
@may_refuse
def inverse_pair(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    B = np.linalg.inv(H)
    B = (B + B.T) / 2
    H_plus = f.bfgs_inverse_update(H, s, y)
    B_plus = f.bfgs_direct_update(B, s, y)
    error_B = tol.direct_update(f.u, B, s, y) + tol.rounding(
        f.u, len(s), tol.cond(H) ** 2 * tol.norm(B)
    )
    bound = tol.inverse_update(f.u, H, s, y) * tol.norm(B_plus) + error_B * tol.norm(H_plus)
    equal("B⁺ H⁺", B_plus @ H_plus, "I", np.eye(len(s)), bound)


@law(
    "The direct update is its formula, term by term.",
    "B⁺ = B − B s sᵀB / sᵀBs + y yᵀ / sᵀy",
    chapter="bfgs",
    requires="bfgs_direct_update",
    given=triples,
    sizes=EVERY_SIZE,
)
def direct_formula(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    B = H
    Bs = H @ s
    wanted = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    equal(
        "B⁺",
        f.bfgs_direct_update(B, s, y),
        "B − B s sᵀB / sᵀBs + y yᵀ / sᵀy",
        wanted,
        tol.direct_update(f.u, B, s, y),
    )


@law(
    "The direct update maps the step to the change of gradient: the secant equation for B.",
    "B⁺ s = y",
    chapter="bfgs",
    requires="bfgs_direct_update",
    given=triples,
)
def direct_secant(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    B_plus = f.bfgs_direct_update(H, s, y)
    bound = tol.direct_update(f.u, H, s, y) * tol.norm(s) + tol.rounding(f.u, 1, tol.norm(y))
    equal("B⁺ s", B_plus @ s, "y", y, bound)


@law(
    "A linear change of variables commutes with the update.",
    "update(M H Mᵀ, M s, M⁻ᵀ y) = M update(H, s, y) Mᵀ",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=_covariant,
)
@may_refuse
def affine_covariance(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, M: np.ndarray) -> None:
    moved_H = M @ H @ M.T
    moved = (moved_H + moved_H.T) / 2, M @ s, np.linalg.solve(M.T, y)
    bound = tol.norm(M) ** 2 * tol.inverse_update(f.u, H, s, y)
    bound += tol.cond(M) ** 2 * tol.inverse_update(f.u, *moved)
    wanted = M @ f.bfgs_inverse_update(H, s, y) @ M.T
    with factorised(f, *moved):
        equal("update after M", f.bfgs_inverse_update(*moved), "M H⁺ Mᵀ", wanted, bound)


@law(
    "The same pair a second time changes nothing.",
    "update(H⁺, s, y) = H⁺",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=triples,
)
def idempotence(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    bound = (1 + (1 + tol.cosine(s, y)) ** 2) * tol.inverse_update(f.u, H, s, y)
    bound += tol.inverse_update(f.u, product_form(H, s, y), s, y)
    with factorised(f, H, s, y):
        once = f.bfgs_inverse_update(H, s, y)
        once = (once + once.T) / 2
        if tol.singular(f.u, product_form(H, s, y)):
            # once is not positive definite to working precision: it can be asked for numbers only,
            # which NaN is not; bfgs.formula judges which numbers
            equal("updated once", once, "itself", once, 0.0)
            return
        equal("updated twice", f.bfgs_inverse_update(once, s, y), "updated once", once, bound)


@law(
    "Only the ratio of s and y counts: a pair on another scale gives the same update.",
    "update(H, c s, c y) = update(H, s, y)",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=_scaled,
)
def scale(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, c: float) -> None:
    with factorised(f, H, s, y):
        scaled = f.bfgs_inverse_update(H, c * s, c * y)
        plain = f.bfgs_inverse_update(H, s, y)
        equal(
            "update(H, c s, c y)",
            scaled,
            "update(H, s, y)",
            plain,
            2 * tol.inverse_update(f.u, H, s, y),
        )
