"""Array types with shapes, checked at run time in the reference, and guards beside formulas.

``Float[Array, "n n"]`` says dtype and shape; the ``checked`` decorator compares every call with
the signature, so that a wrong kind or shape is a ``TypeError`` before any arithmetic happens.
Equal letters within one signature must be equal sizes.

A guard compares numbers and refuses what the formula has no answer for (``guarded``). In a finite
field no number is positive, so kinds and guards are left out inside ``formulas_only``: there the
formulas are evaluated with scalars of any field.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from jaxtyping import Float, Inexact, Integer, jaxtyped

Array = np.ndarray
CHECK_SHAPES = os.environ.get("KFQN_CHECK_SHAPES", "1") != "0"
F = TypeVar("F", bound=Callable[..., Any])
_formulas_only: ContextVar[bool] = ContextVar("formulas_only", default=False)
_checking: ContextVar[str] = ContextVar("checking", default="all")


@contextmanager
def formulas_only() -> Iterator[None]:
    """Leave out the checks of kinds and shapes and the guards inside the block, in this thread."""
    token = _formulas_only.set(True)
    try:
        yield
    finally:
        _formulas_only.reset(token)


class shape_checks:
    """Choose which calls are checked for kinds and shapes inside the block, in this thread: "all",
    as everywhere else, "outer", the calls that no checked function makes, or "none". Guards are
    kept.
    """

    def __init__(self, which: str):
        self._which = which

    def __enter__(self) -> None:
        self._token = _checking.set(self._which)

    def __exit__(self, *_: object) -> None:
        _checking.reset(self._token)


def checked(function: F) -> F:
    """Check the arguments and the result of ``function`` against its annotations.

    The checker is imported and built at the first call, so that importing a module of the
    reference stays cheap. With the environment variable ``KFQN_CHECK_SHAPES=0``, read when this
    module is imported, calls are not checked: wrong shapes may then be broadcast without an error.

    Raises:
        TypeError: an argument has the wrong kind, dtype or shape; the message names the
            argument and what was expected.
    """

    if not CHECK_SHAPES:
        return function

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        checking = _checking.get()
        if _formulas_only.get() or checking == "none":
            return function(*args, **kwargs)
        if checking == "all":
            return _with_checks(function)(*args, **kwargs)
        with shape_checks("none"):
            return _with_checks(function)(*args, **kwargs)

    return cast(F, call)


def guarded(
    guard: Callable[..., None], *, result: Callable[[Any], Any] | None = None
) -> Callable[[F], F]:
    """Return the decorator that lets ``guard`` see the arguments before the formula does.

    Args:
        guard: takes the arguments of the function, and raises for those that the formula has no
            answer for.
        result: converts what the formula gives, for example to a Python float.
    """

    def decorate(formula: F) -> F:
        @wraps(formula)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _formulas_only.get():
                return formula(*args, **kwargs)
            guard(*args, **kwargs)
            value = formula(*args, **kwargs)
            return value if result is None else result(value)

        return cast(F, call)

    return decorate


@cache
def _with_checks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` with beartype's checks of kinds and jaxtyping's of shapes."""
    from beartype import BeartypeConf, beartype

    bear = beartype(conf=BeartypeConf(is_pep484_tower=True))
    return jaxtyped(typechecker=bear)(function)


def require(*rules: tuple[bool, str, object]) -> None:
    """Raise ``ValueError`` for the first rule (holds, what must hold, what was got) that does not
    hold.
    """
    for holds, rule, got in rules:
        if not holds:
            raise ValueError(f"{rule}, got {got}")


class Pair(NamedTuple):
    """A curvature pair: ``s``, a step, and ``y``, the change of the gradient along it; both
    (d,).
    """

    s: Float[Array, " d"]
    y: Float[Array, " d"]


@runtime_checkable
class InverseEstimate(Protocol):
    """A symmetric positive definite estimate ``H`` of an inverse: what BFGS and L-BFGS share."""

    def __matmul__(self, X: Array, /) -> Array: ...

    def update(self, s: Array, y: Array) -> "InverseEstimate":
        """Return the estimate after the pair (s, y), ``sᵀy > 0``."""
        ...

    def dense(self) -> Array:
        """Return the estimate as a (d, d) matrix."""
        ...


__all__ = [
    "Array",
    "Float",
    "Inexact",
    "Integer",
    "InverseEstimate",
    "Pair",
    "checked",
    "formulas_only",
    "guarded",
    "require",
    "shape_checks",
]
