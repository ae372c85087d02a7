"""Numbers of a finite field or of the rationals, in NumPy arrays that any formula accepts.

The arithmetic is python-flint's. :class:`Scalar` adds only what formulas written for NumPy need: a
float constant such as 1.0 or 0.5 is the fraction that it stands for, and a function that forces
floats, or compares in a field that has no order, is told so.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat, nmod, nmod_mat

PRIME = 2**61 - 1
"""The field has this many elements; it is a Mersenne prime."""

DRAWN = 2**61 - 1
"""Every random number is one of so many, in the field and in the rationals."""


class Inexact(TypeError):
    """A function needs an operation that exact numbers do not have."""


class Scalar:
    """One exact number: a wrapper around an ``nmod`` or an ``fmpq`` that NumPy and floats may
    meet.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Any:
        if isinstance(other, np.ndarray) and other.ndim:
            return NotImplemented  # the array applies the operation to each of its entries
        return Scalar(operation(self.value, self._coerced(other)))

    def _coerced(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            other = other.item()
        if isinstance(other, Scalar):
            return other.value
        try:
            number = Fraction(other)  # exactly what a float stands for
        except (TypeError, ValueError, OverflowError) as error:
            raise Inexact(f"{other!r} is no exact number") from error
        parts = int(number.numerator), int(number.denominator)
        if isinstance(self.value, nmod):
            return nmod(parts[0], PRIME) / nmod(parts[1], PRIME)
        return fmpq(*parts)

    def __add__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a + b)

    def __radd__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: b + a)

    def __sub__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a * b)

    def __rmul__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: b * a)

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: a / b)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(other, lambda a, b: b / a)

    def __neg__(self) -> "Scalar":
        return Scalar(-self.value)

    def __pos__(self) -> "Scalar":
        return self

    def __pow__(self, exponent: Any) -> "Scalar":
        if not isinstance(exponent, int | np.integer):
            raise Inexact("a power of an exact number has an integer exponent")
        return Scalar(self.value ** int(exponent))

    def __eq__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray) and other.ndim:
            return NotImplemented
        return self.value == self._coerced(other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __bool__(self) -> bool:
        return bool(self.value != 0)

    def _order(self, other: Any, operation: Callable[[Any, Any], bool]) -> Any:
        if isinstance(self.value, nmod):
            raise Inexact("it compares numbers, and a finite field has no order")
        if isinstance(other, np.ndarray) and other.ndim:
            return NotImplemented
        return bool(operation(self.value, self._coerced(other)))

    def __lt__(self, other: Any) -> Any:
        return self._order(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> Any:
        return self._order(other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> Any:
        return self._order(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> Any:
        return self._order(other, lambda a, b: a >= b)

    def __abs__(self) -> "Scalar":
        return -self if self < 0 else self

    def conjugate(self) -> "Scalar":
        """The number itself: it is real."""
        return self

    def item(self) -> "Scalar":
        """The number itself, as of an array without axes."""
        return self

    def __float__(self) -> float:
        raise Inexact("it converts to float64")

    def sqrt(self) -> float:
        """Refuse: a square root is not rational."""
        raise Inexact("it takes a square root")

    def __format__(self, _: str) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return str(self.value)


class ExactArray(np.ndarray):
    """An array of scalars whose inverse and solutions are python-flint's."""

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.linalg.inv:
            return inverse(args[0])
        if func is np.linalg.solve:
            return inverse(args[0]) @ args[1]
        result = super().__array_function__(func, types, args, kwargs)
        if isinstance(result, np.ndarray) and result.dtype == object:
            return result.view(ExactArray)
        return result


def array(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of scalars of this shape, from a flat list of python-flint's numbers."""
    filled = np.empty(shape, dtype=object)
    filled.reshape(-1)[:] = [Scalar(value) for value in values]
    return filled.view(ExactArray)


def inverse(A: Any) -> np.ndarray:
    """The exact inverse of a matrix of scalars.

    Raises:
        ZeroDivisionError: it has none.
    """
    matrix = to_flint(A)
    return array(matrix.inv().entries(), np.shape(A))


def to_flint(A: Any) -> Any:
    """The matrix of python-flint with these entries, (n, n); plain numbers are exact too."""
    A = np.asarray(A, dtype=object)
    like = next(entry for entry in A.flat if isinstance(entry, Scalar))
    values = [like._coerced(entry) for entry in A.flat]
    rows, columns = A.shape
    if isinstance(like.value, nmod):
        return nmod_mat(rows, columns, [int(value) for value in values], PRIME)
    return fmpq_mat(rows, columns, values)


def positive_definite(A: Any) -> bool:
    """Whether a symmetric rational matrix is positive definite: its leading minors are positive."""
    matrix = to_flint(A)
    rows = matrix.tolist()
    leading = (fmpq_mat([row[:k] for row in rows[:k]]) for k in range(1, len(rows) + 1))
    return all(block.det() > 0 for block in leading)
