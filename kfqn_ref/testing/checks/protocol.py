"""Checks that need no law: a result depends on the values of the arguments and on nothing else.

Not on how they are given (``calls``), not on how they lie in memory (``layout``), and not on what
was computed before, beside or after (``state``). The functions are called as a stranger calls them,
without the copies that the other checks make.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from kfqn_ref._typing import shape_checks
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.forms import FORMS, Form, arguments, three_cases
from kfqn_ref.testing.implementation import UNCHANGED, outward
from kfqn_ref.testing.law import Case, Violation, equal, law

CALLS = 1_100  # more than 600 other calls, and more than any period of 500 or 1000


def _call(f: Any, name: str, arrays: list[Any], options: dict[str, Any]) -> Any:
    """The result as the function gives it; arrays are handed over as they are."""
    return _call_with(f, name, _own(f, arrays), options)


def _call_with(f: Any, name: str, native: list[Any], options: dict[str, Any]) -> Any:
    """The result for arrays of the kind that the function takes."""
    with shape_checks("outer"):
        return f.functions[name](*_packed(name, native), **options)


def _own(f: Any, arrays: list[Any]) -> list[Any]:
    """The arrays as the function takes them."""
    return arrays if f.to_native is None else [_native(f, array) for array in arrays]


def _packed(name: str, native: list[Any]) -> list[Any]:
    """What the function takes by position."""
    pack = FORMS[name].pack
    return native if pack is None else pack(*native)


def _native(f: Any, array: Any) -> Any:
    return f.to_native(array) if isinstance(array, np.ndarray) else array


def _flat(result: Any) -> np.ndarray:
    """All numbers of a result, one after the other."""
    found = outward(result)
    if isinstance(found, tuple | list):
        parts = [np.ravel(np.asarray(part, dtype=float)) for part in found]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.array(found, dtype=float).ravel()


def _agree(what: str, got: Any, wanted: np.ndarray, tolerance: float) -> None:
    found = _flat(got)
    if not np.array_equal(found, wanted):
        equal(what, found, "the plain call", wanted, tolerance)


def _tolerance(f: Any, form: Form, case: Case) -> float:
    return 2 * form.error(f.u, case)


def _plain(f: Any, name: str, case: Case) -> np.ndarray:
    return _flat(_call(f, name, *arguments(FORMS[name], case)))


# ------------------------------------------------------------------------------------------ calls


def _other_kinds(value: Any) -> Iterator[tuple[str, Any]]:
    """The same number, or the same sizes, in other types."""
    if isinstance(value, tuple):
        yield "NumPy integers", tuple(map(np.int64, value))
        yield "a list", list(value)
        if value[0] == value[-1]:
            yield "one int", value[0]
        return
    if float(value) == int(value):
        yield "an int", int(value)
    yield "a NumPy scalar", np.asarray(value)[()]
    yield "an array without axes", np.asarray(value)
    if isinstance(value, float) and float(np.float32(value)) == value:
        yield "a float32 scalar", np.float32(value)


def _as_int(value: Any) -> Any:
    """Sizes that are equal, as one int; anything else as it is."""
    sizes = isinstance(value, tuple) and all(isinstance(size, int) for size in value)
    return value[0] if sizes and len(value) == 2 and value[0] == value[1] else value


def _other_calls(
    f: Any, name: str, case: Case
) -> Iterator[tuple[str, Callable[[], Any], dict[str, Any]]]:
    """The other forms of a call: what is different, the call, and options that it means."""
    form, function = FORMS[name], f.functions[name]
    arrays, options = arguments(form, case)
    native = _packed(name, _own(f, arrays))
    named = dict(zip(form.parameters, native, strict=True))
    yield (
        "sizes as one int each",
        partial(function, *map(_as_int, native), **{k: _as_int(v) for k, v in options.items()}),
        {},
    )
    yield "arrays by keyword", partial(function, **named, **options), {}
    yield (
        "last array by keyword",
        partial(function, *native[:-1], **{[*named][-1]: native[-1]}, **options),
        {},
    )
    if len(options) == 1:
        yield "option by position", partial(function, *native, *options.values()), {}
    for option, value in options.items():
        rest = {key: other for key, other in options.items() if key != option}
        for kind, same in _other_kinds(value):
            yield f"{option} as {kind}", partial(function, *native, **rest, **{option: same}), {}
        if option in form.defaults:
            means = {option: form.defaults[option]}
            yield f"without {option}", partial(function, *native, **rest), means


def calls(f: Any, name: str, case: Case) -> None:
    """State that no form of a call that the function accepts changes its result.

    A Python float times a float32 scalar is a float32 scalar, so a function that computes with
    Python floats may be as inexact as that where an option is a float32 scalar.
    """
    tolerance = _tolerance(f, FORMS[name], case)
    coarse = 2 * FORMS[name].error(max(f.u, tol.FLOAT32.u), case)
    for what, call, means in _other_calls(f, name, case):
        try:
            with shape_checks("outer"):
                result = call()
        except Exception:  # a form that is refused is no wrong result
            continue
        meant = dict(case) | means
        allowed = coarse if what.endswith("float32 scalar") else tolerance * (1 + len(means))
        _agree(f"{name}, {what}", result, _plain(f, name, meant), allowed)


# ----------------------------------------------------------------------------------------- layout


def _layouts(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same numbers, laid out in other ways."""
    yield "in Fortran order", np.asfortranarray(array)
    yield "every other entry", np.repeat(array, 2, axis=-1)[..., ::2]
    yield "with negative strides", np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    flipped = np.ascontiguousarray(array[::-1, ...])[::-1, ...]
    yield "with a negative first stride", flipped
    wide = np.zeros((*array.shape[:-1], array.shape[-1] + 3), dtype=array.dtype)
    wide[..., 2:-1] = array
    yield "a view into a larger array", wide[..., 2:-1]
    still = array.copy()
    still.setflags(write=False)
    yield "read-only", still


