"""What the checks said: as values, as JSON, as lines for a terminal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape

from kfqn_ref.testing.coverage import Visited
from kfqn_ref.testing.implementation import Described
from kfqn_ref.testing.law import Case, Check, Violation


class Chapter(NamedTuple):
    """Where a law is derived: a topic, and the page of the book that treats it."""

    topic: str
    page: str


CHAPTERS = {
    "arguments": Chapter("Checks and mutants", "book/testing.md"),
    "calls": Chapter("Checks and mutants", "book/testing.md"),
    "layout": Chapter("Checks and mutants", "book/testing.md"),
    "state": Chapter("Checks and mutants", "book/testing.md"),
    "damping": Chapter("Damping", "book/damping.md"),
    "bfgs": Chapter("BFGS on an inverse", "book/newton.md"),
    "lbfgs": Chapter("L-BFGS", "book/lbfgs.md"),
    "kron": Chapter("vec and the Kronecker product", "book/linear_maps.md"),
    "patches": Chapter("A convolution as a matrix product", "book/convolutions.md"),
    "factors": Chapter("Hessian action", "book/hessian_action.md"),
    "pairs": Chapter("Curvature pairs", "book/kbfgs.md"),
    "hessian": Chapter("The layer's Hessian block", "book/linear_maps.md"),
    "network": Chapter("A network as a chain of linear maps", "book/linear_maps.md"),
    "optimizer": Chapter("KF-QN-CNN", "book/kfqn.md"),
    "errors": Chapter("Checks and mutants", "book/testing.md"),
    "exact": Chapter("Checks and mutants", "book/testing.md"),
}


def readable(value: Any) -> str:
    """Numbers as a person would write them: shortest digits, small arrays in full, big ones
    shortened.
    """
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        names = getattr(value, "_fields")  # noqa: B009  # pyright does not know that it is a NamedTuple
        return ", ".join(f"{name} = {readable(v)}" for name, v in zip(names, value, strict=True))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(readable, value)) + "]"
    if isinstance(value, np.ndarray) and value.size == 1:
        return f"{value.item():.9g}" if value.ndim == 0 else f"[{value.item():.9g}]"
    if isinstance(value, np.ndarray):
        return np.array2string(
            value,
            precision=9,
            suppress_small=False,
            threshold=60,
            separator=", ",
            floatmode="maxprec",
        )
    return f"{float(value):.9g}" if isinstance(value, float | np.floating) else str(value)


@dataclass(frozen=True)
class Failure:
    """The smallest counterexample found, both sides of the equation, and how far they are apart."""

    counterexample: dict[str, str]
    left: str
    lhs: str
    right: str
    rhs: str
    size: float
    tolerance: float
    law: str = ""
    looks_like: tuple[str, ...] = ()
    region: str = ""
    case: Case | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of_violation(cls, case: Case, violation: Violation) -> "Failure":
        """A law that did not hold."""
        sides = readable(violation.lhs), readable(violation.rhs)
        shown = {name: readable(value) for name, value in case.items()}
        both = violation.left, sides[0], violation.right, sides[1]
        return cls(shown, *both, violation.size, violation.tolerance, violation.law, case=case)

    @classmethod
    def of_exception(cls, case: Case, error: Exception, where: str) -> "Failure":
        """A call that raised on valid input."""
        shown = {name: readable(value) for name, value in case.items()}
        said = f"{type(error).__name__}: {error} ({where})"
        return cls(shown, "the call", said, "a result", "", np.inf, 0.0, case=case)


OUTCOMES = ("passed", "failed", "not provided")
EXACT_OUTCOMES = ("proved", "no counterexample", "floats only")


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check: "passed", "failed" or "not provided"; of an exact law also "proved",
    "no counterexample" or "floats only", with a note that says how sure that is, or why.
    """

    check: Check
    outcome: str
    examples: int
    failure: Failure | None
    visited: Visited = field(default_factory=Visited, repr=False, compare=False)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The result as plain data; infinite sizes become None."""
        check = self.check
        entry = {
            "check": check.name,
            "outcome": self.outcome,
            "examples": self.examples,
            "law": check.words,
        }
        topic, page = CHAPTERS[check.chapter]
        entry |= {"formula": check.formula, "chapter": topic, "page": page}
        if self.note:
            entry["note"] = self.note
        if self.failure is not None:
            failure = {key: value for key, value in vars(self.failure).items() if key != "case"}
            failure["size"] = failure["size"] if np.isfinite(failure["size"]) else None
            entry["failure"] = failure | {"looks_like": list(self.failure.looks_like)}
        return entry


@dataclass(frozen=True)
class Report:
    """What the checks said of one implementation; ``namespace`` names whose arrays it was given,
    and ``missing_layouts`` the layouts that those cannot have.
    """

    label: str
    precision: str
    results: tuple[CheckResult, ...]
    namespace: str = "numpy"
    missing_layouts: tuple[str, ...] = ()

    @classmethod
    def of(cls, implementation: Described, results: tuple[CheckResult, ...]) -> "Report":
        """The report of an implementation that is described so."""
        label, precision, namespace, missing = implementation
        return cls(label, precision, results, namespace, missing)

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.outcome == "failed")

    def counts(self) -> dict[str, int]:
        """Number of checks by outcome; outcomes of exact laws only where there are some."""
        outcomes = [result.outcome for result in self.results]
        met = [outcome for outcome in EXACT_OUTCOMES if outcome in outcomes]
        return {outcome: outcomes.count(outcome) for outcome in (*OUTCOMES, *met)}

    def to_json(self) -> str:
        """The whole report as JSON."""
        head: dict[str, Any] = {"implementation": self.label, "precision": self.precision}
        if self.namespace != "numpy":
            head |= {"namespace": self.namespace, "missing_layouts": list(self.missing_layouts)}
        head |= {"counts": self.counts()}
        results = [result.to_json() for result in self.results]
        return json.dumps(
            head | {"results": results}, indent=1, ensure_ascii=False, allow_nan=False
        )


_COLOURS = {"passed": "green", "failed": "bold red", "not provided": "dim"}
_COLOURS |= {"proved": "bold green", "no counterexample": "green", "floats only": "yellow"}


def print_result(console: Console, result: CheckResult) -> None:
    """Print one line for a check, and what a failure teaches below it."""
    colour = _COLOURS[result.outcome]
    line = f"[{colour}]{result.outcome:<13}[/] {result.check.name}"
    if result.note:
        line += f" [dim]({escape(result.note)})[/]"
    elif result.examples:
        line += f" [dim]({result.examples} examples)[/]"
    console.print(line, highlight=False, soft_wrap=True)
    if result.failure is not None:
        for label, text in explain(result):
            body = text.replace("\n", "\n" + " " * 19)
            console.print(
                f"    [bold]{label:<14}[/] {escape(body)}", highlight=False, soft_wrap=True
            )


def explain(result: CheckResult) -> Sequence[tuple[str, str]]:
    """What a failure teaches, as (label, text) lines."""
    failure, check = result.failure, result.check
    assert failure is not None, "only a failure is explained"
    lines = [("law", failure.law or check.words)]
    if not failure.law:
        lines.append(("formula", check.formula))
    lines += [(f"  {name} =", text) for name, text in failure.counterexample.items()]
    lines += [(failure.left, failure.lhs), (failure.right, failure.rhs)]
    if np.isfinite(failure.size):
        lines.append(("violation", f"{failure.size:.3g}, tolerance {failure.tolerance:.2g}"))
    if failure.region:
        lines.append(("only for", failure.region))
    if failure.looks_like:
        lines.append(("looks like", "; or ".join(failure.looks_like)))
    topic, page = CHAPTERS[check.chapter]
    return [*lines, ("chapter", f"{topic}, {page}")]
