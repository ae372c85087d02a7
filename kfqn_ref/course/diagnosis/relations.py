"""Simple relations between the expected and the given arrays of all wrong cases."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis import models
from kfqn_ref.course.diagnosis.compare import close_arrays
from kfqn_ref.course.diagnosis.features import Named


def relation(pairs: list[tuple[np.ndarray, np.ndarray]], arguments: list[Named]) -> str:
    """A relation of (expected, got) that holds for all; nothing where none is known."""
    if any(a.shape != b.shape for a, b in pairs):
        a, b = next((a, b) for a, b in pairs if a.shape != b.shape)
        return f"the result has shape {b.shape}, not {a.shape}"
    if any(not np.isfinite(b).all() for _, b in pairs):
        return "the result is not finite: a division by zero, or the root of a negative number"
    for words, change in RELATIONS:
        try:
            if all(close_arrays(b, change(a)) for a, b in pairs):
                return words
        except (ValueError, IndexError):
            continue
    return (
        _small(pairs, 1e-3)
        or _factor(pairs, arguments)
        or _difference(pairs, arguments)
        or _entries(pairs)
        or _symmetric_part(pairs)
        or _small(pairs, 0.02)
    )


def _small(pairs: list[tuple[np.ndarray, np.ndarray]], most: float) -> str:
    """Nearly right everywhere: digits are lost."""
    errors = [np.abs(b - a).max() / max(np.abs(a).max(), 1e-12) for a, b in pairs]
    if max(errors) < most:
        return f"it is nearly right, and off by {max(errors):.1g} of its size: digits are lost"
    return ""


def _of_matrix(change: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    """A change of matrices; of anything else it makes another shape, which agrees with nothing."""

    def changed(a: np.ndarray) -> np.ndarray:
        return change(a) if a.ndim == 2 else a[None]

    return changed


RELATIONS = [
    ("it is all zero", lambda a: 0 * a),
    ("the sign is wrong", lambda a: -a),
    ("it is transposed", _of_matrix(lambda a: a.T)),
    ("its order is reversed", lambda a: a[::-1]),
    ("rows are taken for columns: the entries come in another order",
     _of_matrix(lambda a: a.T.reshape(a.shape))),
    ("it is inverted", _of_matrix(np.linalg.inv)),
    ("it is its square", lambda a: a**2), ("it is its root", lambda a: np.sqrt(np.abs(a))),
]  # fmt: skip  # a relation a line


def _factor(pairs: list[tuple[np.ndarray, np.ndarray]], arguments: list[Named]) -> str:
    """Off by a factor: one number, or a size or option of the arguments."""
    ratios = []
    for a, b in pairs:
        norm = np.vdot(a, a)
        ratio = float(np.vdot(a, b) / norm) if norm else np.nan
        if not close_arrays(b, ratio * a):
            return ""
        ratios.append(ratio)
    if np.allclose(ratios, ratios[0], rtol=1e-6):
        return f"it is off by the constant factor {ratios[0]:.6g}"
    for words, values in _scalars(arguments):
        for pattern, power in POWERS:
            told = pattern.format(words)
            with np.errstate(all="ignore"):
                wanted = np.asarray(values, dtype=float) ** power
            if np.allclose(ratios, wanted, rtol=1e-6):
                return f"it is off by the factor {told}"
    return "it is off by a factor, which differs from case to case"


def _scalars(arguments: list[Named]) -> list[tuple[str, list[float]]]:
    """Numbers that the arguments have, by name."""
    found = []
    for words, measure in SCALARS:
        try:
            found.append((words, [float(measure(each)) for each in arguments]))
        except (KeyError, TypeError, IndexError, AttributeError, StopIteration):
            continue
    return found


def _convolved(a: Named) -> int:
    """Locations of a convolution."""
    conv = a["conv"]
    options = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    return models.im2col(a["a"], conv.kernel_size, **options).shape[1]


def _exact_norm(a: Named) -> float:
    each = np.einsum("nta,nub,ntguh->agbh", a["a_bar"], a["a_bar"], a["Hh"])
    return float(np.linalg.norm(each)) / len(a["a_bar"])


def _shape(a: Named) -> Any:
    if "first" in a:
        return a["first"].h.shape
    return a["a_bar"].shape if "a_bar" in a else a["Hh"].shape


POWERS = [("{}", 1.0), ("1/{}", -1.0), ("{}²", 2.0), ("√{}", 0.5)]

# Numbers that arguments have, by name: an answer may be off by one of them.
SCALARS: list[tuple[str, Any]] = [
    ("n", lambda a: len(a["y"])),
    ("N", lambda a: _shape(a)[0]),
    ("|T|", lambda a: _shape(a)[1]),
    ("(N |T|)", lambda a: _shape(a)[0] * _shape(a)[1]),
    ("N", lambda a: len(a["a"])),
    ("|T|", _convolved),
    ("λ", lambda a: a["lam"]),
    ("γ", lambda a: a["gamma"]),
    ("mu1", lambda a: a["mu1"]),
    ("sᵀy", lambda a: a["s"] @ a["y"]),
    ("yᵀH y", lambda a: a["y"] @ a["H"] @ a["y"]),
    ("sᵀs", lambda a: a["s"] @ a["s"]),
    ("yᵀy", lambda a: a["y"] @ a["y"]),
    ("(1 − decay)", lambda a: 1 - a["decay"]),
    ("decay", lambda a: a["decay"]),
    ("‖exact‖", _exact_norm),
]


def _difference(pairs: list[tuple[np.ndarray, np.ndarray]], arguments: list[Named]) -> str:
    """What is too much or missing is a multiple of something known."""
    for words, values in _directions(arguments, pairs[0][0].ndim):
        hit = True
        for (a, b), value in zip(pairs, values, strict=True):
            if value.shape != a.shape or not np.vdot(value, value):
                hit = False
                break
            ratio = np.vdot(value, b - a) / np.vdot(value, value)
            scale = np.abs(a).max(initial=0) + np.abs(b).max(initial=0)
            hit = hit and bool(np.all(np.abs(b - a - ratio * value) <= 1e-8 * scale))
        if hit:
            return f"what is too much or too little is a multiple of {words}"
    return ""


def _directions(arguments: list[Named], ndim: int) -> list[tuple[str, list[np.ndarray]]]:
    """Vectors or matrices made of the arguments."""
    vectors: list[tuple[str, Any]] = [
        ("s", lambda a: a["s"]), ("y", lambda a: a["y"]), ("H y", lambda a: a["H"] @ a["y"]),
        ("B s", lambda a: a["B"] @ a["s"]), ("q", lambda a: a["q"]), ("v", lambda a: a["v"]),
        ("ā̄", lambda a: a["a_mean"]), ("H_a ā̄", lambda a: a["H_a"] @ a["a_mean"]),
        ("the newest s", lambda a: a["S"][-1]), ("the oldest s", lambda a: a["S"][0]),
        ("the old pair's", lambda a: a["old"].s), ("the old y", lambda a: a["old"].y),
        ("the new y", lambda a: a["new"].y),
    ]  # fmt: skip  # several a line
    known = []
    for words, measure in vectors:
        try:
            known.append((words, [np.asarray(measure(each), dtype=float) for each in arguments]))
        except (KeyError, IndexError, TypeError, AttributeError):
            continue
    if ndim == 1:
        return known
    if ndim != 2:
        return []
    crossed = [
        (f"{w} {v}ᵀ", [np.outer(a, b) for a, b in zip(x, z, strict=True)])
        for w, x in known
        for v, z in known
    ]
    both = [
        (f"{w} {v}ᵀ + {v} {w}ᵀ", [_twice(a, b) for a, b in zip(x, z, strict=True)])
        for i, (w, x) in enumerate(known)
        for v, z in known[i + 1 :]
    ]
    identity = [("I", [np.eye(len(x)) for x in known[0][1]])] if known else []
    given = [(name, [np.asarray(each[name], dtype=float) for each in arguments])
             for name in ("H", "B") if all(name in each for each in arguments)]  # fmt: skip  # both
    return [*crossed, *both, *identity, *given]


def _twice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.outer(a, b) + np.outer(b, a)


def _entries(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Which entries are wrong: the diagonal, a triangle, the last, one row."""
    wrong = [np.abs(b - a) > 1e-7 * max(np.abs(a).max(initial=0), 1e-12) for a, b in pairs]
    for words, mask in MASKS:
        try:
            masks = [mask(w) for w in wrong]
        except (IndexError, TypeError):
            continue  # arrays of this kind have no such entries
        some = [w for w, m in zip(wrong, masks, strict=True) if m.shape == w.shape and not m.all()]
        if len(some) >= 3 and all(
            m.shape == w.shape and not (w & ~m).any() for w, m in zip(wrong, masks, strict=True)
        ):
            return f"only {words} wrong"
    return ""


