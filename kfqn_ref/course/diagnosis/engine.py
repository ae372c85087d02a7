"""Name the mistake of a function: the edit of the right formula that gives the same numbers.

A reason is given only if the edited formula agrees with the function on every argument tried, the
later of which have no structure, and differs from the right one. Where no edit of the formula, and
no two together, agree, the region in which the function goes wrong is described instead.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from kfqn_ref.course import tasks
from kfqn_ref.course.diagnosis import models
from kfqn_ref.course.diagnosis.compare import Wrote, answer, close, parts, shaped
from kfqn_ref.course.diagnosis.edits import Edit, Variants, variants
from kfqn_ref.course.diagnosis.features import named
from kfqn_ref.course.diagnosis.impostors import impostors
from kfqn_ref.course.diagnosis.inputs import DRAWN, calls, refused
from kfqn_ref.course.diagnosis.region import what, where
from kfqn_ref.course.diagnosis.special import SPECIAL
from kfqn_ref.course.diagnosis.words import math
from kfqn_ref.testing.mutants import MUTANTS

PLACES = 400_000  # of formulas that one search computes: a few seconds
REFUSED = ("sᵀy < 0", "sᵀy = 0", "NaN")  # in the order of inputs.refused
MISSED = "it gives a result where it must refuse, as for sᵀy = 0"
# What of an answer is the same for all right functions.
VIEWS: dict[str, Callable[[Any], Any]] = {
    "inverse_from_products": lambda history: list(history)[-1]
}


@dataclass(frozen=True)
class Finding:
    """What is wrong with a function.

    Args:
        reason: the mistake in words, or nothing.   region: where and how, or nothing.
        example: arguments, expected and got of the smallest case that goes wrong.
    """

    reason: str
    region: str
    example: tuple[dict[str, Any], Any, Any] | None = None


@dataclass
class Trial:
    """A function on all arguments, beside the right answers."""

    name: str
    calls: list[Any]
    expected: list[Any]
    got: list[Any]

    def only(self, keep: list[bool]) -> "Trial":
        """Some of the cases."""
        chosen = [k for k, kept in enumerate(keep) if kept]
        lists = (self.calls, self.expected, self.got)
        return Trial(self.name, *([values[k] for k in chosen] for values in lists))

    def wrong(self) -> list[int]:
        """Numbers of the cases in which the function goes wrong."""
        pairs = zip(self.got, self.expected, strict=True)
        return [k for k, (got, expected) in enumerate(pairs) if not close(got, expected)]

    def agrees(self, compute: Callable[[Any, Any], Any], order: list[int]) -> bool:
        """Whether something gives the same as the function, in the cases of this order."""
        return all(self._same(compute, k) for k in order)

    def _same(self, compute: Callable[[Any, Any], Any], k: int) -> bool:
        return close(self.view(compute(*self.calls[k])), self.got[k])

    def view(self, value: Any) -> Any:
        """What of an answer is compared."""
        look = VIEWS.get(self.name)
        if look is None or isinstance(value, Exception):
            return value
        try:
            return look(value)
        except (TypeError, IndexError, KeyError) as error:
            return error


@dataclass
class Search:
    """A search among the edits of a function: it ends by what it computed, not by a clock.

    So a slow or busy machine gives the same words.
    """

    trial: Trial
    order: list[int]
    left: int = PLACES

    def ended(self) -> bool:
        """Whether it has computed as much as it may."""
        return self.left <= 0

    def agrees(self, form: Variants, edits: tuple[Edit, ...]) -> bool:
        """Whether a variant gives the same as the function."""
        return self.trial.agrees(partial(self._run, form, edits), self.order)

    def changes(self, form: Variants, edit: Edit) -> bool:
        """Whether an edit gives another answer in one of the first three cases."""
        for k in self.order[:3]:
            result = self.trial.view(self._run(form, (edit,), *self.trial.calls[k]))
            if not isinstance(result, Exception) and not close(result, self.trial.expected[k]):
                return True
        return False

    def _run(self, form: Variants, edits: tuple[Edit, ...], args: Any, kwargs: Any) -> Any:
        self.left -= len(form.originals)
        return form.run(edits, args, kwargs)


def diagnose(name: str, namespace: Mapping[str, Any]) -> Finding:
    """What is wrong with a function of an assignment.

    Args:
        name: of the function.   namespace: the student's functions by name.

    Returns:
        A finding; an empty one where nothing is wrong in the cases tried, or where nothing is
        known of such a function.
    """
    if name in SPECIAL:
        return Finding("", _special(name, namespace[name]))
    if name not in DRAWN:
        return Finding("", "")
    trial = _trial(name, namespace[name])
    wrong = trial.wrong()
    if not wrong:
        return Finding("", "")
    first = wrong[0]
    example = named(name, *trial.calls[first]), trial.expected[first], trial.got[first]
    if any(isinstance(trial.got[k], Wrote) for k in wrong):
        return Finding("it writes into its argument; make a new array instead", "", example)
    refused = [isinstance(expected, Exception) for expected in trial.expected]
    valid = trial.only([not each for each in refused])
    also = ""
    if bad := valid.wrong():  # what it refuses is another question
        also = f"; besides, {MISSED}" if any(refused[k] for k in wrong) else ""
        trial = valid
        wrong = bad
    reason = _reason(trial, wrong, namespace)
    region = "" if reason else _region(trial, wrong)
    return Finding(reason and reason + also, region and region + also, example)


def missed_refusal(name: str, function: Callable[..., Any]) -> str:
    """Which of the pairs that must be refused a function accepts, in words; or nothing."""
    if name != "bfgs_inverse_update":
        return ""
    accepted = [
        words
        for words, (args, kwargs) in zip(REFUSED, refused(), strict=False)
        if not isinstance(answer(function, args, kwargs), Exception)
    ]
    if len(accepted) == len(REFUSED):
        return "no test of the arguments: every pair is accepted"
    if accepted == ["NaN"]:
        return "a test of sᵀy, but one that NaN passes: `not sᵀy > 0` refuses it"
    return f"a test of sᵀy that accepts {', '.join(accepted)}" if accepted else ""


def _special(name: str, function: Callable[..., Any]) -> str:
    try:
        return SPECIAL[name](function)
    except (TypeError, ValueError, np.linalg.LinAlgError):
        return ""  # the law's own words say what form is wanted


def _trial(name: str, function: Callable[..., Any]) -> Trial:
    right = getattr(models, name)
    trial = Trial(name, [], [], [])
    for args, kwargs in calls(name):
        expected = trial.view(answer(right, args, kwargs))
        if isinstance(expected, Exception) or _is_finite(expected):
            trial.calls.append((args, kwargs))
            trial.expected.append(expected)
            got = trial.view(answer(function, args, kwargs))
            trial.got.append(shaped(got, expected))
    return trial


def _is_finite(value: Any) -> bool:
    found = parts(value)
    return found is not None and all(np.isfinite(part).all() for part in found)


def _order(trial: Trial, wrong: list[int]) -> list[int]:
    """The most telling cases first: wrong ones without structure, the largest of them."""
    answered = [k for k in wrong if not isinstance(trial.got[k], Exception)]
    return list(dict.fromkeys([*reversed(answered), *wrong, *range(len(trial.calls))]))


def _tells(trial: Trial, wrong: list[int]) -> bool:
    """Whether the answers say enough: an error that any broken code raises says nothing."""
    answered = [k for k in wrong if not isinstance(trial.got[k], Exception)]
    refusals = [k for k in wrong if isinstance(trial.got[k], np.linalg.LinAlgError)]
    missed = [k for k in wrong if isinstance(trial.expected[k], Exception)]
    return len(answered) >= 3 or len(refusals) >= 3 or bool(missed)


def _reason(trial: Trial, wrong: list[int], namespace: Mapping[str, Any]) -> str:
    order = _order(trial, wrong)
    if not _tells(trial, wrong):
        return ""
    for told, compute in _whole_formulas(trial.name, namespace):
        if trial.agrees(compute, order):
            return told
    key = trial.name, repr([parts(got) for got in trial.got])
    if key not in _FOUND:  # the same answers come with every law that a function breaks
        forms = variants(trial.name)
        search = Search(trial, order)
        _FOUND[key] = _best_single(search, forms) or _best_pair(search, forms)
    return _FOUND[key]


_FOUND: dict[tuple[str, str], str] = {}


def _whole_formulas(name: str, namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The right formula with the student's other functions, and formulas that are confused."""
    own = {
        other: namespace[other]
        for other in models.__dict__
        if other in namespace and other != name and callable(namespace[other])
    }
    right = getattr(models, name)
    used = [other for other in own if other in right.__code__.co_names]
    for other in used:
        told = f"nothing but what follows from {other}: repair that first"
        yield told, _with_own(right, {other: own[other]})
    known = [(m.mistake, m.function) for m in MUTANTS.values() if m.replaces == name]
    known += [(m.mistake, m.function) for m in tasks.MISTAKES if m.replaces == name]
    for told, formula in [*known, *impostors().get(name, [])]:
        yield told, lambda args, kwargs, formula=formula: answer(formula, args, kwargs)


