"""For every function three mistakes that no law sees: in the form of a call, in the layout of an
array, and in what is kept between calls.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.checks.forms import FORMS
from kfqn_ref.testing.mutants.registry import mutant


def _doubled(result: Any) -> Any:
    if isinstance(result, tuple):
        parts = [2 * np.asarray(part) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    return 2 * result


def _by_keyword(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def by_keyword(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        named = any(parameter in kwargs for parameter in FORMS[name].parameters)
        return _doubled(result) if named else result

    return by_keyword


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """The arrays of an argument: itself, or those of a pair or record."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _arrays(part)


def _not_contiguous(original: Callable[..., Any]) -> Callable[..., Any]:
    def not_contiguous(*args: Any, **kwargs: Any) -> Any:
        views = [not a.flags.c_contiguous for a in _arrays(args)]
        result = original(*args, **kwargs)
        return _doubled(result) if any(views) else result

    return not_contiguous


def _every_500th(original: Callable[..., Any]) -> Callable[..., Any]:
    made = [0]

    def every_500th(*args: Any, **kwargs: Any) -> Any:
        made[0] += 1
        result = original(*args, **kwargs)
        return _doubled(result) if made[0] % 500 == 0 else result

    return every_500th


for _name in FORMS:
    _original = reference.names()[_name]
    mutant(_name, "twice the result where an array is given by keyword")(
        _by_keyword(_name, _original)
    )
    mutant(_name, "twice the result for an array that is not contiguous")(
        _not_contiguous(_original)
    )
    mutant(_name, "twice the result at every 500th call")(_every_500th(_original))