def _at(shape: tuple[int, ...], index: Any) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[index] = True
    return mask


def _corner(shape: tuple[int, ...], end: int) -> np.ndarray:
    """The first entry (0) or the last one (-1) alone: of a vector, or of a tensor of three axes."""
    axes = 1 if len(shape) == 1 else 3
    return _at(shape, (end,) * axes)


MASKS: list[tuple[str, Any]] = [
    ("the last entry is", lambda w: _corner(w.shape, -1)),
    ("the first entry is", lambda w: _corner(w.shape, 0)),
    ("the diagonal is", lambda w: np.identity(len(w)) == 1),
    ("the entries off the diagonal are", lambda w: np.identity(len(w)) == 0),
    ("the entries below the diagonal are", lambda w: np.tril(np.ones_like(w), -1) > 0),
    ("the entries above the diagonal are", lambda w: np.triu(np.ones_like(w), 1) > 0),
    ("the last row is", lambda w: _corner(w.shape, -1)),
    ("the first row is", lambda w: _corner(w.shape, 0)),
    ("the last column is", lambda w: _at(w.shape, (..., -1))),
    ("the first column is", lambda w: _at(w.shape, (..., 0))),
]


def _symmetric_part(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Whether only the symmetric part is right."""
    square = all(a.ndim == 2 and a.shape == b.T.shape for a, b in pairs)
    if square and all(close_arrays((b + b.T) / 2, a) for a, b in pairs):
        return "it is right but for a part that is not symmetric"
    return ""
