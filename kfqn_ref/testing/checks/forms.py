"""The forms in which each function may be called: its arrays, its options, their defaults.

The checks of :mod:`kfqn_ref.testing.checks.protocol` need no law: they compare a call with the same
call in another form. What they may differ by is twice the error that rounding allows to one call.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from kfqn_ref import Pair
from kfqn_ref.layers import Record
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.damping import powell_theta
from kfqn_ref.testing.checks.factors import averages, convolutions
from kfqn_ref.testing.checks.kronecker import columns, inputs_without_bias
from kfqn_ref.testing.law import Case
from kfqn_ref.testing.strategies.axes import forced
from kfqn_ref.testing.strategies.kernels import (
    damping_cases,
    dampings,
    extended,
    frozen,
    identity_cases,
    lbfgs_cases,
    lm_cases,
    pairs,
    spd,
    triples,
)
from kfqn_ref.testing.strategies.layers import (
    images,
    inputs,
    matrices,
    second_derivatives,
    two_records,
)
from kfqn_ref.testing.tolerances import Precision

# Cases on which rounding is small: a difference between two forms of a call is then seen.
BENIGN = {"spread": "1e1", "units": "1", "scale": "1", "ratio": "1", "angle": "close", "mu": "0.5"}
BENIGN |= {"damping": "0.5", "gamma": "2", "pairs": 2, "aside": "any", "vector": "1"}
BENIGN |= {"decay": "0.9", "bias": "yes"}

Given = Callable[[Precision], SearchStrategy[Case]]


class Form(NamedTuple):
    """How a function is called: strategy of its cases, the names of what it takes by position
    (with the name that its parameter has), its options, their defaults, and the error of one call.

    A function that takes pairs or records instead of arrays has ``pack``, which makes them of the
    arrays, and ``packed``, the names of its parameters.
    """

    given: Given
    arrays: dict[str, str]
    options: tuple[str, ...]
    defaults: dict[str, Any]
    error: Callable[..., float]
    pack: Callable[..., list[Any]] | None = None
    packed: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that are given by position."""
        return self.packed or tuple(self.arrays.values())


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _double_error(u: float, case: Case) -> float:
    H, s, y = case["H"], case["s"], case["y"]
    theta = powell_theta(H, s, y, case["mu1"])
    s_tilde = theta * s + (1 - theta) * (H @ y)
    first = tol.powell(u, H, s, y)
    return 4 * first * (1 + tol.norm(y) / tol.norm(s_tilde)) + tol.identity(u, s_tilde, y)


def _dlm_error(u: float, case: Case) -> float:
    lam, sizes = case["lam"], tol.norm(case["y"]) + tol.norm(case["s"])
    damped = (1 + lam) * tol.powell(u, case["H"], case["s"], case["y"])
    return damped + tol.rounding(u, 1, (1 + lam) * sizes)


def _lbfgs_error(u: float, case: Case) -> float:
    bound = tol.lbfgs(u, case["S"], case["Y"], case["gamma"])
    return bound * (1 + tol.norm(case["q"]))


def _product_error(u: float, case: Case) -> float:
    """Error of a form that is at most quadratic in each of its arrays."""
    arrays = [value for value in case.values() if isinstance(value, np.ndarray)]
    size = np.prod([(1 + np.linalg.norm(array)) ** 2 for array in arrays])
    return tol.rounding(u, sum(array.size for array in arrays), float(size))


def _with(base: Given, **extra: Any) -> Given:
    return lambda precision: extended(base(precision), **extra)


def _split_pair(precision: Precision) -> SearchStrategy[Case]:
    base = extended(lbfgs_cases(precision), pair=lambda case: pairs(len(case["q"])))
    memory = st.sampled_from([3, 5])

    def split(case: Case, memory: int) -> Case:
        s, y = case["pair"]
        return {"S": case["S"], "Y": case["Y"], "s": s, "y": y, "memory": memory}

    return st.builds(split, base, memory)


