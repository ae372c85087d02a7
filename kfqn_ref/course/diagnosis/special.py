"""Functions with many right answers: what theirs must satisfy is looked at, piece by piece."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis.compare import answer
from kfqn_ref.hessian import layer_blocks

MU1 = 0.2


def worst_pair(function: Callable[..., Any]) -> str:
    """Which of the conditions for equality in (2.6) a pair misses."""
    H = np.array([[2.0, 1.0], [1.0, 3.0]])
    found = answer(function, (H,), {})
    if isinstance(found, Exception):
        return ""
    s, y = (np.asarray(part, dtype=float) for part in found)
    if not y.any():
        return "y is zero: are s and y swapped?" if s.any() else "s and y are both zero"
    ratio = y @ y / (y @ H @ y)
    most = 1 / np.linalg.eigvalsh(H)[0]
    if not np.allclose(H @ y, (y @ H @ y) / (y @ y) * y):
        return f"y is no eigenvector of H: for {H.tolist()} it is {y.tolist()}"
    if not np.isclose(ratio, most):
        return f"y is an eigenvector of H, but ‖y‖² / yᵀH y is {ratio:.3g} and ‖B‖ is {most:.3g}"
    if not s @ y < MU1 * (y @ H @ y):
        return "no damping acts on the pair, as sᵀy ≥ mu1 yᵀH y: the bound is not reached"
    return ""


def lonely_failure(function: Callable[..., Any]) -> str:
    """Which assumptions fail in the examples, beside the one that is to fail alone."""
    told = []
    for name in ("SUD", "IAD", "SH"):
        found = answer(function, (name,), {})
        if isinstance(found, Exception):
            told.append(f"for {name} it stops with {type(found).__name__}")
            continue
        a_bar, Hh = (np.asarray(part, dtype=float) for part in found)
        errors = layer_blocks(a_bar, Hh).errors()
        shown = ", ".join(f"{key} {value:.3g}" for key, value in errors.items() if key != "total")
        others = max(errors[key] for key in ("SUD", "IAD", "SH") if key != name)
        if errors[name] <= 0.1 or others > 1e-9:
            told.append(f"for {name} the errors are {shown}")
    return "; ".join(told)


SPECIAL = {"worst_pair": worst_pair, "lonely_failure": lonely_failure}
