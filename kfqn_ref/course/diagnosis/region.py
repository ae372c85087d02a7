"""Where and how a function goes wrong, from its answers alone: simple facts that hold throughout.

``where`` is a property of the arguments that all wrong cases have and no right case has. ``what`` is
a relation between expected and got that holds in all wrong cases.
"""

from typing import Any

import numpy as np

from kfqn_ref.course.diagnosis.compare import Parts, Wrote, close_arrays, parts
from kfqn_ref.course.diagnosis.features import Named, holding

NAMES = {
    "dp_dlm_damp": ("s̃", "ỹ"), "lbfgs_push": ("S", "Y"), "input_pair": ("s", "y"),
    "output_pair": ("s", "y"), "average_pair": ("s", "y"),
    "assumption_errors": ("IAD", "SH", "SUD", "total"),
}  # fmt: skip  # several functions a line; a dict's keys in their order
STEP = ("M", "H_a", "H_g", "s_g", "y_g")


def where(arguments: list[Named], wrong: list[bool]) -> str:
    """In which cases it goes wrong; nothing where it always does, or no property says it."""
    if all(wrong):
        return ""
    for words, held in holding(arguments):
        if held == wrong:
            return f"only where {words}"
    # wrong only where it holds, though not always then: the narrowest such property
    inside = [(words, held) for words, held in holding(arguments) if _covers(held, wrong)]
    if not inside:
        return ""
    words, held = min(inside, key=lambda pair: sum(pair[1]))
    return f"only where {words} (in {sum(wrong)} of {sum(held)} such cases)"


def _covers(held: list[bool], wrong: list[bool]) -> bool:
    """Whether all wrong cases have the property, few right ones do, and three cases lack it."""
    lacking = len(held) - sum(held)
    everywhere = all(h for h, w in zip(held, wrong, strict=True) if w)
    return everywhere and lacking >= 3 and sum(wrong) >= 0.6 * sum(held)


def what(name: str, cases: list[tuple[Named, Any, Any]]) -> str:
    """How got and expected are related in the wrong cases: (arguments, expected, got)."""
    if any(isinstance(expected, Exception) for _, expected, _ in cases):
        return "it gives a result where it must refuse"
    errors = [got for _, _, got in cases if isinstance(got, Exception)]
    if errors:
        return _stops(errors, cases)
    pairs = [(parts(expected), parts(got)) for _, expected, got in cases]
    if any(got is None for _, got in pairs):
        return "the result has something that is no number"
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if any(len(a) != len(b) for a, b in both):
        a, b = next((a, b) for a, b in both if len(a) != len(b))
        return f"the result has {len(b)} parts, not {len(a)}"
    return _which_part(name, both, [arguments for arguments, _, _ in cases])


def _stops(errors: list[Any], cases: list[Any]) -> str:
    """The function raises where it must not, or does not raise where it must."""
    if any(isinstance(error, Wrote) for error in errors):
        return "it writes into its argument; make a new array instead"
    kinds = " or ".join(sorted({type(error).__name__ for error in errors}))
    text = " ".join(str(errors[0]).split())[:120]
    often = "" if len(errors) == len(cases) else f" in {len(errors)} of {len(cases)} of them"
    return f"it stops there with {kinds}{often} ({text})"


def _which_part(name: str, pairs: list[tuple[Parts, Parts]], arguments: list[Named]) -> str:
    """The parts that are wrong, and how."""
    count = min(len(a) for a, _ in pairs)
    if len({len(a) for a, _ in pairs}) > 1:
        return _relation([(a[-1], b[-1]) for a, b in pairs], arguments)
    bad = [k for k in range(count) if not all(close_arrays(b[k], a[k]) for a, b in pairs)]
    if count == 2 and all(close_arrays(b[0], a[1]) and close_arrays(b[1], a[0]) for a, b in pairs):
        return "both parts of the result are right, and swapped"
    names = _part_names(name, count)
    told = []
    for k in bad:
        wrong = [((a[k], b[k]), each) for (a, b), each in zip(pairs, arguments, strict=True)
                 if not close_arrays(b[k], a[k])]  # fmt: skip  # the cases in which this part is wrong
        relation = _relation([pair for pair, _ in wrong], [each for _, each in wrong])
        label = f"{names[k]}: " if count > 1 else ""
        told.append(label + (relation or "wrong numbers"))
    if count == 1 and told == ["wrong numbers"]:
        return ""
    right = f"; {', '.join(n for k, n in enumerate(names) if k not in bad)} right" if count > len(bad) else ""
    return "; ".join(dict.fromkeys(told)) + right


def _part_names(name: str, count: int) -> list[str]:
    if name == "kfqn_step":
        blocks = count // 6
        weights = [f"W of block {k + 1}" for k in range(blocks)]
        return weights + [f"{part} of block {k + 1}" for k in range(blocks) for part in STEP]
    names = NAMES.get(name, ())
    return list(names) if len(names) == count else [f"part {k + 1}" for k in range(count)]


def _relation(pairs: list[tuple[np.ndarray, np.ndarray]], arguments: list[Named]) -> str:
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
    return _factor(pairs, arguments) or _difference(pairs, arguments) or _entries(pairs)


