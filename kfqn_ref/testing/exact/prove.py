"""State one exact law for an implementation, and say how sure the answer is.

Each function is tried in the finite field first. One that compares numbers has no meaning there;
it is tried with rationals. One that forces floats keeps its float laws, and the report says so.
"""

from typing import Any

from kfqn_ref._typing import formulas_only
from kfqn_ref.testing.exact.draws import Draws
from kfqn_ref.testing.exact.laws import INEQUALITIES, SIZES
from kfqn_ref.testing.exact.scalars import DRAWN, ExactArray, Inexact
from kfqn_ref.testing.implementation import Implementation
from kfqn_ref.testing.law import Check, Violation
from kfqn_ref.testing.report import CheckResult, Failure

DEGREE = 1_024
"""An identity of at most this degree in the drawn numbers is decided with the stated bound."""

POINTS = 2
"""Points of the field, or draws of rationals, for an identity of every size."""

DRAWS = 20
"""Draws of rationals for an inequality of every size."""

RETRIES = 3
"""A draw by which the function divides by zero is drawn again so often."""

WORDS = {"field": "in the field of 2^61 − 1 elements", "rationals": "in exact rationals"}


def log2_bound(points: int) -> int:
    """The exponent e, rounded up, of a bound 2^e on the probability that a wrong identity of at
    most :data:`DEGREE` is true at so many random points (Schwartz 1980, Zippel 1979).
    """
    ratio = DRAWN**points // DEGREE**points  # whole numbers: a float would round 2^61 − 1 up
    return 1 - ratio.bit_length()


def _own(arg: Any) -> Any:
    """A copy of an array, which a function may write to."""
    if isinstance(arg, ExactArray):
        return arg.copy()
    return arg


class _Functions:
    """The functions of an implementation, called with exact arrays and without guards."""

    def __init__(self, implementation: Implementation):
        self._functions = implementation.functions

    def __getattr__(self, name: str) -> Any:
        function = self._functions[name]

        def call(*args: Any, **kwargs: Any) -> Any:
            copies = [_own(arg) for arg in args]
            with formulas_only():
                return function(*copies, **kwargs)

        return call


def prove(check: Check, implementation: Implementation) -> CheckResult:
    """Decide one exact law: "proved", "no counterexample", "failed", or "floats only"."""
    if not implementation.provides(check.requires):
        return CheckResult(check, "not provided", 0, None)
    functions = _Functions(implementation)
    reasons = []
    for kind in _kinds(check):
        try:
            tried = _state(check, functions, kind)
        except _Broken as broken:
            failure = _small_failure(check, functions) or broken.failure
            return CheckResult(check, "failed", broken.tried, failure)
        except Exception as error:  # whatever a function that is made for floats raises
            reasons.append(_reason(error))
        else:
            outcome, note = _answer(check, kind)
            return CheckResult(check, outcome, tried, None, note=note)
    return CheckResult(check, "floats only", 0, None, note=f"not exact: {reasons[-1]}")


def _kinds(check: Check) -> tuple[str, ...]:
    if check.name in INEQUALITIES:
        return ("rationals",)
    return ("field", "rationals")


def _points(check: Check) -> int:
    if check.name in INEQUALITIES:
        return DRAWS
    return POINTS


class _Broken(Exception):
    """A law that does not hold, after so many draws."""

    def __init__(self, failure: Failure, tried: int):
        super().__init__(failure)
        self.failure = failure
        self.tried = tried


def _state(check: Check, functions: _Functions, kind: str) -> int:
    """State the law at every size and point; the number of points."""
    tried = 0
    points = _points(check)
    for n in SIZES:
        for point in range(points):
            tried += 1
            violation = _at(check, functions, kind, n, 1_000 * n + point)
            if violation is not None:
                raise _Broken(violation, tried)
    return tried


def _at(check: Check, functions: _Functions, kind: str, n: int, seed: int) -> Failure | None:
    """The failure at one point, if there is one."""
    for retry in range(RETRIES):
        draws = Draws(kind, 100 * seed + retry)
        try:
            check.statement(functions, draws, n)
        except Violation as violation:
            return Failure.of_violation(draws.seen, violation)
        except ZeroDivisionError:
            continue
        except SystemExit as error:
            raise Inexact(f"it exits: {error}") from error
        return None
    raise Inexact("it divides by zero")


def _small_failure(check: Check, functions: _Functions) -> Failure | None:
    """A counterexample with numbers that a person can read, if one is found quickly."""
    for n in SIZES[:2]:
        for seed in range(20):
            try:
                failure = _at(check, functions, "small", n, seed)
            except Exception:  # a function of the field need not take rationals
                return None
            if failure is not None:
                return failure
    return None


def _reason(error: Exception) -> str:
    """Why a function is not exact: the first cause that says so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Inexact):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {error}"


def _answer(check: Check, kind: str) -> tuple[str, str]:
    """The outcome of a law that was stated without a failure, and how sure that is."""
    sizes = ", ".join(map(str, SIZES))
    if check.name in INEQUALITIES:
        draws = DRAWS * len(SIZES)
        return "no counterexample", f"in {draws} draws of exact rationals, n = {sizes}"
    bound = log2_bound(POINTS)
    return "proved", f"up to probability 2^{bound} {WORDS[kind]}, n = {sizes}"
