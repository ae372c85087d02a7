"""Whole formulas that are taken for another one."""

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref import Pair
from kfqn_ref.course.diagnosis.models import (
    Array,
    assumption_errors,
    bfgs_inverse_update,
    lbfgs_dense,
    lm_damp,
    powell_damp,
)
from kfqn_ref.course.diagnosis.primitives import entries, first_rows, identity, joined, outer


def impostors() -> dict[str, list[tuple[str, Any]]]:
    """Whole formulas that are taken for another one: what is told, and the function."""
    return {
        "bfgs_inverse_update": [
            ("this is the DFP update, in which s and y have changed places", _dfp),
        ],
        "bfgs_direct_update": [
            ("this is the DFP update of B, in which s and y have changed places", _direct_dfp),
        ],
        "inverse_from_products": [
            ("the steps are unit vectors, which are not conjugate for every A", _unit_steps),
        ],
        "dp_dlm_damp": [
            ("the order: (2.3) is applied first, and (2.1) to its result", _lm_first),
            ("both dampings start from the pair (s, y)", _side_by_side),
        ],
        "hessian_action": [
            ("the square of an average where the average of squares belongs", _square_of_mean),
        ],
        "input_factor": [
            ("a covariance: the mean is subtracted first", _covariance),
            ("the square of an average where the average of squares belongs", _factor_of_mean),
        ],
        "assumption_errors": [
            ("each step is measured from the exact block, not from the step before", _from_exact),
        ],
        "lbfgs_push": [
            ("the newest pair stands first; the oldest must", _newest_first),
        ],
        "lbfgs_dense": [
            ("only the newest pair is used", lambda S, Y, *, gamma=1.0: lbfgs_dense(
                S[-1:], Y[-1:], gamma=gamma)),
        ],
    }  # fmt: skip  # a mistake a line


def _dfp(H: Array, s: Array, y: Array) -> Array:
    Hy = H @ y
    if not s @ y > 0:
        raise LinAlgError("sᵀy must be positive")
    return H - outer(Hy, Hy) / (y @ Hy) + outer(s, s) / (s @ y)


def _direct_dfp(B: Array, s: Array, y: Array) -> Array:
    V = identity(s) - outer(y, s) / (s @ y)
    return V @ B @ V.T + outer(y, y) / (s @ y)


def _unit_steps(multiply: Any, n: int) -> list[Array]:
    found = [np.eye(n)]
    for e in np.eye(n):
        found.append(bfgs_inverse_update(found[-1], e, multiply(e)))
    return found[1:]


def _lm_first(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    y_tilde = lm_damp(s, y, lam=lam)
    return Pair(powell_damp(H, s, y_tilde, mu1=mu1), y_tilde)


def _side_by_side(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    return Pair(powell_damp(H, s, y, mu1=mu1), lm_damp(s, y, lam=lam))


def _square_of_mean(a_bar: Array, v: Array) -> Array:
    mean = a_bar.mean(axis=0)
    return mean.T @ (mean @ v)


def _factor_of_mean(a_bar: Array) -> Array:
    mean = a_bar.mean(axis=0)
    return mean.T @ mean


def _covariance(a_bar: Array) -> Array:
    centred = a_bar - a_bar.mean(axis=(0, 1))
    return entries("nta,ntb->ab", centred, centred) / len(a_bar)


def _from_exact(a_bar: Array, Hh: Array) -> dict[str, float]:
    right = assumption_errors(a_bar, Hh)
    N, T = a_bar.shape[:2]
    exact = entries("nta,nub,ntguh->agbh", a_bar, a_bar, Hh) / N
    A_t = entries("nta,ntb->tab", a_bar, a_bar) / N
    iad = entries("tab,tgh->agbh", A_t, entries("ntgth->tgh", Hh) / N)
    far = np.linalg.norm(iad - exact) / np.linalg.norm(exact)
    return right | {"IAD": far, "SH": right["total"]}


def _newest_first(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    return first_rows(joined(s, S), memory), first_rows(joined(y, Y), memory)
