"""Laws of the damping formulas (2.1)-(2.3): each formula on its own, its invariances, its limit
cases.
"""

from typing import Any

import numpy as np

from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.law import EVERY_SIZE, equal, law
from kfqn_ref.testing.strategies.kernels import (
    damping_cases,
    extended,
    identity_cases,
    lambdas,
    lm_cases,
    unimodular,
)
from kfqn_ref.testing.tolerances import Precision


def powell_theta(H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> float:
    """θ of (2.1), from the condition it is chosen for: s̃ᵀy = mu1 yᵀHy is linear in θ."""
    sy = float(s @ y)
    yHy = float(y @ H @ y)
    return 1.0 if sy >= mu1 * yHy else (mu1 * yHy - yHy) / (sy - yHy)


def _powell_covariant(precision: Precision) -> Any:
    return extended(damping_cases(precision), M=lambda case: unimodular(len(case["s"])))


def _powell_scaled(precision: Precision) -> Any:
    return extended(damping_cases(precision), c=lambdas())


@law(
    "Powell's damping mixes the step s with H y, in the proportion that keeps the curvature "
    "along y.",
    "s̃ = θ s + (1 − θ) H y,  θ = 1 if sᵀy ≥ mu1 yᵀHy, else (1 − mu1) yᵀHy / (yᵀHy − sᵀy)   (2.1)",
    chapter="damping",
    requires="powell_damp",
    given=damping_cases,
    sizes=EVERY_SIZE,
)
def powell_formula(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> None:
    theta = powell_theta(H, s, y, mu1)
    s_tilde = f.powell_damp(H, s, y, mu1=mu1)
    equal(
        "s̃",
        s_tilde,
        "θ s + (1 − θ) H y",
        theta * s + (1 - theta) * (H @ y),
        tol.powell(f.u, H, s, y),
    )


@law(
    "Where damping acts, the damped step has exactly the curvature asked for; elsewhere it "
    "keeps at least "
    "as much.",
    "s̃ᵀy = max(sᵀy, mu1 yᵀHy)   (2.4)",
    chapter="damping",
    requires="powell_damp",
    given=damping_cases,
)
def powell_curvature(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> None:
    s_tilde = f.powell_damp(H, s, y, mu1=mu1)
    wanted = max(float(s @ y), mu1 * float(y @ H @ y))
    equal("s̃ᵀy", s_tilde @ y, "max(sᵀy, mu1 yᵀHy)", wanted, tol.powell(f.u, H, s, y) * tol.norm(y))


@law(
    "A step with enough curvature is returned as it came.",
    "sᵀy ≥ mu1 yᵀHy  ⟹  s̃ = s",
    chapter="damping",
    requires="powell_damp",
    given=lambda p: damping_cases(p).filter(
        # The law speaks of this half of the cases only; about half of the draws are in it.
        lambda c: c["s"] @ c["y"] > 1.01 * c["mu1"] * (c["y"] @ c["H"] @ c["y"])
    ),
)
def powell_keeps(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> None:
    equal("s̃", f.powell_damp(H, s, y, mu1=mu1), "s", s, tol.powell(f.u, H, s, y))


@law(
    "Damping twice is damping once.",
    "damp(H, damp(H, s, y), y) = damp(H, s, y)",
    chapter="damping",
    requires="powell_damp",
    given=damping_cases,
)
def powell_idempotent(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> None:
    once = f.powell_damp(H, s, y, mu1=mu1)
    twice = f.powell_damp(H, once, y, mu1=mu1)
    bound = tol.powell(f.u, H, s, y) * (1 + tol.norm(H) * tol.norm(y) ** 2 / float(y @ H @ y))
    equal("damped twice", twice, "damped once", once, bound + tol.powell(f.u, H, once, y))


@law(
    "A linear change of variables commutes with Powell's damping.",
    "damp(M H Mᵀ, M s, M⁻ᵀ y) = M damp(H, s, y)",
    chapter="damping",
    requires="powell_damp",
    given=_powell_covariant,
)
def powell_covariant(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, M: np.ndarray
) -> None:
    moved = M @ H @ M.T, M @ s, np.linalg.solve(M.T, y)
    bound = tol.norm(M) * tol.powell(f.u, H, s, y) + tol.cond(M) ** 2 * tol.powell(f.u, *moved)
    equal(
        "damped after M",
        f.powell_damp(*moved, mu1=mu1),
        "M s̃",
        M @ f.powell_damp(H, s, y, mu1=mu1),
        bound,
    )


@law(
    "A pair on another scale is damped to the same pair on that scale.",
    "damp(H, c s, c y) = c damp(H, s, y)",
    chapter="damping",
    requires="powell_damp",
    given=_powell_scaled,
)
def powell_scale(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, c: float) -> None:
    scaled = f.powell_damp(H, c * s, c * y, mu1=mu1)
    equal(
        "damp(H, c s, c y)",
        scaled,
        "c s̃",
        c * f.powell_damp(H, s, y, mu1=mu1),
        2 * c * tol.powell(f.u, H, s, y),
    )


@law(
    "The customary threshold is the default: mu1 = 0.2.",
    "damp(H, s, y) = damp(H, s, y; mu1 = 0.2)",
    chapter="damping",
    requires="powell_damp",
    given=damping_cases,
    sizes=EVERY_SIZE,
)
def powell_default(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> None:
    theta = powell_theta(H, s, y, 0.2)
    wanted = theta * s + (1 - theta) * (H @ y)
    equal("s̃", f.powell_damp(H, s, y), "s̃ with mu1 = 0.2", wanted, tol.powell(f.u, H, s, y))


@law(
    "Damping against B = I mixes y with the step s̃, in the proportion that keeps the "
    "curvature along s̃.",
    "ỹ = θ y + (1 − θ) s̃,  θ = 1 if s̃ᵀy ≥ mu2 s̃ᵀs̃, else (1 − mu2) s̃ᵀs̃ / (s̃ᵀs̃ − s̃ᵀy)   (2.2)",
    chapter="damping",
    requires="identity_damp",
    given=identity_cases,
    sizes=EVERY_SIZE,
)
def identity_formula(f: Any, s: np.ndarray, y: np.ndarray, mu2: float) -> None:
    theta = powell_theta(np.eye(len(s)), y, s, mu2)
    equal(
        "ỹ",
        f.identity_damp(s, y, mu2=mu2),
        "θ y + (1 − θ) s̃",
        theta * y + (1 - theta) * s,
        tol.identity(f.u, s, y),
    )


@law(
    "Damped against I, the curvature along s̃ is exactly what was asked for, or more if it "
    "was more.",
    "s̃ᵀỹ = max(s̃ᵀy, mu2 s̃ᵀs̃)",
    chapter="damping",
    requires="identity_damp",
    given=identity_cases,
)
def identity_curvature(f: Any, s: np.ndarray, y: np.ndarray, mu2: float) -> None:
    y_tilde = f.identity_damp(s, y, mu2=mu2)
    wanted = max(float(s @ y), mu2 * float(s @ s))
    equal("s̃ᵀỹ", s @ y_tilde, "max(s̃ᵀy, mu2 s̃ᵀs̃)", wanted, tol.identity(f.u, s, y) * tol.norm(s))


@law(
    "Levenberg-Marquardt damping adds λ times the step to the change of the gradient.",
    "ỹ = y + λ s̃   (2.3)",
    chapter="damping",
    requires="lm_damp",
    given=lm_cases,
    sizes=EVERY_SIZE,
)
def lm_formula(f: Any, s: np.ndarray, y: np.ndarray, lam: float) -> None:
    bound = tol.rounding(f.u, 1, tol.norm(y) + lam * tol.norm(s))
    equal("ỹ", f.lm_damp(s, y, lam=lam), "y + λ s̃", y + lam * s, bound)