def missing_layouts(f: Any) -> tuple[str, ...]:
    """The layouts that the arrays of an implementation's namespace cannot have."""
    matrix = f.cast(np.arange(6.0).reshape(2, 3))
    return tuple(what for what, laid in _layouts(matrix) if f.shared(laid) is None)


def layout(f: Any, name: str, case: Case) -> None:
    """State that the layout of each array in memory does not change the result.

    A layout that the arrays of the implementation cannot have is left out.
    """
    form = FORMS[name]
    arrays, options = _cast(f, form, case)
    tolerance, wanted = _tolerance(f, form, case), _plain(f, name, case)

    def agree(what: str, laid: list[Any]) -> None:
        shared = _shared(f, laid)
        if shared is not None:
            _agree(what, _call_with(f, name, shared, options), wanted, tolerance)

    for k, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or not array.size:
            continue
        for what, same in _layouts(array):
            agree(f"argument {k + 1} {what}", [*arrays[:k], same, *arrays[k + 1 :]])
    everywhere = list(arrays)
    for k, array in enumerate(arrays):
        if isinstance(array, np.ndarray):
            everywhere[k] = np.asfortranarray(array)
    agree("all in Fortran order", everywhere)


def _cast(f: Any, form: Form, case: Case) -> tuple[list[Any], dict[str, Any]]:
    """What a call takes, in the precision that the functions are given."""
    arrays, options = arguments(form, case)
    cast = [f.cast(array) if isinstance(array, np.ndarray) else array for array in arrays]
    return cast, options


def _shared(f: Any, arrays: list[Any]) -> list[Any] | None:
    """What the function takes, in the memory of these arrays; None where one cannot be had."""
    found = [f.shared(array) if isinstance(array, np.ndarray) else array for array in arrays]
    return None if any(array is None for array in found) else found


# ------------------------------------------------------------------------------------------ state


