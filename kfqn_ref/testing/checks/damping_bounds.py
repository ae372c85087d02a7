"""Laws of the damped pair: what double damping and D_P D_LM are, and the bounds (2.4)-(2.8) they
were made for.
"""

from typing import Any

import numpy as np

from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.damping import powell_theta
from kfqn_ref.testing.law import EVERY_SIZE, at_most, equal, law
from kfqn_ref.testing.strategies.kernels import (
    damping_cases,
    dampings,
    extended,
    lambdas,
    thresholds,
)
from kfqn_ref.testing.tolerances import Precision


def _dlm_cases(precision: Precision) -> Any:
    return extended(damping_cases(precision), lam=dampings())


def _positive_dlm_cases(precision: Precision) -> Any:
    """The cases of a bound that divides by λ."""
    return extended(damping_cases(precision), lam=lambdas())


def _dd_cases(precision: Precision) -> Any:
    return extended(damping_cases(precision), mu2=thresholds())


def _damped(H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float) -> np.ndarray:
    theta = powell_theta(H, s, y, mu1)
    return theta * s + (1 - theta) * (H @ y)


def _pair_error(
    f: Any, case: dict[str, Any], s_tilde: np.ndarray, lam: float
) -> tuple[float, float]:
    """Errors of s̃ and of ỹ = y + λ s̃."""
    error = tol.powell(f.u, case["H"], case["s"], case["y"])
    return error, lam * error + tol.rounding(f.u, 1, tol.norm(case["y"]) + lam * tol.norm(s_tilde))


@law(
    "D_P D_LM is Powell's damping of s, then Levenberg-Marquardt damping of y with the damped s.",
    "s̃ by (2.1), then ỹ = y + λ s̃   (2.3)",
    chapter="damping",
    requires="dp_dlm_damp",
    given=_dlm_cases,
    sizes=EVERY_SIZE,
)
def dp_dlm_composition(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, lam: float
) -> None:
    s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    wanted = _damped(H, s, y, mu1)
    error_s, error_y = _pair_error(f, {"H": H, "s": s, "y": y}, wanted, lam)
    equal("s̃", s_tilde, "θ s + (1 − θ) H y", wanted, error_s)
    equal("ỹ", y_tilde, "y + λ s̃", y + lam * wanted, error_y)


@law(
    "Double damping is Powell's damping of s, then damping of y against B = I with the damped s.",
    "s̃ by (2.1), then ỹ by (2.2)",
    chapter="damping",
    requires="double_damp",
    given=_dd_cases,
    sizes=EVERY_SIZE,
)
def double_composition(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, mu2: float
) -> None:
    s_tilde, y_tilde = f.double_damp(H, s, y, mu1=mu1, mu2=mu2)
    wanted = _damped(H, s, y, mu1)
    theta = powell_theta(np.eye(len(s)), y, wanted, mu2)
    error = tol.powell(f.u, H, s, y)
    equal("s̃", s_tilde, "θ s + (1 − θ) H y", wanted, error)
    # (2.2) divides by s̃ᵀs̃, so the relative error of s̃ enters by the size of y once more.
    through = error * (1 + tol.norm(y) / tol.norm(wanted))
    bound = 4 * through + tol.identity(f.u, wanted, y)
    equal("ỹ", y_tilde, "θ y + (1 − θ) s̃", theta * y + (1 - theta) * wanted, bound)


@law(
    "After D_P D_LM the pair has at least the curvature λ along the step, so the updated H "
    "stays bounded.",
    "s̃ᵀs̃ / s̃ᵀỹ ≤ 1/λ   (2.5)",
    chapter="damping",
    requires="dp_dlm_damp",
    given=_dlm_cases,
)
def dp_dlm_step_bound(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, lam: float
) -> None:
    s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    error_s, error_y = _pair_error(f, {"H": H, "s": s, "y": y}, s_tilde, lam)
    bound = error_s * tol.norm(y_tilde) + error_y * tol.norm(s_tilde)
    at_most("λ s̃ᵀs̃", lam * (s_tilde @ s_tilde), "s̃ᵀỹ", s_tilde @ y_tilde, bound)