def _with_own(right: Any, own: dict[str, Any]) -> Callable[[Any, Any], Any]:
    """The right formula, which calls the student's functions."""
    rebound = type(right)(
        right.__code__, right.__globals__ | own, right.__name__, right.__defaults__
    )
    rebound.__kwdefaults__ = right.__kwdefaults__
    return lambda args, kwargs: answer(rebound, args, kwargs)


def _best_single(search: Search, forms: tuple[Variants, ...]) -> str:
    """The likeliest edit that agrees, in one place or wherever the quantity stands."""
    found: list[tuple[int, int, str]] = []
    for form in forms:
        single = [(edit,) for edit in form.edits]
        for group in sorted([*single, *form.groups()], key=_rank):
            if search.ended():
                break
            if search.agrees(form, group):
                words = form.all_words(group)
                found.append((_rank(group), len(words), words))
    return min(found)[2] if found else ""


def _best_pair(search: Search, forms: tuple[Variants, ...]) -> str:
    """The likeliest pair of edits that agrees; those that change nothing alone are left out."""
    found: list[tuple[int, int, str]] = []
    for form in forms:
        useful = [edit for edit in form.edits if not search.ended() and search.changes(form, edit)]
        # the same mistake at two places comes first: pairs are many
        pairs = sorted(combinations(useful, 2), key=_likely)
        for first, second in pairs:
            rank = first.rank + second.rank
            if search.ended() or (found and rank > found[0][0]):
                break
            if first.place != second.place and search.agrees(form, (first, second)):
                words = form.both(first, second)
                found.append((rank, len(words), words))
    return min(found)[2] if found else ""


def _rank(group: tuple[Edit, ...]) -> int:
    """An edit in one place is likelier than the same in several."""
    return 2 * group[0].rank + (len(group) > 1)


def _likely(pair: tuple[Edit, Edit]) -> tuple[bool, int]:
    first, second = pair
    twins = first.label == second.label and math(first.shown) == math(second.shown)
    return not twins, first.rank + second.rank


def _region(trial: Trial, wrong: list[int]) -> str:
    arguments = [named(trial.name, *call) for call in trial.calls]
    place = where(arguments, [k in wrong for k in range(len(trial.calls))])
    cases = [(arguments[k], trial.expected[k], trial.got[k]) for k in wrong]
    manner = what(trial.name, cases)
    often = "in every case tried" if len(wrong) == len(trial.calls) else (
        f"in {len(wrong)} of {len(trial.calls)} cases tried")  # fmt: skip  # all, or how many
    head = f"it goes wrong {place or often}"
    return f"{head}: {manner}" if manner else head