def state(f: Any, name: str, first: Case, second: Case, other: Case) -> None:
    """State that a result does not depend on other calls, and stays as it was."""
    form = FORMS[name]
    kept = _call(f, name, *arguments(form, first))
    wanted, second_wanted = _flat(kept), _plain(f, name, second)
    other_wanted = _plain(f, name, other)
    _agree("a result kept while others were computed", kept, wanted, 0.0)
    tolerance = max(_tolerance(f, form, case) for case in (first, second, other))
    turns = [(first, wanted), (second, second_wanted), (first, wanted), (other, other_wanted)]
    for k in range(CALLS // len(turns)):
        for case, expected in turns:
            result = _call(f, name, *arguments(form, case))
            _agree(f"the call after {len(turns) * k} others", result, expected, tolerance)
    _agree("a result kept during many calls", kept, wanted, 0.0)
    _same_objects(f, name, (first, second), (wanted, second_wanted), tolerance)
    _threads(f, name, turns[:2], tolerance)
    _never_written(f, name, first)


def _same_objects(
    f: Any, name: str, cases: tuple[Case, Case], wanted: tuple[Any, Any], tolerance: float
) -> None:
    """A caller may change his own arrays between two calls."""
    arrays, options = _cast(f, FORMS[name], cases[0])
    native = _shared(f, arrays)
    if native is None:
        return
    _agree("before a change", _call_with(f, name, native, options), wanted[0], tolerance)
    values, second_options = arguments(FORMS[name], cases[1])
    for array, value in zip(arrays, values, strict=True):
        if isinstance(array, np.ndarray):
            array[...] = value
    result = _call_with(f, name, native, second_options)
    _agree("the same arrays with other numbers", result, wanted[1], tolerance)


def _threads(f: Any, name: str, turns: list[tuple[Case, Any]], tolerance: float) -> None:
    """Two threads, each with its own case."""
    found: list[tuple[Any, Any]] = []
    start = threading.Barrier(len(turns))

    def work(case: Case, wanted: Any) -> None:
        start.wait()
        for _ in range(200):
            found.append((_flat(_call(f, name, *arguments(FORMS[name], case))), wanted))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=work, args=turn) for turn in turns]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    for result, wanted in found:
        _agree("a call beside another thread's", result, wanted, tolerance)


def _never_written(f: Any, name: str, case: Case) -> None:
    """Watch the arguments at every line that the function runs: changed and put back is changed."""
    arrays, options = _cast(f, FORMS[name], case)
    native = _shared(f, arrays)
    if native is None:
        return
    watched = [array for array in arrays if isinstance(array, np.ndarray)]
    before = [array.tobytes() for array in watched]
    changed: list[int] = []

    def look(frame: Any, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes = True  # a line may change an array and put it back
        changed.extend(
            k for k, (a, b) in enumerate(zip(watched, before, strict=True)) if a.tobytes() != b
        )
        return look

    old = sys.gettrace()
    sys.settrace(look)
    try:
        _call_with(f, name, native, options)
    finally:
        sys.settrace(old)
    if changed:
        raise Violation(
            f"argument {changed[0] + 1} of {name}", "other numbers during the call", "as it was",
            "", size=np.inf, tolerance=0.0, law=UNCHANGED,
        )  # fmt: skip


# --------------------------------------------------------------------------------------- registry


def _register(chapter: str, name: str, words: str, formula: str, statement: Any) -> None:
    statement.__name__ = name
    given = lambda precision: three_cases(name, precision)  # noqa: E731  # one a function
    law(words, formula, chapter=chapter, requires=name, given=given, group="protocol", cost=50)(
        statement
    )


def _each(check: Callable[[Any, str, Case], None], name: str) -> Callable[..., None]:
    def statement(f: Any, **cases: Case) -> None:
        for case in cases.values():
            check(f, name, case)

    return statement


def _state_of(name: str) -> Callable[..., None]:
    def statement(f: Any, **cases: Case) -> None:
        state(f, name, **cases)

    return statement


for _name in FORMS:
    _register(
        "calls", _name,
        "The result does not depend on how the arguments are given: by keyword or position, as "
        "float, int or NumPy number, with a default given or left out.",
        "f(x) = f(name=x), for every form that f accepts", _each(calls, _name),
    )  # fmt: skip
    _register(
        "layout", _name,
        "The result does not depend on how the arguments lie in memory.",
        "f(x) = f(x in Fortran order, strided, reversed, read-only)", _each(layout, _name),
    )  # fmt: skip
    _register(
        "state", _name,
        "The result depends on the arguments alone, and stays as it was: no other call, thread or "
        "buffer changes it.",
        "f(x) = f(x) after any other calls", _state_of(_name),
    )  # fmt: skip