RELATIONS = [
    ("it is all zero", lambda a: 0 * a),
    ("the sign is wrong", lambda a: -a),
    ("it is transposed", lambda a: a.T if a.ndim == 2 else a[None]),
    ("its order is reversed", lambda a: a[::-1]),
    ("rows are taken for columns: the entries come in another order",
     lambda a: a.T.reshape(a.shape) if a.ndim == 2 else a[None]),
    ("it is inverted", lambda a: np.linalg.inv(a) if a.ndim == 2 else a[None]),
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
        for told, power in ((words, 1.0), (f"1/{words}", -1.0), (f"{words}²", 2.0), (f"√{words}", 0.5)):
            with np.errstate(all="ignore"):
                wanted = np.asarray(values, dtype=float) ** power
            if np.allclose(ratios, wanted, rtol=1e-6):
                return f"it is off by the factor {told}"
    return "it is off by a factor, which differs from case to case"


def _scalars(arguments: list[Named]) -> list[tuple[str, list[float]]]:
    """Numbers that the arguments have, by name."""
    tests: list[tuple[str, Any]] = [
        ("n", lambda a: len(a["y"])), ("N", lambda a: _shape(a)[0]), ("|T|", lambda a: _shape(a)[1]),
        ("(N |T|)", lambda a: _shape(a)[0] * _shape(a)[1]), ("N", lambda a: len(a["a"])),
        ("λ", lambda a: a["lam"]), ("γ", lambda a: a["gamma"]), ("mu1", lambda a: a["mu1"]),
        ("sᵀy", lambda a: a["s"] @ a["y"]), ("yᵀH y", lambda a: a["y"] @ a["H"] @ a["y"]),
        ("sᵀs", lambda a: a["s"] @ a["s"]), ("yᵀy", lambda a: a["y"] @ a["y"]),
        ("(1 − decay)", lambda a: 1 - a["decay"]), ("decay", lambda a: a["decay"]),
        ("‖exact‖", lambda a: _exact_norm(a)),
    ]  # fmt: skip  # several a line
    found = []
    for words, measure in tests:
        try:
            found.append((words, [float(measure(each)) for each in arguments]))
        except (KeyError, TypeError, IndexError, AttributeError, StopIteration):
            continue
    return found


def _exact_norm(a: Named) -> float:
    each = np.einsum("nta,nub,ntguh->agbh", a["a_bar"], a["a_bar"], a["Hh"])
    return float(np.linalg.norm(each)) / len(a["a_bar"])


def _shape(a: Named) -> Any:
    if "first" in a:
        return a["first"].h.shape
    return a["a_bar"].shape if "a_bar" in a else a["Hh"].shape


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
    crossed = [(f"{w} {v}ᵀ" if w != v else f"{w} {w}ᵀ", [np.outer(a, b) for a, b in zip(x, z, strict=True)])
               for w, x in known for v, z in known]  # fmt: skip  # one for two vectors
    both = [(f"{w} {v}ᵀ + {v} {w}ᵀ", [np.outer(a, b) + np.outer(b, a) for a, b in zip(x, z, strict=True)])
            for i, (w, x) in enumerate(known) for v, z in known[i + 1 :]]  # fmt: skip  # one for two
    identity = [("I", [np.eye(len(x)) for x in known[0][1]])] if known else []
    given = [(name, [np.asarray(each[name], dtype=float) for each in arguments])
             for name in ("H", "B") if all(name in each for each in arguments)]  # fmt: skip  # both
    return [*crossed, *both, *identity, *given]


def _entries(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Which entries are wrong: the diagonal, a triangle, the last, one row."""
    wrong = [np.abs(b - a) > 1e-7 * max(np.abs(a).max(initial=0), 1e-12) for a, b in pairs]
    for words, mask in MASKS:
        try:
            large = [w for w in wrong if w.size > 1 and not mask(w).all()]
            if len(large) >= 3 and not any((w & ~mask(w)).any() for w in wrong):
                return f"only {words} wrong"
        except IndexError:
            continue
    return ""


def _at(shape: tuple[int, ...], index: Any) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[index] = True
    return mask


MASKS: list[tuple[str, Any]] = [
    ("the last entry is", lambda w: _at(w.shape, -1 if w.ndim == 1 else (-1, -1, -1))),
    ("the first entry is", lambda w: _at(w.shape, 0 if w.ndim == 1 else (0, 0, 0))),
    ("the diagonal is", lambda w: np.eye(*w.shape, dtype=bool)),
    ("the entries off the diagonal are", lambda w: ~np.eye(*w.shape, dtype=bool)),
    ("the entries below the diagonal are", lambda w: np.tri(*w.shape, -1, dtype=bool)),
    ("the entries above the diagonal are", lambda w: ~np.tri(*w.shape, dtype=bool)),
    ("the last row is", lambda w: _at(w.shape, -1)),
    ("the first row is", lambda w: _at(w.shape, 0)),
    ("the last column is", lambda w: _at(w.shape, (..., -1))),
    ("the first column is", lambda w: _at(w.shape, (..., 0))),
]


def symmetric_part(pairs: list[tuple[np.ndarray, np.ndarray]]) -> str:
    """Whether only the symmetric part is right."""
    square = all(a.ndim == 2 and a.shape == b.T.shape for a, b in pairs)
    if square and all(close_arrays((b + b.T) / 2, a) for a, b in pairs):
        return "it is right but for a part that is not symmetric"
    return ""
