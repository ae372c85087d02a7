"""Put an implementation through the checks: a case for every pair of classes of the domain, then
random cases; hypothesis makes a counterexample small.

Hypothesis keeps every choice of a case, so as to shrink it, which costs more than the laws. So the
cases are drawn without it, by NumPy's generator (:mod:`kfqn_ref.testing.bulk`), once for all
implementations; hypothesis looks for a smaller case only after one has broken the law.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from itertools import count, islice
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from kfqn_ref._extras import needs
from kfqn_ref.testing import checks as _fills_the_registry
from kfqn_ref.testing.bulk import cases
from kfqn_ref.testing.checks.protocol import missing_layouts
from kfqn_ref.testing.coverage import Row, Visited, covering
from kfqn_ref.testing.implementation import Described, Implementation, load
from kfqn_ref.testing.independence import independent_draws
from kfqn_ref.testing.law import REGISTRY, Case, Check, Violation
from kfqn_ref.testing.region import region
from kfqn_ref.testing.report import CheckResult, Failure, Report
from kfqn_ref.testing.strategies.axes import chosen, forget
from kfqn_ref.testing.tolerances import Precision

BULK = 5  # random cases for every example, besides this one, for laws of formulas

__all__ = ["Effort", "all_checks", "check_named", "exact_checks", "run_check", "run_checks"]


@dataclass(frozen=True)
class Effort:
    """How hard to look: random examples a law, a seed or none (then the same examples every time),
    whether to shrink, and how often to visit every pair of classes of the domain.
    """

    examples: int = 100
    seed: int | None = None
    shrink: bool = True
    rounds: int = 1


def all_checks(*, errors: bool = False) -> tuple[Check, ...]:
    """Every check, in order of chapters; those of the error contract only when asked for."""
    assert _fills_the_registry, "importing the checks registers them"
    return tuple(check for check in REGISTRY.values() if errors or check.group != "errors")


def exact_checks() -> tuple[Check, ...]:
    """Every law of exact arithmetic.

    Raises:
        MissingExtra: python-flint is not installed.
    """
    needs("exact", "kfqn check --exact")
    return tuple(import_module("kfqn_ref.testing.exact.laws").EXACT.values())


def check_named(name: str) -> Check:
    """The check of this name, of floats or of exact arithmetic."""
    if name.startswith("exact."):
        return next(check for check in exact_checks() if check.name == name)
    return REGISTRY[name]


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
    wanted = all_checks(errors=errors) if checks is None else checks
    for check in wanted:
        results.append(run_check(check, loaded, effort or Effort()))
        if progress is not None:
            progress(results[-1])
    return Report.of(described(loaded), tuple(results))


def described(implementation: Implementation) -> Described:
    """What a report says of an implementation."""
    label, precision = implementation.label, implementation.precision.name
    if implementation.namespace is None:
        return Described(label, precision)
    missing = missing_layouts(implementation)
    return Described(label, precision, implementation.namespace.name, missing)


@dataclass(frozen=True)
class Search:
    """What a search saw: how many cases it tried, what they visited, and the smallest that broke
    the law, with its error and its classes.
    """

    tried: int
    visited: Visited
    case: Case | None = None
    error: Exception | None = None
    row: Row | None = None


def search(check: Check, implementation: Implementation, effort: Effort) -> Search:
    """Look for the smallest case that breaks one law.

    Raises:
        Exception: not the implementation but the check or its strategy failed.
    """
    tried: list[int] = []
    visited = Visited()
    smallest: dict[str, Any] = {}

    def attempt(case: Case, row: Row) -> None:
        tried.append(1)
        visited.add(row)
        try:
            # A foreign division by zero is not noise to print: its NaN fails the law.
            with np.errstate(all="ignore"):
                check(implementation, case)
        except SystemExit as error:
            exited = RuntimeError(f"SystemExit: {error}: a function must return, not exit")
            smallest.update(case=case, error=exited, row=row)
            raise exited from error
        except Exception as error:
            smallest.update(case=case, error=error, row=row)
            raise

    if _visit(attempt, check, implementation, effort) and effort.shrink:
        try:
            _shrink(attempt, check, implementation, effort)
        except Exception:  # recorded by the attempt: the smallest case is the last that it saw
            pass
    return Search(len(tried), visited, **smallest)


def _visit(
    attempt: Callable[[Case, Row], None],
    check: Check,
    implementation: Implementation,
    effort: Effort,
) -> bool:
    """Try the planned cases; whether one of them broke the law."""
    for row, case in _planned(check, implementation.precision, effort):
        try:
            attempt(case, row)
        except Exception:  # recorded by the attempt, and made small by what follows
            return True
    return False


def _planned(check: Check, precision: Precision, effort: Effort) -> Iterator[tuple[Row, Case]]:
    """The cases of the coverage and random ones; many for a law of a formula, which is cheap."""
    for round_ in range(effort.rounds):
        seed = 1_000 * (effort.seed or 0) + round_
        many = BULK * effort.examples if check.sizes else 0
        if round_ == 0:
            many += max(1, effort.examples // check.cost)
        wanted = check, precision, seed, many
        remembered = _remembered(*wanted)
        if remembered.lasting:
            yield from remembered
        else:
            yield from _drawn(*wanted)


@lru_cache(maxsize=24)  # as many laws as one function has
def _remembered(check: Check, precision: Precision, seed: int, many: int) -> "Remembered":
    return Remembered(_drawn(check, precision, seed, many))


def _drawn(check: Check, precision: Precision, seed: int, many: int) -> Iterator[tuple[Row, Case]]:
    yield from covering(check, precision, seed)
    yield from islice(_at_random(check.given(precision), seed), many)


def _at_random(strategy: SearchStrategy[Case], seed: int) -> Iterable[tuple[Row, Case]]:
    """Random cases, which laws of one strategy share; they are drawn anew if they can change."""
    shared = _shared(strategy, seed)
    return shared if shared.lasting else _endless(strategy, seed)


@lru_cache(maxsize=8)  # strategies of one chapter
def _shared(strategy: SearchStrategy[Case], seed: int) -> "Remembered":
    return Remembered(_endless(strategy, seed))


def _endless(strategy: SearchStrategy[Case], seed: int) -> Iterator[tuple[Row, Case]]:
    drawn = cases(strategy, seed)
    while True:
        forget()
        case = next(drawn)
        yield chosen(), case


class Remembered:
    """Cases that are drawn once and read by every implementation: they depend on the seed alone.

    Attributes:
        lasting: whether no implementation can change a case: it holds read-only arrays and values.
    """

    def __init__(self, source: Iterator[tuple[Row, Case]]) -> None:
        self._source = source
        self._kept: list[tuple[Row, Case]] = [*islice(source, 1)]
        self.lasting = all(map(_is_fixed, self._kept[0][1].values())) if self._kept else True

    def __iter__(self) -> Iterator[tuple[Row, Case]]:
        for i in count():
            if i == len(self._kept):
                self._kept += islice(self._source, 1)
            if i == len(self._kept):
                return
            row, case = self._kept[i]
            yield row, case


def _is_fixed(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return not value.flags.writeable
    if isinstance(value, tuple):
        return all(map(_is_fixed, value))
    return value is None or isinstance(value, bool | int | float | str)


def run_check(check: Check, implementation: Implementation, effort: Effort) -> CheckResult:
    """Look for a case that breaks one law, and say what was found in words."""
    if check.group == "exact":
        return import_module("kfqn_ref.testing.exact.prove").prove(check, implementation)
    if not implementation.provides(check.requires):
        return CheckResult(check, "not provided", 0, None)
    found = search(check, implementation, effort)
    if found.case is None or found.error is None:
        return CheckResult(check, "passed", found.tried, None, found.visited)
    failure = failure_of(found.case, found.error)
    if effort.shrink:
        failure = _located(check, implementation, found, failure)
    return CheckResult(check, "failed", found.tried, failure, found.visited)


def _located(
    check: Check, implementation: Implementation, found: Search, failure: Failure
) -> Failure:
    """The failure with its region, shown by a case of the simplest classes that still fail."""
    where = region(check, implementation, found.row or {})
    assert found.case is not None, "a failure has a case"
    if where.case is not None and where.error is not None:
        if _size(where.case) < _size(found.case):
            failure = failure_of(where.case, where.error)
    return replace(failure, region=where.words)


def _size(case: Case) -> int:
    return sum(np.size(value) for value in case.values() if isinstance(value, np.ndarray))


# A foreign function may be slow; the strategies have their own tests.
_EVERY_HEALTH_CHECK: Any = list(
    HealthCheck
)  # its iteration leaves out the deprecated ones, unknown to types


def _shrink(
    attempt: Callable[[Case, Row], None],
    check: Check,
    implementation: Implementation,
    effort: Effort,
) -> None:
    """Let hypothesis look for a case that breaks the law, and make it small."""

    def drawn(case: Case) -> None:
        row = chosen()
        forget()
        attempt(case, row)

    bounded = settings(
        max_examples=max(1, effort.examples // check.cost),
        derandomize=effort.seed is None,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=_EVERY_HEALTH_CHECK,
    )
    test = bounded(given(check.given(implementation.precision))(drawn))
    if effort.seed is not None:
        test = seed(effort.seed)(test)
    with independent_draws():
        test()


def failure_of(case: Case, error: Exception) -> Failure:
    """What a case and the error that it raised teach: a broken law, or a call that raised on valid
    input.
    """
    if isinstance(error, Violation):
        return Failure.of_violation(case, error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Failure.of_exception(case, error, f"{last.name}, line {last.lineno}")