@law(
    "After D_P D_LM the pair has at most the curvature λ + ‖B‖/mu1, so the updated B stays "
    "bounded.",
    "ỹᵀỹ / s̃ᵀỹ ≤ λ + ‖B‖/mu1   (2.6)",
    chapter="damping",
    requires="dp_dlm_damp",
    given=_dlm_cases,
)
def dp_dlm_gradient_bound(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, lam: float
) -> None:
    s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    error_s, error_y = _pair_error(f, {"H": H, "s": s, "y": y}, s_tilde, lam)
    limit = lam + 1 / np.linalg.eigvalsh(H)[0] / mu1
    sides = y_tilde @ y_tilde, limit * (s_tilde @ y_tilde)
    bound = 2 * error_y * tol.norm(y_tilde) + limit * (
        error_s * tol.norm(y_tilde) + error_y * tol.norm(s_tilde)
    )
    slack = tol.rounding(f.u, len(s), tol.cond(H) * limit * abs(float(s_tilde @ y_tilde)))
    at_most("ỹᵀỹ", sides[0], "(λ + ‖B‖/mu1) s̃ᵀỹ", sides[1], bound + slack)


@law(
    "Measured by H, the damped change of gradient is at most 1/mu1 + λ‖H‖ times the curvature.",
    "ỹᵀHỹ / s̃ᵀỹ ≤ 1/mu1 + λ‖H‖   (2.7)",
    chapter="damping",
    requires="dp_dlm_damp",
    given=_dlm_cases,
)
def dp_dlm_metric_bound(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, lam: float
) -> None:
    s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    error_s, error_y = _pair_error(f, {"H": H, "s": s, "y": y}, s_tilde, lam)
    limit = 1 / mu1 + lam * tol.norm(H)
    bound = 2 * error_y * tol.norm(H) * tol.norm(y_tilde)
    bound += limit * (error_s * tol.norm(y_tilde) + error_y * tol.norm(s_tilde))
    at_most("ỹᵀHỹ", y_tilde @ H @ y_tilde, "(1/mu1 + λ‖H‖) s̃ᵀỹ", limit * (s_tilde @ y_tilde), bound)


@law(
    "The bounds (2.6) and (2.7) are attained: by eigenvectors y of H, with a step that "
    "damping has to "
    "replace.",
    "y = eigenvector to λ_min(H) gives equality in (2.6), to λ_max(H) in (2.7)",
    chapter="damping",
    requires="dp_dlm_damp",
    given=_dlm_cases,
)
def dp_dlm_attained(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, lam: float
) -> None:
    eigenvalues, vectors = np.linalg.eigh(H)
    for h, v in (eigenvalues[0], vectors[:, 0]), (eigenvalues[-1], vectors[:, -1]):
        s_tilde, y_tilde = f.dp_dlm_damp(H, -H @ v, v, mu1=mu1, lam=lam)
        error_s, error_y = _pair_error(f, {"H": H, "s": -H @ v, "y": v}, s_tilde, lam)
        ratio = lam + 1 / (mu1 * h)  # s̃ = mu1 h v and ỹ = (1 + λ mu1 h) v
        relative = 3 * error_y + error_s / (mu1 * h) + tol.rounding(f.u, len(s), tol.cond(H))
        sy = s_tilde @ y_tilde
        bound = ratio * relative * mu1 * h * (1 + lam * mu1 * h)
        equal("ỹᵀỹ", y_tilde @ y_tilde, "(λ + 1/(mu1 h)) s̃ᵀỹ, H y = h y", ratio * sy, bound)
        equal(
            "ỹᵀHỹ", y_tilde @ H @ y_tilde, "(1/mu1 + λ h) s̃ᵀỹ, H y = h y", h * ratio * sy, h * bound
        )


