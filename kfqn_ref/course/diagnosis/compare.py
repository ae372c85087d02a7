"""Answers as lists of arrays, and whether two answers are the same."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

Parts = list[np.ndarray]
RTOL = 1e-7  # far above rounding on these inputs, far below what a mistake changes


class Wrote(Exception):
    """The function changed one of its arguments."""


def answer(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What a function gives or raises; ``Wrote`` where it changes an argument."""
    given = deepcopy((args, kwargs))
    try:
        with np.errstate(all="ignore"):
            result = function(*given[0], **given[1])
    except Exception as error:
        # the arrays that cross into the box cannot be written to
        return Wrote() if "read-only" in str(error) else error
    arrays = [part for part in given[0] if isinstance(part, np.ndarray)]
    kept = [part for part in args if isinstance(part, np.ndarray)]
    same = all(map(lambda a, b: np.array_equal(a, b, equal_nan=True), arrays, kept))
    return result if same else Wrote()


def parts(value: Any) -> Parts | None:
    """The arrays of an answer in order; None where it has something that is no number."""
    if isinstance(value, dict):
        return parts([value[key] for key in sorted(value, key=str)])
    if isinstance(value, list | tuple):
        found: Parts = []
        for item in value:
            inner = parts(item)
            if inner is None:
                return None
            found += inner
        return found
    try:
        return [np.asarray(value, dtype=float)]
    except (TypeError, ValueError):
        return None


def shaped(value: Any, like: Any) -> Any:
    """An answer in the form of another: lists become arrays, and sequences lists.

    What cannot be brought into that form stays as it is.
    """
    if isinstance(value, Exception) or isinstance(like, Exception):
        return value
    try:
        if isinstance(like, dict):
            return {key: shaped(value[key], like[key]) for key in like}
        if isinstance(like, list | tuple):
            items = list(value)
            if len(items) != len(like):
                return items
            return [shaped(item, each) for item, each in zip(items, like, strict=True)]
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError, KeyError):
        return value


def close(left: Any, right: Any) -> bool:
    """Whether two answers are the same; two exceptions of one class are, whatever they say."""
    if isinstance(left, Exception) or isinstance(right, Exception):
        return type(left) is type(right)
    lefts = parts(left)
    rights = parts(right)
    if lefts is None or rights is None or len(lefts) != len(rights):
        return False
    return all(map(close_arrays, lefts, rights))


def close_arrays(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to rounding; infinities and NaN must stand at the same places."""
    if a.shape != b.shape:
        return False
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return False
        a = a[finite]
        b = b[finite]
    scale = np.abs(b).max(initial=0)
    return bool((np.abs(a - b) <= RTOL * max(scale, 1e-3)).all())