def _with_H(precision: Precision) -> SearchStrategy[Case]:
    base = extended(
        inputs(precision), H=lambda case: spd(precision, len(case["v"])), lam=dampings()
    )
    return base.map(lambda case: dict(case) | {"mean": case["a_bar"].mean(axis=(0, 1))})


def _flat(base: Given) -> Given:
    """The cases with the options of a geometry beside the arrays."""

    def flattened(case: Case) -> Case:
        rest = {name: value for name, value in case.items() if name != "geometry"}
        return rest | case["geometry"]

    return lambda precision: base(precision).map(flattened)


def _with_shape(precision: Precision) -> SearchStrategy[Case]:
    def shaped(case: Case) -> Case:
        return dict(case) | {"x_shape": case["x"].shape}

    return _flat(columns)(precision).map(shaped)


def _strung(precision: Precision) -> SearchStrategy[Case]:
    return matrices(precision).map(lambda case: {"x": case["X"].ravel(), "shape": case["X"].shape})


def _leaves(base: Given) -> Given:
    """The cases with the arrays of a pair or record beside each other: ``old_s`` for ``old.s``."""

    def apart(case: Case) -> Case:
        found: dict[str, Any] = {}
        for name, value in case.items():
            parts = value._asdict().items() if hasattr(value, "_asdict") else ()
            found |= {f"{name}_{part}": array for part, array in parts} or {name: value}
        return found

    return lambda precision: base(precision).map(apart)


def _pairs(*arrays: Any) -> list[Any]:
    return [Pair(*arrays[:2]), Pair(*arrays[2:])]


def _records(*arrays: Any) -> list[Any]:
    return [Record(*arrays[:3]), Record(*arrays[3:])]


def _mus(base: Given) -> Given:
    return _with(base, mu2=st.just(0.25))


PLAIN: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
HSY = _same("H", "s", "y")
DIRECT = {"H": "B", "s": "s", "y": "y"}
FORMS: dict[str, Form] = {
    "powell_damp": Form(damping_cases, HSY, ("mu1",), {"mu1": 0.2},
                        lambda u, c: tol.powell(u, c["H"], c["s"], c["y"])),
    "identity_damp": Form(identity_cases, _same("s", "y"), ("mu2",), {},
                          lambda u, c: tol.identity(u, c["s"], c["y"])),
    "lm_damp": Form(lm_cases, _same("s", "y"), ("lam",), {},
                    _product_error),
    "double_damp": Form(_mus(damping_cases), HSY, ("mu1", "mu2"), {"mu1": 0.2}, _double_error),
    "dp_dlm_damp": Form(_with(damping_cases, lam=dampings()), HSY, ("mu1", "lam"), {"mu1": 0.2},
                        _dlm_error),
    "bfgs_inverse_update": Form(triples, HSY, (), {},
                                lambda u, c: tol.inverse_update(u, c["H"], c["s"], c["y"])),
    "bfgs_direct_update": Form(triples, DIRECT, (), {},
                               lambda u, c: tol.direct_update(u, c["H"], c["s"], c["y"])),
    "lbfgs_push": Form(_split_pair, _same("S", "Y", "s", "y"), ("memory",), {}, _product_error),
    "lbfgs_two_loop": Form(lbfgs_cases, _same("S", "Y", "q"), ("gamma",), {"gamma": 1.0},
                           _lbfgs_error),
    "lbfgs_compact": Form(lbfgs_cases, _same("S", "Y"), ("gamma",), {"gamma": 1.0}, _lbfgs_error),
    "lbfgs_dense": Form(lbfgs_cases, _same("S", "Y"), ("gamma",), {"gamma": 1.0}, _lbfgs_error),
    "cvec": Form(matrices, _same("X"), (), {}, _product_error),
    "rvec": Form(matrices, _same("X"), (), {}, _product_error),
    "kron": Form(matrices, _same("A", "G"), (), {}, _product_error),
    "kron_matvec": Form(matrices, _same("A", "G", "X"), (), {}, _product_error),
    "cvec_inverse": Form(_strung, _same("x", "shape"), (), {}, _product_error),
    "rvec_inverse": Form(_strung, _same("x", "shape"), (), {}, _product_error),
    "im2col": Form(_flat(images), _same("x", "kernel_size"), tuple(PLAIN), PLAIN, _product_error),
    "col2im": Form(_with_shape, {"c": "cols", "x_shape": "x_shape", "kernel_size": "kernel_size"},
                   tuple(PLAIN), {}, _product_error),
    "append_one": Form(inputs_without_bias, _same("a"), (), {}, _product_error),
    "input_factor": Form(inputs, _same("a_bar"), (), {}, _product_error),
    "input_mean": Form(inputs, _same("a_bar"), (), {}, _product_error),
    "hessian_action": Form(inputs, _same("a_bar", "v"), (), {}, _product_error),
    "input_pair": Form(_with_H, {"H": "H_a", "mean": "a_mean", "a_bar": "A"}, ("lam",), {},
                       _product_error),
    "conv_hessian_action": Form(convolutions, _same("conv", "a", "v"), (), {}, _product_error),
    "output_pair": Form(_leaves(two_records), _same(
        *(f"{which}_{part}" for which in ("first", "second") for part in Record._fields)
    ), (), {}, _product_error, _records, ("first", "second")),
    "average_pair": Form(_leaves(averages), _same("old_s", "old_y", "new_s", "new_y"), ("decay",),
                         {}, _product_error, _pairs, ("old", "new")),
    "layer_blocks": Form(second_derivatives, _same("a_bar", "Hh"), (), {}, _product_error),
    "output_factor": Form(second_derivatives, _same("Hh"), (), {}, _product_error),
}  # fmt: skip  # one function an entry


