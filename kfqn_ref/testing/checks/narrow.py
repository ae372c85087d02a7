"""Laws of pairs that are almost orthogonal: no function with a condition may skip one.

Each is a formula that has its own law already, on the cases of
:mod:`kfqn_ref.testing.strategies.narrow`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks import damping, damping_bounds, lbfgs
from kfqn_ref.testing.checks.bfgs import may_refuse, product_form
from kfqn_ref.testing.law import Check, equal, holds, law
from kfqn_ref.testing.strategies.narrow import (
    narrow_damping,
    narrow_identity,
    narrow_lm,
    narrow_memories,
    narrow_updates,
)

COST = 5


@law(
    "The direct update takes a pair that is almost orthogonal.",
    "B⁺ = B − B s sᵀB / sᵀBs + y yᵀ / sᵀy,  sᵀy from 1e-4 to 1e-9 of ‖s‖‖y‖",
    chapter="bfgs",
    requires="bfgs_direct_update",
    given=narrow_updates,
    cost=COST,
)
def direct_narrow(f: Any, B: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    Bs = B @ s
    new = np.outer(y, y) / (s @ y)
    wanted = B - np.outer(Bs, Bs) / (s @ Bs) + new
    # n u κ relative in yyᵀ/sᵀy, and n u cond(B)² in the subtracted term, as in tol.direct_update
    size = tol.cosine(s, y) * tol.norm(new) + tol.cond(B) ** 2 * tol.norm(B)
    bound = tol.rounding(f.u, len(s), size)
    B_plus = f.bfgs_direct_update(B, s, y)
    equal("B⁺", B_plus, "B − B s sᵀB / sᵀBs + y yᵀ / sᵀy", wanted, bound)


@law(
    "The update takes a pair that is almost orthogonal.",
    "H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,  sᵀy from 1e-4 to 1e-9 of ‖s‖‖y‖",
    chapter="bfgs",
    requires="bfgs_inverse_update",
    given=lambda p: narrow_updates(p).map(lambda c: {"H": c["B"], "s": c["y"], "y": c["s"]}),
    cost=COST,
)
@may_refuse
def narrow(f: Any, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> None:
    H_plus = f.bfgs_inverse_update(H, s, y)
    wanted = product_form(H, s, y)
    bound = tol.inverse_update(f.u, H, s, y)
    if bound < tol.norm(wanted - H) / 2:
        equal("H⁺", H_plus, "product form", wanted, bound)
        return
    # A form that inverts B has no digit here, but a matrix that has not moved is a skipped pair.
    still = tol.norm(H_plus - H) <= tol.rounding(f.u, len(s), tol.norm(H))
    holds("H⁺ = H", bool(still), "never, as sᵀy > 0", False)


def _register(base: Check, name: str, words: str, given: Callable[..., Any]) -> None:
    def statement(f: Any, **case: Any) -> None:
        base.statement(f, **case)

    statement.__name__ = name
    law(
        words,
        f"{base.formula},  |sᵀy| from 1e-4 to 1e-9 of ‖s‖‖y‖",
        chapter=base.chapter,
        requires=" ".join(base.requires),
        given=given,
        cost=COST,
    )(statement)


_register(
    damping.powell_formula,
    "powell_narrow",
    "Powell's damping acts on a pair that is almost orthogonal as on any other.",
    narrow_damping,
)
_register(
    damping.identity_formula,
    "identity_narrow",
    "Damping against B = I acts on a pair that is almost orthogonal as on any other.",
    narrow_identity,
)
_register(
    damping.lm_formula,
    "lm_narrow",
    "Levenberg-Marquardt damping acts on a pair that is almost orthogonal as on any other.",
    narrow_lm,
)
_register(
    damping_bounds.double_composition,
    "double_narrow",
    "Double damping acts on a pair that is almost orthogonal as on any other.",
    lambda precision: narrow_damping(precision, "mu2"),
)
_register(
    damping_bounds.dp_dlm_composition,
    "dp_dlm_narrow",
    "D_P D_LM acts on a pair that is almost orthogonal as on any other.",
    lambda precision: narrow_damping(precision, "lam"),
)
_register(
    lbfgs.push_newest,
    "push_narrow",
    "The memory takes a pair that is almost orthogonal.",
    narrow_memories,
)
