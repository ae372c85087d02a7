"""What a test cell calls: ``laws(globals(), "bfgs.secant", …)``, and what a failure teaches.

A failure shows the law, the smallest counterexample found, both sides, the likeliest mistake and
the chapter to read. The likeliest mistake is the edit of the right formula that gives the same
numbers as the student's function; where there is none, it is said where the function goes wrong.
"""

import textwrap
import unicodedata
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from kfqn_ref.course import known, tasks
from kfqn_ref.course.diagnosis import Finding, diagnose, missed_refusal
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.implementation import outward
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.report import CheckResult, Failure, explain, readable
from kfqn_ref.testing.runner import Effort, all_checks
from kfqn_ref.testing.strategies.networks import BlockView

SAME = "(It gives the same numbers as yours.)"
SHOWN = {"optimizer_steps": "kfqn_step"}  # what the student calls it
REMEMBERED = (
    40  # latest calls of a function, to compare it with known mistakes: a failing one is among them
)


LONGEST = 320  # signs of an example that can be computed by hand
SEEN = (
    "the law holds for the examples in your notebook and fails on others: a case that they do not "
    "show, or an answer made for the examples that you see."
)
_STUB = "✗ {} is still the stub: put your code in place of `raise NotImplementedError()`."


class LawBroken(AssertionError):
    """A law does not hold; shown as its text alone, without the frames of the search."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class NoAnswer(TypeError):
    """The function returned nothing."""


class Watch:
    """A function under watch: what it was asked and what it said."""

    def __init__(self, name: str, function: Callable[..., Any], known_as: str):
        self.name = name
        self.function = function
        self.known_as = known_as
        self.calls: deque[tuple[tuple[Any, ...], dict[str, Any], Any]] = deque(maxlen=REMEMBERED)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self.function(*args, **kwargs)
        if result is None:
            raise NoAnswer(f"{self.name} returned None: a `return` is missing, and `print` is none")
        self.calls.append((args, kwargs, result))
        return _copied(result)

    def empty_answer(self) -> str:
        """Why the function cannot have looked at its arguments, or nothing.

        Only what a right function does not do counts: where no damping is needed, the right step
        *is* the argument. Where no right function is known, the laws alone decide. One call of ten
        may be answered: a table of answers for the visible cases meets some of them again.
        """
        right = reference.names().get(self.known_as)
        if len(self.calls) < REMEMBERED // 2 or right is None or self._agrees(right):
            return ""
        if all(_same(result, self.calls[0][2]) for _, _, result in self.calls):
            return f"{self.name} gives the same answer whatever it is asked"
        changing = [call for call in self.calls if not _echoes(call[0], _answer(right, *call[:2]))]
        if changing and sum(_echoes(args, result) for args, _, result in changing) >= 0.9 * len(
            changing
        ):
            return f"{self.name} gives one of its arguments back, unchanged"
        return ""

    def mistakes(self) -> tuple[str, ...]:
        """The known mistakes that give the same answers as this function on every call remembered.

        One that gives the right answers there says nothing, and is left out.
        """
        right = reference.names().get(self.known_as)
        found = []
        for mutant in (*MUTANTS.values(), *tasks.MISTAKES):
            if mutant.replaces == self.known_as and self.calls and self._agrees(mutant.function):
                if right is None or not self._agrees(mutant.function, right):
                    found.append(mutant.mistake)
        return tuple(found[:2])

    def _agrees(self, mutant: Callable[..., Any], other: Callable[..., Any] | None = None) -> bool:
        """Whether a mutant answers every call as this function did, or as another function does."""
        try:
            with np.errstate(all="ignore"):
                for args, kwargs, result in self.calls:
                    wanted = result if other is None else other(*args, **kwargs)
                    if not _close(
                        mutant(*deepcopy(args), **kwargs), wanted
                    ):  # some mistakes write into them
                        return False
        except Exception:  # the mistake does not even run on these arguments
            return False
        return True


def _copied(result: Any) -> Any:
    """A copy: where no damping is needed, a student may give back s itself."""
    try:
        return deepcopy(result)
    except TypeError:  # a generator, for example
        return result


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, BlockView):  # counts are not compared
        value = value.H_a, value.H_g
    value = outward(value)
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]


def _answer(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return function(*deepcopy(args), **kwargs)
    except Exception:  # an argument that it refuses: no answer
        return None


def _echoes(args: Sequence[Any], answer: Any) -> bool:
    return any(_same(answer, arg) for arg in args)


def _same(left: Any, right: Any) -> bool:
    return isinstance(right, np.ndarray | tuple) and _close(left, right, rtol=0.0)


def _close(left: Any, right: Any, rtol: float = 1e-6) -> bool:
    """Equal up to six digits: far above rounding, far below what a mistake changes."""
    lefts = _leaves(left)
    rights = _leaves(right)
    return len(lefts) == len(rights) and all(map(partial(_close_arrays, rtol), lefts, rights))


def _close_arrays(rtol: float, a: Any, b: Any) -> bool:
    arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape
    if not arrays:
        return False
    finite = np.isfinite(a) & np.isfinite(
        b
    )  # a mistake may divide by zero, and infinities have no distance
    scale = np.abs(b[finite]).max(initial=0)
    return bool(np.array_equal(a[~finite], b[~finite], equal_nan=True)
                and np.all(np.abs(a[finite] - b[finite]) <= rtol * scale))  # fmt: skip


def untampered() -> None:
    """Raise where NumPy's comparisons have been replaced: they must tell 0 from 1, and agree on 1 =
    1.
    """
    tools = {"np.allclose": np.allclose, "np.isclose": np.isclose, "np.array_equal": np.array_equal}
    for name, tool in tools.items():
        if np.any(tool(np.zeros(2), np.ones(2))) or not np.all(tool(np.ones(2), np.ones(2))):
            raise LawBroken(
                f"{name} does not tell 0 from 1 in this notebook: it has been replaced. "
                "Take that out."
            )
    try:
        np.testing.assert_allclose(np.zeros(2), np.ones(2))
    except AssertionError:
        pass
    else:
        raise LawBroken(
            "np.testing.assert_allclose accepts that 0 is 1: it has been replaced. Take that out."
        )
    if np.linalg.norm(np.array([3.0, 4.0])) != 5 or not bool(np.abs(np.float64(-1.0)) == 1):
        raise LawBroken(
            "np.linalg.norm or np.abs has been replaced in this notebook. Take that out."
        )


def laws(
    namespace: Mapping[str, Any], *names: str, examples: int = 40, seed: int | None = None
) -> None:
    """Hold the functions of a notebook to laws, given by name.

    Args:
        namespace: ``globals()`` of the notebook.
        names: names of checks of the suite, or of :data:`kfqn_ref.course.tasks.TASKS`.
        examples: how many cases to try a law.
        seed: another one tries other cases; None tries the same ones every time.

    Raises:
        LawBroken: a law does not hold; the message is what a student reads.
    """
    assert all_checks(), "importing the runner registers the checks"
    provided = tasks.with_adapters(namespace)
    watches = {}
    checks = [tasks.TASKS.get(name) or REGISTRY[name] for name in names]
    for needed in dict.fromkeys(name for check in checks for name in check.requires):
        if not callable(provided.get(needed)):
            raise LawBroken(
                f"✗ {SHOWN.get(needed, needed)} is not defined yet: write it, and run its cell."
            )
        watches[needed] = Watch(SHOWN.get(needed, needed), provided[needed], needed)
    student = tasks.Student(watches)
    for check in checks:
        result = known.hold(check, student, Effort(examples, seed))
        if result.failure is not None:
            visible = Effort(examples)
            in_sight = seed is not None and not known.hold(check, student, visible).failure
            watched = [watches[name] for name in check.requires]
            raise LawBroken(_lesson(result, watched, provided, holds_in_sight=in_sight))
    for watch in watches.values():
        if reason := watch.empty_answer():
            raise LawBroken(f"✗ {reason}. No law is checked by that.")
    print("✓ " + ", ".join(names))


def raises(error: type[Exception], function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """State that a call is refused with this class of error.

    Raises:
        LawBroken: it returns, or raises something else.
    """
    shown = ", ".join(map(_short, [*args, *kwargs.values()]))
    call = f"{getattr(function, '__name__', 'function')}({shown})"
    try:
        result = function(*args, **kwargs)
    except error:
        return
    except NotImplementedError as stub:
        raise LawBroken(_STUB.format(getattr(function, "__name__", "the function"))) from stub
    except Exception as other:
        raise LawBroken(
            f"✗ {call} must raise {error.__name__}, got {type(other).__name__}: {other}"
        ) from other
    likely = missed_refusal(getattr(function, "__name__", ""), function)
    likely = likely or "no test of the arguments, or one that NaN passes"
    got = f"got the result {_short(result)}\n\nLikeliest mistake: {likely}."
    raise LawBroken(f"✗ {call} must raise {error.__name__}, {got}")


def _short(value: Any) -> str:
    return " ".join(readable(value).split())


def _lesson(
    result: CheckResult,
    watches: Sequence[Watch],
    provided: Mapping[str, Any],
    *,
    holds_in_sight: bool,
) -> str:
    """The text of a failure.

    Args:
        provided: the functions of the notebook.
        holds_in_sight: whether the law holds for the examples that a student can see.
    """
    failure = result.failure
    functions = ", ".join(watch.name for watch in watches)
    assert failure is not None, "only a failure teaches"
    if failure.lhs.startswith("NotImplementedError"):
        return _STUB.format(functions)
    facts = explain(CheckResult(result.check, "failed", result.examples, failure))
    table = _table([fact for fact in facts if fact[0] != "looks like"])
    found = [(watch.name, diagnose(watch.name, provided)) for watch in watches]
    found = [(name, finding) for name, finding in found if finding.reason or finding.region]
    hint = _likeliest(failure, watches, found)
    if holds_in_sight:
        hint = f"{SEEN} {hint[:1].upper()}{hint[1:]}"
    head = f"✗ This law does not hold for your {functions}."
    last = f"Likeliest mistake: {hint}"
    examples = [text for name, finding in found if (text := _example(name, finding))]
    return "\n".join([head, "", table, "", textwrap.fill(last, 100), *examples[:1]])


def _likeliest(
    failure: Failure, watches: Sequence[Watch], found: Sequence[tuple[str, Finding]]
) -> str:
    """The mistake, if it is known; else where the functions go wrong; else what is seen."""
    known = [] if failure.left == "the call" else [m for w in watches for m in w.mistakes()]
    whole_runs = any(watch.known_as in SHOWN for watch in watches)
    reasons = [finding.reason for _, finding in found if finding.reason]
    if known and (whole_runs or not reasons):
        reasons = known  # the mutants of whole runs have better words than a line of a step
    if reasons:
        return f"{'; or '.join(dict.fromkeys(reasons))}. {SAME}"
    if found:
        return "; ".join(f"in {name}, {finding.region}" for name, finding in found) + "."
    return _hint(failure)


def _example(name: str, finding: Finding) -> str:
    """A small case by hand: arguments, what is wanted, what came; nothing where it is long."""
    if finding.example is None:
        return ""
    arguments, expected, got = finding.example
    options = arguments["defaults"]
    shown = ", ".join(
        f"{key} = {_short(value)}"
        for key, value in arguments.items()
        if key != "defaults" and key not in options
    )
    wanted = "is to be refused" if isinstance(expected, Exception) else f"is {_short(expected)}"
    came = type(got).__name__ if isinstance(got, Exception) else _short(got)
    text = f"By hand: {name}({shown}) {wanted}; yours gives {came}."
    return "\n" + textwrap.fill(text, 100) if len(text) <= LONGEST else ""


def _table(facts: Sequence[tuple[str, str]]) -> str:
    """Labels and texts in two columns; long words and formulas are broken, as pages are narrow."""
    widths = [
        sum(not unicodedata.combining(sign) for sign in label) for label, _ in facts
    ]  # s̃ is one wide
    column = max(14, *widths) + 1
    lines = []
    for (label, text), width in zip(facts, widths, strict=True):
        whole = textwrap.fill(text, 100 - column) if label in ("law", "formula") else text
        lines.append(label + " " * (column - width) + whole.replace("\n", "\n" + " " * column))
    return "\n".join(lines)


def _hint(failure: Failure) -> str:
    """What the shape of a failure says when no known mistake gives the same numbers."""
    if "off by" in failure.lhs or "shape" in failure.left:
        return f"the result has another shape: {failure.left}, wanted {failure.right}."
    if failure.law:
        return (
            "the function writes into its argument; make a new array instead "
            "(H = H + … and not H += …)."
        )
    if failure.left == "the call":
        return f"the function stops with an error on valid input: {failure.lhs}"
    if "nan" in failure.lhs.lower() or "inf" in failure.lhs.lower():
        return "a division by zero, or a root of a negative number: the result is not finite."
    return (
        "none that we know. If a test above fails, repair that first; then compute the example "
        "by hand."
    )
