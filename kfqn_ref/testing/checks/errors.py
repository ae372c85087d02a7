"""The error contract, a group of its own: TypeError for a wrong shape, ValueError for a wrong
value, LinAlgError where the mathematics broke. Off by default: a function without input validation
is not wrong on valid input.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.linalg import LinAlgError

from kfqn_ref.testing.law import Case, Violation, law
from kfqn_ref.testing.strategies.kernels import dimensions, extended, frozen, spd, triples, vectors
from kfqn_ref.testing.tolerances import Precision


def raises(expected: type[Exception], call: Callable[[], Any], what: str) -> None:
    """State that the call raises this class; ValueError is not meant to be its subclass
    LinAlgError.
    """
    try:
        result = call()
    except Exception as error:
        if not isinstance(error, expected) or (
            expected is ValueError and isinstance(error, LinAlgError)
        ):
            got = f"{type(error).__name__}: {error}"
            raise Violation(what, got, expected.__name__, "", size=np.inf, tolerance=0.0) from error
    else:
        raise Violation(what, result, f"raises {expected.__name__}", "", size=np.inf, tolerance=0.0)


@st.composite
def _not_positive(draw: DrawFn, precision: Precision) -> Case:
    """A pair with sᵀy < 0 or = 0 (s = 0)."""
    n = draw(dimensions())
    s = draw(vectors(n))
    y = draw(vectors(n))
    sign = draw(st.sampled_from([-1.0, 0.0]))
    sy = float(s @ y)
    s = -y if sy == 0 else -np.sign(sy) * s
    return {"H": draw(spd(precision, n)), "s": frozen(abs(sign) * s), "y": y}


def _bad_fraction(precision: Precision) -> Any:
    bad = st.sampled_from([0.0, 1.0, -0.2, 1.5, float("nan"), float("inf")])
    return extended(triples(precision), mu=bad)


def _bad_lambda(precision: Precision) -> Any:
    return extended(triples(precision), lam=st.sampled_from([-1.0, -1e-6, float("nan")]))


@law(
    "Without positive curvature there is no update: H⁺ would be indefinite.",
    "sᵀy ≤ 0  ⟹  LinAlgError",
    chapter="errors",
    requires="bfgs_inverse_update",
    given=_not_positive,
    group="errors",
)
def inverse_curvature(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    raises(LinAlgError, lambda: f.bfgs_inverse_update(H, s, y), "bfgs_inverse_update with sᵀy ≤ 0")


@law(
    "Without positive curvature there is no direct update either.",
    "sᵀy ≤ 0  ⟹  LinAlgError",
    chapter="errors",
    requires="bfgs_direct_update",
    given=_not_positive,
    group="errors",
)
def direct_curvature(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    raises(LinAlgError, lambda: f.bfgs_direct_update(H, s, y), "bfgs_direct_update with sᵀy ≤ 0")


@law(
    "A change of gradient of zero, or an H that is not positive definite along it, has "
    "nothing to damp "
    "towards.",
    "yᵀHy ≤ 0  ⟹  LinAlgError",
    chapter="errors",
    requires="powell_damp",
    given=triples,
    group="errors",
)
def powell_metric(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    raises(LinAlgError, lambda: f.powell_damp(H, s, frozen(0 * y)), "powell_damp with y = 0")
    raises(LinAlgError, lambda: f.powell_damp(frozen(-H), s, y), "powell_damp with −H")


@law(
    "mu1 is a fraction: it lies in (0, 1), and NaN does not.",
    "mu1 ∉ (0, 1)  ⟹  ValueError",
    chapter="errors",
    requires="powell_damp",
    given=_bad_fraction,
    group="errors",
)
def powell_fraction(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu: float) -> None:
    raises(ValueError, lambda: f.powell_damp(H, s, y, mu1=mu), f"powell_damp with mu1 = {mu}")


@law(
    "mu2 is a fraction: it lies in (0, 1), and NaN does not.",
    "mu2 ∉ (0, 1)  ⟹  ValueError",
    chapter="errors",
    requires="identity_damp",
    given=_bad_fraction,
    group="errors",
)
def identity_fraction(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, mu: float) -> None:
    raises(ValueError, lambda: f.identity_damp(s, y, mu2=mu), f"identity_damp with mu2 = {mu}")


@law(
    "λ is not negative, and not NaN.",
    "not λ ≥ 0  ⟹  ValueError",
    chapter="errors",
    requires="lm_damp",
    given=_bad_lambda,
    group="errors",
)
def lm_lambda(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray, lam: float) -> None:
    raises(ValueError, lambda: f.lm_damp(s, y, lam=lam), f"lm_damp with lam = {lam}")


@law(
    "The shapes of H, s and y agree: (n, n), (n,), (n,).",
    "shapes that differ  ⟹  TypeError",
    chapter="errors",
    requires="bfgs_inverse_update",
    given=triples,
    group="errors",
)
def inverse_shapes(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    longer = frozen(np.append(s, 1.0))
    raises(TypeError, lambda: f.bfgs_inverse_update(H, longer, y), "s of n + 1 entries")
    raises(
        TypeError, lambda: f.bfgs_inverse_update(H, s, frozen(y[:, None])), "y as a column (n, 1)"
    )


@law(
    "A memory for no pair at all is not a memory.",
    "memory < 1  ⟹  ValueError",
    chapter="errors",
    requires="lbfgs_push",
    given=triples,
    group="errors",
)
def push_room(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    empty = frozen(np.zeros((0, len(s))))
    raises(ValueError, lambda: f.lbfgs_push(empty, empty, s, y, memory=0), "memory = 0")


@law(
    "Every stored pair has positive curvature, or the two-loop recursion divides by nothing.",
    "some s_iᵀy_i ≤ 0  ⟹  LinAlgError",
    chapter="errors",
    requires="lbfgs_two_loop",
    given=_not_positive,
    group="errors",
)
def two_loop_curvature(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    raises(
        LinAlgError,
        lambda: f.lbfgs_two_loop(frozen(s[None]), frozen(y[None]), y),
        "a pair with sᵀy ≤ 0",
    )
