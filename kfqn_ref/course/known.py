"""Cases on which the laws hold for the solution of an assignment: drawn once, tried on everybody.

Drawing cases costs more than calling a function on them, and the cases of a law do not depend on
the function as long as the function passes. So they are kept when the solution is held to the law,
and a submission is tried on them in the same order. Where one of them breaks the law, the search
begins anew and from its start: whoever fails is told what the search alone would tell.

Vectors are at most :data:`LONGEST` long. A student's function may be slow: a product of matrices
written as four loops is right, and takes minutes for the lengths that a library is held to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from kfqn_ref.testing.implementation import Implementation
from kfqn_ref.testing.law import Case, Check
from kfqn_ref.testing.report import CheckResult
from kfqn_ref.testing.runner import Effort, run_check

LONGEST = 33
_kept: dict[tuple[str, Effort], tuple[Case, ...]] = {}
_keeping = [False]


@contextmanager
def kept() -> Iterator[None]:
    """Keep the cases of all laws that are held in here, and that hold."""
    _keeping.append(True)
    try:
        yield
    finally:
        _keeping.pop()


def forget() -> None:
    """Forget all cases."""
    _kept.clear()


def hold(check: Check, implementation: Implementation, effort: Effort) -> CheckResult:
    """Hold an implementation to a law, as :func:`kfqn_ref.testing.runner.run_check` does."""
    key = check.name, effort
    check = _short(check)
    if _keeping[-1]:
        return _record(key, check, implementation)
    cases = _kept.get(key, ())
    if cases and _all_hold(check, implementation, cases):
        return CheckResult(check, "passed", len(cases), None)
    return run_check(check, implementation, effort)


@cache
def _short(check: Check) -> Check:
    """The law for vectors that are not too long; it says nothing of others."""

    def statement(implementation: Any, **case: Any) -> None:
        lengths = [n for value in case.values() for n in getattr(value, "shape", ())]
        if max(lengths, default=0) <= LONGEST:
            check.statement(implementation, **case)

    sizes = tuple(size for size in check.sizes if size <= LONGEST)
    return replace(check, statement=statement, sizes=sizes)


def _record(key: tuple[str, Effort], check: Check, implementation: Implementation) -> CheckResult:
    """Search, and keep the cases where none of them breaks the law."""
    cases: list[Case] = []

    def statement(implementation: Any, **case: Any) -> None:
        cases.append(case)
        check.statement(implementation, **case)

    result = run_check(replace(check, statement=statement), implementation, key[1])
    if result.outcome == "passed":
        _kept[key] = tuple(cases)
    return result


def _all_hold(check: Check, implementation: Implementation, cases: tuple[Case, ...]) -> bool:
    try:
        with np.errstate(all="ignore"):
            for case in cases:
                check(implementation, case)
    except (Exception, SystemExit):  # which case, and why, the search says
        return False
    return True
