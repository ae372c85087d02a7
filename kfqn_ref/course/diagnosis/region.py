"""Where and how a function goes wrong, from its answers alone: simple facts that hold throughout.

``where`` is a property of the arguments that all wrong cases have and no right case has. ``what``
is a relation between expected and got that holds in all wrong cases.
"""

from typing import Any

from kfqn_ref.course.diagnosis.compare import Parts, Wrote, close_arrays, parts
from kfqn_ref.course.diagnosis.features import Named, holding
from kfqn_ref.course.diagnosis.relations import relation

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
        return relation([(a[-1], b[-1]) for a, b in pairs], arguments)
    bad = [k for k in range(count) if not all(close_arrays(b[k], a[k]) for a, b in pairs)]
    if count == 2 and all(close_arrays(b[0], a[1]) and close_arrays(b[1], a[0]) for a, b in pairs):
        return "both parts of the result are right, and swapped"
    names = _part_names(name, count)
    if name == "kfqn_step":
        return _of_step([names[k].split()[0] for k in bad])
    told = []
    for k in bad:
        both = [(a[k], b[k], each) for (a, b), each in zip(pairs, arguments, strict=True)]
        wrong = [(a, b, each) for a, b, each in both if not close_arrays(b, a)]
        how = relation([(a, b) for a, b, _ in wrong], [each for _, _, each in wrong])
        label = f"{names[k]}: " if count > 1 else ""
        told.append(label + (how or "wrong numbers"))
    if count == 1 and told == ["wrong numbers"]:
        return ""
    fine = [part for k, part in enumerate(names) if k not in bad]
    right = f"; {', '.join(fine)} right" if fine else ""
    return "; ".join(dict.fromkeys(told)) + right


def _of_step(wrong: list[str]) -> str:
    """The quantity of a step that goes wrong first, and those that follow from it."""
    bad = [part for part in ("M", "W", "H_a", "s_g", "y_g", "H_g") if part in wrong]
    later = f"; after it also {', '.join(bad[1:])}" if len(bad) > 1 else ", and nothing else"
    return f"{bad[0]} is wrong{later}"


def _part_names(name: str, count: int) -> list[str]:
    if name == "kfqn_step":
        blocks = count // 6
        weights = [f"W of block {k + 1}" for k in range(blocks)]
        return weights + [f"{part} of block {k + 1}" for k in range(blocks) for part in STEP]
    names = NAMES.get(name, ())
    return list(names) if len(names) == count else [f"part {k + 1}" for k in range(count)]
