"""A check: one law, stated as a plain function of one implementation.

The body of a check calls the implementation and states the law with :func:`equal`, :func:`at_most`
or
:func:`holds`. The ``law`` decorator adds the law in words, its formula, the names it needs and the
strategy that draws its arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from kfqn_ref._typing import shape_checks
from kfqn_ref.testing.tolerances import Precision

Case = Mapping[str, Any]


class Violation(AssertionError):
    """One law, broken: what was on each side of the equation, by how much, and how much was
    allowed.
    """

    def __init__(
        self,
        left: str,
        lhs: Any,
        right: str,
        rhs: Any,
        *,
        size: float,
        tolerance: float,
        law: str = "",
    ):
        super().__init__(f"{left} against {right}: off by {size:.3g}, allowed {tolerance:.3g}")
        self.left: str = left
        self.lhs: Any = lhs
        self.right: str = right
        self.rhs: Any = rhs
        self.size: float = size
        self.tolerance: float = tolerance
        self.law: str = law


@dataclass(frozen=True)
class Check:
    """One law with everything a reader of its failure needs; call it with an implementation and one
    case.
    """

    name: str
    words: str
    formula: str
    chapter: str
    requires: tuple[str, ...]
    given: Callable[[Precision], SearchStrategy[Case]] = field(repr=False)
    statement: Callable[..., None] = field(repr=False)
    group: str = "laws"
    cost: int = 1  # how many times fewer examples than a kernel's law this one can afford
    sizes: tuple[int, ...] = ()  # lengths of vectors to visit besides those of the axis

    def __call__(self, implementation: Any, case: Case) -> None:
        """State the law for one case; raises Violation where it does not hold.

        What the law computes with the reference itself is not checked for shapes, since its
        arguments are the law's. What the implementation calls is.
        """
        with shape_checks("none"):
            self.statement(implementation, **case)


REGISTRY: dict[str, Check] = {}

# A formula is compared at every length up to 66 and at some large ones; other laws cost too much.
EVERY_SIZE = (*range(1, 67), 100, 200)


def law(
    words: str,
    formula: str,
    *,
    chapter: str,
    requires: str,
    given: Callable[[Precision], SearchStrategy[Case]],
    group: str = "laws",
    cost: int = 1,
    sizes: tuple[int, ...] = (),
) -> Callable[[Callable[..., None]], Check]:
    """Make a check of the decorated function and list it in :data:`REGISTRY` under
    ``chapter.function``.
    """

    def register(statement: Callable[..., None]) -> Check:
        name = f"{chapter}.{statement.__name__}"
        if name in REGISTRY:
            raise ValueError(f"two checks are named {name}")
        check = Check(
            name,
            words,
            formula,
            chapter,
            tuple(requires.split()),
            given,
            statement,
            group,
            cost,
            sizes,
        )
        REGISTRY[name] = check
        return check

    return register


def equal(left: str, lhs: Any, right: str, rhs: Any, tolerance: float) -> None:
    """State ``lhs = rhs`` up to ``tolerance`` in the Euclidean (Frobenius) norm; NaN never is
    equal.
    """
    lhs, rhs = np.asarray(lhs, dtype=float), np.asarray(rhs, dtype=float)
    if lhs.shape != rhs.shape:
        shapes = f"{left} of shape {lhs.shape}", f"{right} of shape {rhs.shape}"
        raise Violation(shapes[0], lhs, shapes[1], rhs, size=np.inf, tolerance=tolerance)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, which fails below
        size = float(np.linalg.norm(lhs - rhs))
    if not size <= tolerance:
        raise Violation(left, lhs, right, rhs, size=size, tolerance=tolerance)


def at_most(left: str, lhs: Any, right: str, rhs: Any, tolerance: float) -> None:
    """State ``lhs <= rhs + tolerance`` for two scalars; NaN never is."""
    size = float(lhs) - float(rhs)
    if not size <= tolerance:
        raise Violation(left, lhs, f"at most {right}", rhs, size=size, tolerance=tolerance)


def holds(left: str, value: Any, right: str, expected: Any) -> None:
    """State that two exact things (counts, shapes, truths) are the same."""
    if value != expected:
        raise Violation(left, value, right, expected, size=np.inf, tolerance=0.0)
