"""Put an implementation through the checks: hypothesis looks for a counterexample and makes it
small.
"""

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from kfqn_ref.testing import checks as _fills_the_registry
from kfqn_ref.testing.implementation import Implementation, load
from kfqn_ref.testing.law import REGISTRY, Case, Check, Violation
from kfqn_ref.testing.report import CheckResult, Failure, Report

__all__ = ["Effort", "all_checks", "run_check", "run_checks"]


@dataclass(frozen=True)
class Effort:
    """How hard to look: examples a law, a seed or none (then the same examples every time), whether
    to shrink.
    """

    examples: int = 100
    seed: int | None = None
    shrink: bool = True


def all_checks(*, errors: bool = False) -> tuple[Check, ...]:
    """Every check, in order of chapters; those of the error contract only when asked for."""
    assert _fills_the_registry, "importing the checks registers them"
    return tuple(check for check in REGISTRY.values() if errors or check.group != "errors")


def run_checks(
    implementation: Any,
    checks: Iterable[Check] | None = None,
    *,
    errors: bool = False,
    effort: Effort | None = None,
    progress: Callable[[CheckResult], None] | None = None,
) -> Report:
    """Put an implementation through the checks.

    Args:
        implementation: a module, class, object, dict, ``module:Object`` or path of a ``.py`` file
            with some of the names of :data:`kfqn_ref.testing.implementation.NAMES`.
        checks: all by default.
        errors: also those of the error contract, which a function without input validation does not
            pass.
        effort: examples a law.
        progress: called with each result as it comes.

    Raises:
        UnusableImplementation: it cannot be loaded or has none of the names.
    """
    loaded = load(implementation)
    results = []
    for check in all_checks(errors=errors) if checks is None else checks:
        results.append(run_check(check, loaded, effort or Effort()))
        if progress is not None:
            progress(results[-1])
    return Report(loaded.label, loaded.precision.name, tuple(results))


@dataclass(frozen=True)
class Search:
    """What a search saw: how many cases it tried, and the smallest that broke the law, with its
    error.
    """

    tried: int
    case: Case | None = None
    error: Exception | None = None


def search(check: Check, implementation: Implementation, effort: Effort) -> Search:
    """Look for the smallest case that breaks one law.

    Raises:
        Exception: not the implementation but the check or its strategy failed.
    """
    tried: list[int] = []
    smallest: dict[str, Any] = {}

    def attempt(case: Case) -> None:
        tried.append(1)
        try:
            # A foreign division by zero is not noise to print: its NaN fails the law.
            with np.errstate(all="ignore"):
                check(implementation, case)
        except Exception as error:
            smallest.update(case=case, error=error)
            raise

    try:
        _search(attempt, check, implementation, effort)
    except Exception:
        if not smallest:
            raise
    return Search(len(tried), **smallest)


def run_check(check: Check, implementation: Implementation, effort: Effort) -> CheckResult:
    """Look for a case that breaks one law, and say what was found in words."""
    if not implementation.provides(check.requires):
        return CheckResult(check, "not provided", 0, None)
    found = search(check, implementation, effort)
    if found.case is None or found.error is None:
        return CheckResult(check, "passed", found.tried, None)
    return CheckResult(check, "failed", found.tried, failure_of(found.case, found.error))


# A foreign function may be slow; the strategies have their own tests.
_EVERY_HEALTH_CHECK: Any = list(
    HealthCheck
)  # its iteration leaves out the deprecated ones, unknown to types


def _search(
    attempt: Callable[[Case], None], check: Check, implementation: Implementation, effort: Effort
) -> None:
    phases = (Phase.generate, Phase.shrink) if effort.shrink else (Phase.generate,)
    bounded = settings(
        max_examples=max(1, effort.examples // check.cost),
        derandomize=effort.seed is None,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=_EVERY_HEALTH_CHECK,
    )
    test = bounded(given(check.given(implementation.precision))(attempt))
    if effort.seed is not None:
        test = seed(effort.seed)(test)
    test()


def failure_of(case: Case, error: Exception) -> Failure:
    """What a case and the error that it raised teach: a broken law, or a call that raised on valid
    input.
    """
    if isinstance(error, Violation):
        return Failure.of_violation(case, error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Failure.of_exception(case, error, f"{last.name}, line {last.lineno}")
