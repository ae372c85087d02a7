"""Arguments to try a function on: small integers first, then numbers without any structure.

The first that goes wrong is the example that a student computes by hand. The later ones tell
formulas apart that agree by luck on small integers.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from kfqn_ref import AvgPool2d, Conv2d, Flatten, Linear, MeanSquaredError, Network, Pair, Tanh
from kfqn_ref.course.diagnosis import models
from kfqn_ref.course.tasks import Block, start
from kfqn_ref.network import Record

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Multiply:
    """``A v`` for an A that is not shown."""

    def __init__(self, A: Any):
        self.A = A

    def __call__(self, v: Any) -> Any:
        return self.A @ np.asarray(v, dtype=float)

    def __repr__(self) -> str:
        rows = self.A.round(3).tolist()
        return f"v ↦ A v with A = {rows}"


class Draw:
    """Random numbers: whole ones, or without structure."""

    def __init__(self, seed: int, *, whole: bool):
        self._rng = np.random.default_rng(seed)
        self._whole = whole

    def array(self, *shape: int) -> Any:
        """Numbers between -3 and 3."""
        if self._whole:
            return self._rng.integers(-2, 4, shape).astype(float)
        return self._rng.uniform(-2.0, 3.0, shape)

    def positive(self, n: int) -> Any:
        """A symmetric positive definite matrix, (n, n)."""
        root = self.array(n, n)
        return root @ root.T + np.eye(n)

    def number(self, *values: float) -> float:
        """One of some values, or one between the smallest and the largest."""
        if self._whole:
            return float(self._rng.choice(values))
        return float(self._rng.uniform(min(values), max(values)))

    def pair(self, n: int) -> tuple[Any, Any]:
        """s and y with sᵀy > 0."""
        while True:
            s = self.array(n)
            y = self.array(n)
            if s @ y > 0.5:
                return s, y

    def size(self, low: int, high: int) -> int:
        """A whole number from low to high."""
        return int(self._rng.integers(low, high + 1))


def _sizes(draw: Draw, round_: int, low: int, high: int) -> int:
    """Sizes that grow: the smallest comes first."""
    return min(high, low + round_ // 3) if round_ < 9 else draw.size(low, high)


def _update(draw: Draw, k: int) -> Call:
    n = _sizes(draw, k, 1, 4)
    s, y = draw.pair(n)
    if k % 7 == 6:
        # sᵀy is small, and no reason to refuse
        s = s * 1e-3
        y = y * 1e-3
    return (draw.positive(n), s, y), {}


def _products(draw: Draw, k: int) -> Call:
    n = _sizes(draw, k, 1, 4)
    return (Multiply(draw.positive(n)), n), {}


def _damped(draw: Draw, k: int) -> Call:
    n = _sizes(draw, k, 1, 4)
    H = draw.positive(n)
    y = draw.array(n)
    y[0] = y[0] or 1.0
    # sᵀy / yᵀH y: above every threshold, between, and negative
    ratio = (1.5, -0.5, 0.02, 0.3, -2.0, 0.15)[k % 6]
    s = draw.array(n)
    s = s + (ratio * (y @ H @ y) - s @ y) / (y @ y) * y
    options = {} if k % 4 == 3 else {"mu1": draw.number(0.1, 0.2, 0.5)}
    return (H, s, y), options


def _both_damped(draw: Draw, k: int) -> Call:
    arguments, options = _damped(draw, k)
    return arguments, options | {"lam": draw.number(0.5, 2.0, 3.0)}


def _lm(draw: Draw, k: int) -> Call:
    n = _sizes(draw, k, 1, 4)
    return (draw.array(n), draw.array(n)), {"lam": draw.number(0.5, 2.0, 3.0)}


def _memory(draw: Draw, k: int, least: int = 0) -> tuple[Any, Any]:
    """m pairs of R^n, whose sᵀy is positive."""
    n = _sizes(draw, k, 1, 4)
    m = least + k % 4 if k < 9 else draw.size(least, 4)
    pairs = [draw.pair(n) for _ in range(m)]
    S = np.array([s for s, _ in pairs]).reshape(m, n)
    return S, np.array([y for _, y in pairs]).reshape(m, n)


def _gamma(draw: Draw, k: int) -> dict[str, float]:
    return {} if k % 4 == 3 else {"gamma": draw.number(0.5, 2.0, 3.0)}


def _pushed(draw: Draw, k: int) -> Call:
    S, Y = _memory(draw, k)
    memory = max(1, len(S) + (k // 2) % 4 - 2)  # more are stored than may be, or fewer
    return (S, Y, *draw.pair(S.shape[1])), {"memory": memory}


def _stored(draw: Draw, k: int) -> Call:
    return _memory(draw, k), _gamma(draw, k)


def _applied(draw: Draw, k: int) -> Call:
    S, Y = _memory(draw, k)
    return (S, Y, draw.array(S.shape[1])), _gamma(draw, k)


def _window(draw: Draw, k: int) -> dict[str, tuple[int, int]]:
    """Kernel, stride, padding and dilation: all plain at first, then all different."""
    if k < 2:
        return {"kernel_size": (2, 2), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    names = ("kernel_size", "stride", "padding", "dilation")
    drawn = {}
    for number, name in enumerate(names):
        low = 0 if name == "padding" else 1
        same = k < 6 and k - 2 != number
        plain = 2 if name == "kernel_size" else low
        drawn[name] = (plain, plain) if same else (draw.size(low, 2), draw.size(low, 2))
        if k - 2 == number:
            drawn[name] = (low + 1, low + 2)
    return drawn


def _image(draw: Draw, k: int) -> Any:
    return draw.array(1 + k % 2, 1 + k // 2 % 2, 5 + k % 2, 6)


def _patches(draw: Draw, k: int) -> Call:
    options = _window(draw, k)
    return (_image(draw, k), options.pop("kernel_size")), options


def _convolved(draw: Draw, k: int) -> Call:
    options = _window(draw, k)
    a = _image(draw, k)
    kernel = options.pop("kernel_size")
    bias = k % 3 != 2
    made: Any = Conv2d
    conv = made(a.shape[1], 1, kernel, bias=bias, **options)
    return (conv, a, draw.array(a.shape[1] * kernel[0] * kernel[1] + bias)), {}


def _inputs(draw: Draw, k: int) -> Any:
    """ā, (N, T, d)."""
    if k < 3:
        return draw.array(*((1, 1, 1), (2, 1, 1), (1, 2, 1))[k])
    return draw.array(draw.size(1, 3), draw.size(1, 3), draw.size(1, 3))


def _derivatives(draw: Draw, k: int) -> Any:
    """∂²f_n / ∂h_t ∂h_u, symmetric, (N, T, d_g, T, d_g)."""
    N, T, d = ((1, 1, 1), (2, 1, 1), (1, 2, 1))[k] if k < 3 else (
        draw.size(1, 3), draw.size(1, 3), draw.size(1, 2))  # fmt: skip  # the sizes of each round
    Hh = draw.array(N, T, d, T, d)
    return Hh + Hh.transpose(0, 3, 4, 1, 2)


def _matrix(draw: Draw, k: int) -> Any:
    return draw.array(_sizes(draw, k, 1, 3), 1 + k % 3)


def _acted(draw: Draw, k: int) -> Call:
    a_bar = _inputs(draw, k)
    return (a_bar, draw.array(a_bar.shape[2])), {}


def _matvec(draw: Draw, k: int) -> Call:
    n = _sizes(draw, k, 1, 3)
    m = 1 + k % 3
    rows = n if k % 2 else draw.size(1, 3)  # sizes that fit the other way round, too
    A = draw.array(m, m)
    G = draw.array(rows, n)
    return (A, G, draw.array(n, m)), {}


def _input_pair(draw: Draw, k: int) -> Call:
    a_bar = _inputs(draw, k)
    d = a_bar.shape[2]
    A = draw.positive(d) if k % 2 else a_bar
    return (draw.positive(d), draw.array(d), A), {"lam": draw.number(0.5, 2.0, 3.0)}


def _records(draw: Draw, k: int) -> Call:
    shape = _inputs(draw, k).shape
    a_bar = np.ones((*shape[:2], 2))
    return tuple(Record(a_bar, draw.array(*shape), draw.array(*shape)) for _ in range(2)), {}


def _averaged(draw: Draw, k: int) -> Call:
    n = _sizes(draw, k, 1, 3)
    old, new = (Pair(draw.array(n), draw.array(n)) for _ in range(2))
    return (old, new), {"decay": draw.number(0.25, 0.5, 0.75)}


def _step(draw: Draw, k: int) -> Call:
    """A step from the start, or from where the right step led."""
    linear = Network((Linear(2, 2), Tanh(), Linear(2, 1)), MeanSquaredError())
    conv = Network(
        (Conv2d(1, 2, 2), Tanh(), AvgPool2d(2), Flatten(), Linear(2, 1)), MeanSquaredError()
    )
    network, shape = ((conv, (2, 1, 3, 3)), (linear, (3, 2)))[k % 2]
    shapes = [W.shape for W in network.init(np.random.default_rng(0))]
    params = tuple(0.5 * draw.array(*each) for each in shapes)
    x = draw.array(*shape)
    target = draw.array(shape[0], 1)
    options = {
        "lr": draw.number(0.25, 0.5),
        "damping": draw.number(0.25, 4.0),
        "momentum": 0.5 + 0.25 * (k % 3 - 1),
        "pair_decay": draw.number(0.25, 0.75),
    }
    first = models.forward_backward(network, params, x, target)
    blocks = start(tuple(r.a_bar for r in first.records), params, options["damping"])
    for _ in range(1 + k // 2 % 2):
        params, blocks = models.kfqn_step(network, params, blocks, x, target, **options)
        blocks = tuple(Block(*block) for block in blocks)
    return (network, params, blocks, x, target), options


def _errors(draw: Draw, k: int) -> Call:
    Hh = _derivatives(draw, k)
    return (draw.array(*Hh.shape[:2], 1 + k % 2) + 0.5, Hh), {}


DRAWN: dict[str, Callable[[Draw, int], Call]] = {
    "bfgs_inverse_update": _update,
    "bfgs_direct_update": _update,
    "inverse_from_products": _products,
    "powell_damp": _damped,
    "lm_damp": _lm,
    "dp_dlm_damp": _both_damped,
    "lbfgs_push": _pushed,
    "lbfgs_dense": _stored,
    "lbfgs_two_loop": _applied,
    "lbfgs_compact": _stored,
    "im2col": _patches,
    "append_one": lambda draw, k: ((_inputs(draw, k),), {}),
    "input_factor": lambda draw, k: ((_inputs(draw, k),), {}),
    "output_factor": lambda draw, k: ((_derivatives(draw, k),), {}),
    "cvec": lambda draw, k: ((_matrix(draw, k),), {}),
    "kron": lambda draw, k: ((_matrix(draw, k), _matrix(draw, k + 1)), {}),
    "kron_matvec": _matvec,
    "hessian_action": _acted,
    "conv_hessian_action": _convolved,
    "input_mean": lambda draw, k: ((_inputs(draw, k),), {}),
    "input_pair": _input_pair,
    "output_pair": _records,
    "average_pair": _averaged,
    "kfqn_step": _step,
    "assumption_errors": _errors,
}


def refused() -> Iterator[Call]:
    """Pairs that have to be refused."""
    one = np.eye(1)
    for s, y in ((1.0, -1.0), (1.0, 0.0), (np.nan, 1.0)):
        yield (one, np.array([s]), np.array([y])), {}
    yield (np.eye(2), np.array([1.0, 0.0]), np.array([0.0, 1.0])), {}


@cache
def calls(name: str) -> tuple[Call, ...]:
    """The arguments to try a function on, the smallest first.

    Raises:
        KeyError: nothing is known of such a function.
    """
    drawn = DRAWN[name]
    count = 8 if name == "kfqn_step" else 12
    found = []
    for seed, whole in ((1, True), (2, False)):
        draw = Draw(seed, whole=whole)
        found += [drawn(draw, k) for k in range(count)]
    if name == "bfgs_inverse_update":
        found += refused()
    return tuple(found)
