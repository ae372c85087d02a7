"""The law that every call goes through, on its own: arguments come back as they were, results do
not alias them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from kfqn_ref.testing.checks.bfgs import may_refuse
from kfqn_ref.testing.implementation import UNCHANGED
from kfqn_ref.testing.law import Case, law
from kfqn_ref.testing.strategies.kernels import (
    damping_cases,
    dampings,
    extended,
    identity_cases,
    lbfgs_cases,
    lm_cases,
    pairs,
    thresholds,
    triples,
)
from kfqn_ref.testing.tolerances import Precision


def _with(
    base: Callable[[Precision], SearchStrategy[Case]], **extra: Any
) -> Callable[[Precision], Any]:
    return lambda precision: extended(base(precision), **extra)


_CALLS: dict[str, tuple[Callable[[Precision], Any], Callable[..., Any]]] = {
    "powell_damp": (damping_cases, lambda f, H, s, y, mu1: f.powell_damp(H, s, y, mu1=mu1)),
    "identity_damp": (identity_cases, lambda f, s, y, mu2: f.identity_damp(s, y, mu2=mu2)),
    "lm_damp": (lm_cases, lambda f, s, y, lam: f.lm_damp(s, y, lam=lam)),
    "double_damp": (
        _with(damping_cases, mu2=thresholds()),
        lambda f, H, s, y, mu1, mu2: f.double_damp(H, s, y, mu1=mu1, mu2=mu2),
    ),
    "dp_dlm_damp": (
        _with(damping_cases, lam=dampings()),
        lambda f, H, s, y, mu1, lam: f.dp_dlm_damp(H, s, y, mu1=mu1, lam=lam),
    ),
    "bfgs_inverse_update": (
        triples,
        may_refuse(lambda f, H, s, y: f.bfgs_inverse_update(H, s, y)),
    ),
    "bfgs_direct_update": (triples, lambda f, H, s, y: f.bfgs_direct_update(H, s, y)),
    "lbfgs_push": (
        _with(lbfgs_cases, pair=lambda case: pairs(len(case["q"]))),
        lambda f, S, Y, q, gamma, pair: f.lbfgs_push(S, Y, *pair, memory=max(4, len(S))),
    ),
    "lbfgs_two_loop": (
        lbfgs_cases,
        lambda f, S, Y, q, gamma: f.lbfgs_two_loop(S, Y, q, gamma=gamma),
    ),
    "lbfgs_compact": (lbfgs_cases, lambda f, S, Y, q, gamma: f.lbfgs_compact(S, Y, gamma=gamma)),
    "lbfgs_dense": (lbfgs_cases, lambda f, S, Y, q, gamma: f.lbfgs_dense(S, Y, gamma=gamma)),
}


def _register(name: str, given: Callable[[Precision], Any], call: Callable[..., Any]) -> None:
    def statement(f: Any, **case: np.ndarray) -> None:
        call(f, **case)  # the boundary compares every argument before and after

    statement.__name__ = name
    law(
        UNCHANGED,
        "arguments after the call = arguments before it",
        chapter="arguments",
        requires=name,
        given=given,
    )(statement)


for _name, (_given, _call) in _CALLS.items():
    _register(_name, _given, _call)
