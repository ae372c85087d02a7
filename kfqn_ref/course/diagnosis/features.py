"""What arguments have in common: the words for where a function goes wrong."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis import models

Named = dict[str, Any]

# A test of the arguments by name, and how it is said. The simplest come first.
FEATURES: list[tuple[str, Callable[[Named], bool]]] = [
    ("n ≥ 2", lambda a: len(_vector(a)) >= 2),
    ("n ≥ 2", lambda a: a["n"] >= 2),
    ("n ≥ 3", lambda a: len(a["y"]) >= 3),
    ("n ≥ 3", lambda a: a["n"] >= 3),
    ("sᵀy < 0", lambda a: a["s"] @ a["y"] < 0),
    ("sᵀy = 0", lambda a: a["s"] @ a["y"] == 0),
    ("sᵀy is not above 0", lambda a: not a["s"] @ a["y"] > 0),
    ("sᵀy is NaN", lambda a: bool(np.isnan(a["s"] @ a["y"]))),
    ("sᵀy < 1", lambda a: a["s"] @ a["y"] < 1),
    ("0 < sᵀy < 10⁻³", lambda a: 0 < a["s"] @ a["y"] < 1e-3),
    ("0 < sᵀy ≤ 1", lambda a: 0 < a["s"] @ a["y"] <= 1),
    ("damping acts, sᵀy < mu1 yᵀH y", lambda a: a["s"] @ a["y"] < a["mu1"] * _yHy(a)),
    ("no damping is needed, sᵀy ≥ mu1 yᵀH y", lambda a: a["s"] @ a["y"] >= a["mu1"] * _yHy(a)),
    ("sᵀy is positive and below mu1 yᵀH y", lambda a: 0 <= a["s"] @ a["y"] < a["mu1"] * _yHy(a)),
    ("sᵀy < yᵀH y", lambda a: a["s"] @ a["y"] < _yHy(a)),
    ("mu1 yᵀH y ≤ sᵀy < yᵀH y", lambda a: a["mu1"] * _yHy(a) <= a["s"] @ a["y"] < _yHy(a)),
    ("mu1 is left out, so that its default counts", lambda a: "mu1" in a["defaults"]),
    ("mu1 is given", lambda a: "mu1" not in a["defaults"] and "mu1" in a),
    ("γ is left out, so that its default counts", lambda a: "gamma" in a["defaults"]),
    ("γ is not 1", lambda a: a["gamma"] != 1),
    ("there is no pair", lambda a: len(a["S"]) == 0),
    ("there is a pair, m ≥ 1", lambda a: len(a["S"]) >= 1),
    ("there are several pairs, m ≥ 2", lambda a: len(a["S"]) >= 2),
    ("there are many pairs, m ≥ 3", lambda a: len(a["S"]) >= 3),
    ("the memory is full", lambda a: len(a["S"]) >= a["memory"]),
    ("the memory is not full", lambda a: len(a["S"]) < a["memory"]),
    ("the memory is full and holds several pairs", lambda a: len(a["S"]) >= a["memory"] >= 2),
    ("there are several samples, N ≥ 2", lambda a: _tensor(a).shape[0] >= 2),
    ("there are several locations, |T| ≥ 2", lambda a: _tensor(a).shape[1] >= 2),
    ("N ≥ 2 and |T| ≥ 2", lambda a: min(_tensor(a).shape[:2]) >= 2),
    ("there are several channels", lambda a: _image(a).shape[1] >= 2),
    ("the layer has a bias", lambda a: a["conv"].bias),
    ("the layer has no bias", lambda a: not a["conv"].bias),
    ("the kernel has more than one entry", lambda a: _option(a, "kernel_size") != (1, 1)),
    ("the kernel is not square", lambda a: _uneven(a, "kernel_size")),
    ("the stride is not 1", lambda a: _option(a, "stride") != (1, 1)),
    ("the stride of rows and columns differs", lambda a: _uneven(a, "stride")),
    ("the padding is not 0", lambda a: _option(a, "padding") != (0, 0)),
    ("the padding of rows and columns differs", lambda a: _uneven(a, "padding")),
    ("the dilation is not 1", lambda a: _option(a, "dilation") != (1, 1)),
    ("the dilation of rows and columns differs", lambda a: _uneven(a, "dilation")),
    ("A is given as a matrix", lambda a: a["A"].ndim == 2 and "lam" in a),
    ("A is given as the inputs ā", lambda a: a["A"].ndim == 3),
    ("A is not 1×1", lambda a: a["A"].shape != (1, 1)),
    ("X is not square", lambda a: a["X"].shape[0] != a["X"].shape[1]),
    ("X has several rows and columns", lambda a: min(a["X"].shape) >= 2),
    ("A or G is not square", lambda a: _oblong(a["A"]) or _oblong(a["G"])),
]


def _yHy(a: Named) -> float:
    return float(a["y"] @ a["H"] @ a["y"])


def _tensor(a: Named) -> np.ndarray:
    if "first" in a:
        return a["first"].h
    found = next(a[name] for name in ("a_bar", "Hh", "a") if name in a)
    if found.ndim == 4:
        raise KeyError("an image has no locations yet")
    return found


def _image(a: Named) -> np.ndarray:
    return a["a"] if "conv" in a else a["x"]


def _vector(a: Named) -> np.ndarray:
    return a["y"] if "y" in a and "S" not in a else a["v"]


def _option(a: Named, name: str) -> tuple[int, int]:
    option = getattr(a["conv"], name) if "conv" in a else a[name]
    return tuple(option)


def _uneven(a: Named, name: str) -> bool:
    return len(set(_option(a, name))) == 2


def _oblong(X: np.ndarray) -> bool:
    return X.shape[0] != X.shape[1]


def named(name: str, args: Any, kwargs: Any) -> Named:
    """The arguments by name; ``defaults`` names those that were left out."""
    bound = inspect.signature(getattr(models, name)).bind(*args, **kwargs)
    before = set(bound.arguments)
    bound.apply_defaults()
    return dict(bound.arguments) | {"defaults": set(bound.arguments) - before}


def holding(arguments: list[Named]) -> list[tuple[str, list[bool]]]:
    """Each feature that makes sense for these arguments, and for which of them it holds."""
    found = []
    for words, test in FEATURES:
        try:
            found.append((words, [bool(test(each)) for each in arguments]))
        except (KeyError, StopIteration, AttributeError, IndexError, TypeError):
            continue  # these arguments have no such thing
    return found
