"""The tolerances: never exceeded against exact rational arithmetic, small where it matters, and not
blind.
"""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import kfqn_ref as ref
from kfqn_ref.testing import Effort, run_check
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.checks.bfgs import product_form
from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.strategies.kernels import damping_cases, lbfgs_cases, triples
from kfqn_ref.testing.tolerances import FLOAT32, FLOAT64

sys.path.insert(0, str(Path(__file__).parent))
from alternatives import FORMULAS  # a neighbour of this file, which is not a package
from sampling import sample  # as above

rational = np.vectorize(Fraction, otypes=[object])


def _exact_update(H: Any, s: Any, y: Any) -> Any:
    H, s, y = map(rational, (H, s, y))
    rho = 1 / (s @ y)
    left = rational(np.eye(len(s))) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


def _error(computed: Any, exact: Any) -> float:
    return float(
        np.linalg.norm((rational(np.asarray(computed, dtype=float)) - exact).astype(float))
    )


@pytest.mark.parametrize("name", sorted(FORMULAS["bfgs_inverse_update"]))
@given(case=triples(FLOAT64))
def test_no_form_of_the_update_exceeds_its_bound(name: str, case: Any) -> None:
    computed = FORMULAS["bfgs_inverse_update"][name](**case)
    assert _error(computed, _exact_update(**case)) <= tol.inverse_update(FLOAT64.u, **case)


@given(case=damping_cases(FLOAT64))
def test_damping_does_not_exceed_its_bound(case: Any) -> None:
    H, s, y, mu1 = map(rational, case.values())
    sy, q = s @ y, y @ H @ y
    theta = 1 if sy >= mu1 * q else (1 - mu1) * q / (q - sy)
    computed = ref.powell_damp(case["H"], case["s"], case["y"], mu1=case["mu1"])
    exact = theta * s + (1 - theta) * (H @ y)
    assert _error(computed, exact) <= tol.powell(FLOAT64.u, case["H"], case["s"], case["y"])


@given(case=lbfgs_cases(FLOAT64))
def test_lbfgs_does_not_exceed_its_bound(case: Any) -> None:
    S, Y, _, gamma = case.values()
    exact = rational(gamma * np.eye(S.shape[1]))
    for s, y in zip(S, Y, strict=True):
        exact = _exact_update(exact, s, y)
    bound = tol.lbfgs(FLOAT64.u, S, Y, gamma)
    for form in (ref.lbfgs_compact, ref.lbfgs_dense):
        assert _error(form(S, Y, gamma=gamma), exact) <= bound


@given(case=triples(FLOAT64))
def test_first_order_change_is_an_upper_bound(case: Any) -> None:
    H, s, y = case.values()
    ds, dy = 1e-9 * tol.norm(s), 1e-9 * tol.norm(y)
    moved = product_form(H, s + ds * s[::-1] / tol.norm(s), y - dy * y[::-1] / tol.norm(y))
    bound = 1.01 * tol.update_change(H, s, y, ds, dy) + 2 * tol.inverse_update(FLOAT64.u, H, s, y)
    assert np.linalg.norm(moved - product_form(H, s, y), 2) <= bound


@pytest.mark.parametrize(("precision", "digits"), [(FLOAT64, 8), (FLOAT32, 1)])
def test_most_cases_leave_digits_to_compare(precision: Any, digits: int) -> None:
    """In half of the cases at least so many digits of H⁺ are asserted; in float64, in most at least
    one.
    """
    relative = []
    for case in sample(triples(precision)):
        relative.append(tol.inverse_update(precision.u, **case) / tol.norm(product_form(**case)))
    assert np.median(relative) < 10.0**-digits
    if precision is FLOAT64:
        assert np.quantile(relative, 0.8) < 1e-1


def _off_by(times: float, kernel: str, bound: Callable[..., float]) -> dict[str, Any]:
    exact = reference.names()[kernel]

    def wrong(*args: Any, **kwargs: Any) -> Any:
        result = exact(*args, **kwargs)
        return result + times * bound(FLOAT64.u, *args) * np.ones_like(result) / np.sqrt(
            result.size
        )

    return {kernel: wrong}


@pytest.mark.parametrize(
    ("check", "kernel", "bound"),
    [
        ("bfgs.formula", "bfgs_inverse_update", tol.inverse_update),
        ("bfgs.direct_formula", "bfgs_direct_update", tol.direct_update),
        ("damping.powell_formula", "powell_damp", tol.powell),
        ("damping.identity_formula", "identity_damp", tol.identity),
    ],
)
def test_a_violation_of_ten_tolerances_is_seen_and_a_tenth_is_not(
    check: str, kernel: str, bound: Any
) -> None:
    for times, outcome in ((10.0, "failed"), (0.1, "passed")):
        implementation = load(_off_by(times, kernel, bound))
        assert (
            run_check(REGISTRY[check], implementation, Effort(50, shrink=False)).outcome == outcome
        )


def test_max_cond_is_where_cond_cubed_times_u_is_one() -> None:
    for precision in (FLOAT64, FLOAT32):
        assert precision.max_cond**3 * precision.u == pytest.approx(1)