@st.composite
def three_cases(draw: DrawFn, name: str, precision: Precision) -> Case:
    """Two cases of one shape and one of another, all with small rounding."""
    base = FORMS[name].given(precision)
    sizes = {"N": 2, "T": 3, "d_a": 3, "d_g": 2, "C": 2, "room": (2, 1), "shapes": "3 1 4 2"}
    sizes |= {"kernel": (2, 1), "stride": (1, 2), "padding": (1, 0), "dilation": (1, 1)}
    with forced(BENIGN | sizes | {"n": 3, "curvature": "-1"}):
        first = draw(base)
    with forced(BENIGN | sizes | {"n": 3, "curvature": "2", "damping": "1"}):
        second = draw(base)
    other = {"n": 5, "N": 3, "T": 2, "d_a": 8, "d_g": 3, "C": 1, "shapes": "2 4 1 3"}
    other |= {name: (2, 2) for name in ("kernel", "stride", "dilation")}
    other |= {"padding": (1, 1), "room": (3, 3), "decay": "0.5"}  # each is one int too
    with forced(BENIGN | sizes | other | {"curvature": "half"}):
        third = draw(base)
    cases = {"first": first, "second": second, "other": third}
    return {which: _uneven(FORMS[name], case) for which, case in cases.items()}


def _uneven(form: Form, case: Case) -> Case:
    """The case with arrays that have no short binary form, which float32 would round, and that are
    not zero, of which every multiple is the same.
    """
    arrays = {name: case[name] for name in form.arrays if isinstance(case[name], np.ndarray)}
    for name, X in arrays.items():
        if not X.any():
            arrays[name] = np.ones_like(X)
    return dict(case) | {name: frozen(X * (4 / 3)) for name, X in arrays.items()}


def arguments(form: Form, case: Case) -> tuple[list[Any], dict[str, Any]]:
    """What a call takes by position, as arrays of its own, and its options."""
    options = {name: case[name] for name in form.options}
    return [_copied(case[name]) for name in form.arrays], options


def _copied(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray) else value
