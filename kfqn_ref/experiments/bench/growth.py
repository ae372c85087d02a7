"""How the time and the state of a step grow with the size of a network, beside counts on paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from kfqn_ref.experiments.bench.measure import LEAN, Clock, Runner, state_bytes
from kfqn_ref.experiments.scale.model import work
from kfqn_ref.experiments.scale.networks import Network, conv, linear
from kfqn_ref.optim import KFQN

FORMS: dict[str, dict[str, Any]] = {"dense": {}, "lean": {**LEAN, "lean_above": 0}}
CLASSES = 64


@dataclass(frozen=True)
class Point:
    """A network of one size: its counts, the module itself, and a mini-batch of samples."""

    network: Network
    model: nn.Module
    x: Tensor


def of_width(size: int) -> Point:
    """One linear layer with ``d_a = size``, the bias included."""
    return _layers(size - 1, 1, 128)


def of_batch(size: int) -> Point:
    """A linear layer with 255 inputs on ``size`` samples."""
    return _layers(255, 1, size)


def of_depth(size: int) -> Point:
    """That many linear layers from 64 units to 64."""
    return _layers(CLASSES, size, 128)


def of_kernel(size: int) -> Point:
    """A convolution with a kernel of ``size`` x ``size`` on images of 14 x 14."""
    layer = nn.Conv2d(8, CLASSES, size, padding=size // 2)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    counts = Network("one convolution", (conv("conv", 8, CLASSES, size, 14),))
    return Point(counts, model, torch.randn(32, 8, 14, 14))


def _layers(d_in: int, depth: int, batch: int) -> Point:
    widths = [d_in] + depth * [CLASSES]
    modules = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    shapes = [linear(f"fc{i}", m.in_features, m.out_features) for i, m in enumerate(modules)]
    return Point(
        Network("layers", tuple(shapes)), nn.Sequential(*modules), torch.randn(batch, d_in)
    )


AXES: dict[str, tuple[tuple[int, ...], Callable[[int], Point]]] = {
    "width": ((64, 128, 256, 512, 1024, 2305, 4609), of_width),
    "batch": ((32, 64, 128, 256, 512), of_batch),
    "depth": ((1, 2, 4, 8, 16), of_depth),
    "kernel": ((1, 3, 5, 7, 9), of_kernel),
}


def growth(*, largest: int, steps: int, clock: Clock) -> dict[str, dict[str, Any]]:
    """Return times and state by axis and form, and their exponents beside those on paper.

    Args:
        largest: the largest width.   steps: timed steps of every size.   clock: seconds.
    """
    found = {}
    for axis, (sizes, point) in AXES.items():
        chosen = [size for size in sizes if axis != "width" or size <= largest]
        curves = {form: _curve(chosen, point, form, steps, clock) for form in FORMS}
        found[axis] = {"sizes": chosen, "forms": curves}
    return found


def _curve(
    sizes: Sequence[int], point: Callable[[int], Point], form: str, steps: int, clock: Clock
) -> dict[str, Any]:
    rows = [_measured(point, size, form, steps, clock) for size in sizes]
    runs, states, operations, kept = zip(*rows, strict=True)
    return {
        "seconds": [float(np.median(each)) for each in runs],
        "bytes": list(states),
        "exponent of seconds": exponent(sizes, runs) | {"paper": _slope(sizes, operations)},
        "exponent of bytes": {"value": _slope(sizes, states), "paper": _slope(sizes, kept)},
    }


def _measured(
    point: Callable[[int], Point], size: int, form: str, steps: int, clock: Clock
) -> tuple[list[float], int, float, int]:
    """Return seconds of steps and bytes of state; on paper multiply-adds of a step, and bytes."""
    torch.manual_seed(0)
    at = point(size)
    opt = KFQN(at.model, lr=0.01, **FORMS[form])
    target = torch.randint(0, CLASSES, (len(at.x),))
    runner = Runner(at.model, opt, at.x, target, len(at.x))
    runner.step(clock)
    runs = [runner.step(clock) for _ in range(steps)]
    paper = work(at.network, form, batch=len(at.x), ranks=1, pairs=LEAN["memory"])
    return runs, state_bytes(opt), paper.passes + paper.products, paper.state


def _larger_half(sizes: Sequence[float]) -> slice:
    """The larger half of the sizes, where overheads are small."""
    return slice(len(sizes) // 2, None)


def _slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    part = _larger_half(sizes)
    slope = np.polyfit(np.log(sizes[part]), np.log(values[part]), 1)[0]
    return round(float(slope), 9) + 0.0  # 0 for -1e-16


def exponent(sizes: Sequence[float], runs: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the slope of log seconds against log size over the larger half, and the 95 % interval
    of the fit.

    Args:
        sizes: increasing.   runs: seconds of single steps, equally many a size.
    """
    part = _larger_half(sizes)
    at = np.repeat(np.log(sizes[part]), len(runs[0]))
    fit: Any = stats.linregress(at, np.log(np.ravel(runs[part])))
    reach = float(stats.t.ppf(0.975, len(at) - 2) * fit.stderr)
    value = float(fit.slope)
    return {"value": value, "low": value - reach, "high": value + reach}


def lean_pays_from(curves: Mapping[str, Any]) -> float | None:
    """Return the least measured width from which on lean steps are the faster ones, ``None``
    without one.

    Args:
        curves: those of the axis ``width``.
    """
    widths = curves["sizes"]
    dense = curves["forms"]["dense"]["seconds"]
    lean = curves["forms"]["lean"]["seconds"]
    slower = [i for i in range(len(widths)) if lean[i] >= dense[i]]
    first = slower[-1] + 1 if slower else 0
    return widths[first] if first < len(widths) else None