@law(
    "A BFGS update with a pair from D_P D_LM keeps both H and its inverse B within bounds "
    "known beforehand.",
    "‖B⁺‖ ≤ ‖B‖ + λ + ‖B‖/mu1,  ‖H⁺‖ ≤ (√‖H‖ + √((1/mu1 + λ‖H‖)/λ))² + 1/λ   (2.8)",
    chapter="damping",
    requires="dp_dlm_damp bfgs_inverse_update",
    given=_positive_dlm_cases,
)
def dp_dlm_update_bound(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, lam: float
) -> None:
    s_tilde, y_tilde = f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    H_plus = f.bfgs_inverse_update(H, s_tilde, y_tilde)
    h = tol.norm(H)
    b = 1 / np.linalg.eigvalsh(H)[0]
    error = tol.inverse_update(f.u, H, s_tilde, y_tilde)
    limit = (np.sqrt(h) + np.sqrt((1 / mu1 + lam * h) / lam)) ** 2 + 1 / lam
    eigenvalues = np.linalg.eigvalsh((H_plus + H_plus.T) / 2)
    at_most("‖H⁺‖", eigenvalues[-1], "(√‖H‖ + √((1/mu1 + λ‖H‖)/λ))² + 1/λ", limit, error)
    at_most("1/(‖B‖ + λ + ‖B‖/mu1)", 1 / (b + lam + b / mu1), "λ_min(H⁺)", eigenvalues[0], error)


@law(
    "After double damping the pair has at least the curvature mu2 along the step.",
    "s̃ᵀs̃ / s̃ᵀỹ ≤ 1/mu2",
    chapter="damping",
    requires="double_damp",
    given=_dd_cases,
)
def double_step_bound(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, mu2: float
) -> None:
    s_tilde, y_tilde = f.double_damp(H, s, y, mu1=mu1, mu2=mu2)
    if not s_tilde.any():
        return  # both sides are 0
    bound = tol.identity(f.u, s_tilde, y) * tol.norm(s_tilde)
    at_most("mu2 s̃ᵀs̃", mu2 * (s_tilde @ s_tilde), "s̃ᵀỹ", s_tilde @ y_tilde, bound)


@law(
    "Where double damping leaves ỹᵀHỹ ≤ (2/mu1) s̃ᵀỹ, the updated H and B stay within bounds known "
    "beforehand.",
    "‖B⁺‖ ≤ (1 + 2/mu1)‖B‖,  ‖H⁺‖ ≤ (√‖H‖ + √(2/(mu1 mu2)))² + 1/mu2",
    chapter="damping",
    requires="double_damp bfgs_inverse_update",
    given=_dd_cases,
)
def double_update_bound(
    f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu1: float, mu2: float
) -> None:
    s_tilde, y_tilde = f.double_damp(H, s, y, mu1=mu1, mu2=mu2)
    if y_tilde @ H @ y_tilde > 2 / mu1 * (s_tilde @ y_tilde):
        return  # the statement's own condition; where it fails nothing is claimed
    H_plus = f.bfgs_inverse_update(H, s_tilde, y_tilde)
    h = tol.norm(H)
    b = 1 / np.linalg.eigvalsh(H)[0]
    error = tol.inverse_update(f.u, H, s_tilde, y_tilde)
    limit = (np.sqrt(h) + np.sqrt(2 / (mu1 * mu2))) ** 2 + 1 / mu2
    eigenvalues = np.linalg.eigvalsh((H_plus + H_plus.T) / 2)
    at_most("‖H⁺‖", eigenvalues[-1], "(√‖H‖ + √(2/(mu1 mu2)))² + 1/mu2", limit, error)
    at_most("1/((1 + 2/mu1)‖B‖)", 1 / ((1 + 2 / mu1) * b), "λ_min(H⁺)", eigenvalues[0], error)
