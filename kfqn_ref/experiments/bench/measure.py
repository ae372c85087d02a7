"""What ``kfqn bench`` measures: step times side by side, the physical limit, kernels."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.experiments.bench.kernels import kernels_a_step
from kfqn_ref.optim import KFQN, iteration, move, update
from kfqn_ref.optim.passes import Replay

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


def reference_cnn(*, deeper: int = 0) -> nn.Sequential:
    """conv 1-16, pool, conv 16-32, pool, linear 1568-64, linear 64-10, on images of 28 x 28.

    After each of the first three layers come ``deeper`` more of its outputs.
    """
    torch.manual_seed(0)

    def more(make: Callable[[], nn.Module]) -> list[nn.Module]:
        return [module for _ in range(deeper) for module in (make(), nn.ReLU())]

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        *more(lambda: nn.Conv2d(16, 16, 3, padding=1)),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        *more(lambda: nn.Conv2d(32, 32, 3, padding=1)),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1568, 64),
        nn.ReLU(),
        *more(lambda: nn.Linear(64, 64)),
        nn.Linear(64, 10),
    )


def channels_last(model: nn.Module) -> nn.Module:
    """Return the model with its kernels laid out channel by channel; outputs then follow."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[reportCallIssue]  # its documented call


LEAN: dict[str, Any] = {"input_inverse": "lbfgs", "lean_above": 512, "memory": 20}
"""The lean form for the layers that are wide enough to gain by it: the growth curves say from where
on.
"""

MAKERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "SGD": lambda m: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9),
    "Adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-3),
    "SGD, channels last": lambda m: MAKERS["SGD"](channels_last(m)),
    "kfqn_cnn, channels last": lambda m: MAKERS["kfqn_cnn"](channels_last(m)),
    "kfqn_cnn": lambda m: KFQN(m, lr=0.1),
    "kfqn_cnn, every 10": lambda m: KFQN(m, lr=0.1, curvature_interval=10),
    "kfqn_cnn_l": lambda m: KFQN(m, "kfqn_cnn_l", lr=0.1),
    "kfqn_input": lambda m: KFQN(m, "kfqn_input", lr=0.1),
    "kfqn_input, every 10": lambda m: KFQN(m, "kfqn_input", lr=0.1, curvature_interval=10),
    "kfqn_input, lean": lambda m: KFQN(m, "kfqn_input", lr=0.1, **LEAN),
    "kfqn_input, every 10, lean": lambda m: KFQN(
        m, "kfqn_input", lr=0.1, curvature_interval=10, **LEAN
    ),
    "kfqn_cnn, lean": lambda m: KFQN(m, lr=0.1, **LEAN),
    "kfqn_cnn, every 10, lean": lambda m: KFQN(m, lr=0.1, curvature_interval=10, **LEAN),
}


COMPILED: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "kfqn_cnn, compiled": lambda m: KFQN(m, lr=0.1, compile=True),
    "kfqn_cnn, every 10, compiled": lambda m: KFQN(m, lr=0.1, curvature_interval=10, compile=True),
    "kfqn_cnn, lean, compiled": lambda m: KFQN(m, lr=0.1, compile=True, **LEAN),
    "kfqn_cnn, every 10, lean, compiled": lambda m: KFQN(
        m, lr=0.1, curvature_interval=10, compile=True, **LEAN
    ),
}


class Runner:
    """One model in training: a step, timed, on the next mini-batch."""

    def __init__(
        self, model: nn.Module, opt: torch.optim.Optimizer, x: Tensor, target: Tensor, batch: int
    ) -> None:
        self.model = model
        self.opt = opt
        self.x = x
        self.target = target
        self.batch = batch
        self.k = 0

    def closure(self) -> Tensor:
        """Clear the gradients, and go forward and backward on the present mini-batch."""
        first = self.k * self.batch % (len(self.x) - self.batch + 1)
        chosen = slice(first, first + self.batch)
        self.model.zero_grad()
        loss = F.cross_entropy(self.model(self.x[chosen]), self.target[chosen])
        loss.backward()
        return loss

    def step(self, clock: Clock) -> float:
        """Return the time of one step."""
        self.k += 1
        start = clock()
        self.opt.step(self.closure)  # type: ignore[arg-type]  # torch declares a float, and takes a tensor
        return clock() - start

    @torch.enable_grad()
    def passes(self, clock: Clock) -> tuple[float, float]:
        """Return the times of a forward-backward pass, and of one over frozen weights."""
        start = clock()
        self.closure()
        first = clock() - start
        layer = next(m for m in self.model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        hook = layer.register_forward_hook(lambda module, args, h: h.requires_grad_().view_as(h))
        with Replay(self.model).again():
            start = clock()
            self.closure()
            second = clock() - start
        hook.remove()
        return first, second


@dataclass(frozen=True)
class Rates:
    """What the machine does at its best: multiply-adds and bytes a second."""

    gemm: float
    memory: float


def measure_rates(clock: Clock, *, size: int = 1024, repeats: int = 7) -> Rates:
    """Return the best of some square products, and of some reads and writes of 64 MiB."""
    a = torch.randn(size, size)
    long = torch.randn(1 << 24)
    products = min(timed(clock, lambda: a @ a) for _ in range(repeats))
    copies = min(timed(clock, lambda: long.mul_(1.0)) for _ in range(repeats))
    return Rates(size**3 / products, 2 * long.numel() * long.element_size() / copies)


def timed(clock: Clock, work: Callable[[], Any]) -> float:
    """Return the seconds of one call, more than 0."""
    start = clock()
    work()
    return max(clock() - start, 1e-9)


def limit(opt: KFQN, first: float, second: float, rates: Rates) -> float:
    """Return the least time of a step: passes, ``H_g M H_a`` at the GEMM rate, H read and written
    once.

    Where the output side does not learn there is no second pass, and ``H_g`` is a number.
    """
    output = int(opt.method.preset.learns_output)
    shapes = [layer.shape for layer in opt.layers]
    products = sum(g * (output * d_g**2 * d_a + d_g * d_a**2) for g, d_g, d_a in shapes)
    factors = sum(g * (output * d_g**2 + d_a**2) for g, d_g, d_a in shapes)
    every = opt.method.curvature_interval
    update = output * second + 2 * 4 * factors / rates.memory  # float32: one read and one write
    return first + products / rates.gemm + update / every


def state_bytes(opt: torch.optim.Optimizer) -> int:
    """Return the bytes of all tensors of the state."""

    def size(value: Any) -> int:
        if isinstance(value, Tensor):
            return value.numel() * value.element_size()
        return sum(map(size, value.values())) if isinstance(value, dict) else 0

    return sum(size(dict(state)) for state in opt.state.values())


def side_by_side(
    x: Tensor,
    target: Tensor,
    makers: Mapping[str, Callable[[nn.Module], torch.optim.Optimizer]],
    *,
    steps: int,
    warmup: int,
    batch: int,
    clock: Clock,
) -> dict[str, Any]:
    """Return times of all contenders, whose steps take turns, with the limits of the dense ones."""
    runners = {}
    for name, make in makers.items():
        model = reference_cnn()
        runners[name] = Runner(model, make(model), x, target, batch)
    times: dict[str, list[float]] = {name: [] for name in runners}
    passes: list[tuple[float, float]] = []
    for k in range(warmup + steps):
        for name, runner in runners.items():
            seconds = runner.step(clock)
            if k >= warmup:
                times[name].append(seconds)
        if k >= warmup:
            passes.append(runners["SGD"].passes(clock))
    rates = measure_rates(clock)
    rows = {
        name: _row(runner, times[name], passes, rates, clock) for name, runner in runners.items()
    }
    profile = parts(runners["kfqn_cnn"], steps, clock)
    base = rows["SGD"]
    for row in rows.values():
        row |= {f"{key}_over_sgd": row[key] / base[key] for key in ("median", "mean")}
    passed = np.mean(passes, axis=0).tolist()
    return {"rows": rows, "rates": vars(rates), "passes": passed, "parts": profile}


def _row(
    runner: Runner, times: list[float], passes: Any, rates: Rates, clock: Clock
) -> dict[str, float]:
    row = {"median": float(np.median(times)), "mean": float(np.mean(times))}
    row |= {"state_bytes": state_bytes(runner.opt)} | kernels_a_step(
        runner.opt, lambda: runner.step(clock)
    )
    if isinstance(runner.opt, KFQN) and runner.opt.method.input_inverse == "dense":
        first, second = np.mean(passes, axis=0)
        row["limit"] = limit(runner.opt, float(first), float(second), rates)
        row["mean_over_limit"] = row["mean"] / row["limit"]
    return row


PARTS = {
    "act": (iteration, "Hessian action"),
    "update_input_": (update, "update of H_a"),
    "update_output_": (update, "damping, update of H_g"),
    "direction": (move, "H_g M H_a"),
}


def parts(runner: Runner, steps: int, clock: Clock) -> dict[str, float]:
    """Return the mean seconds of the parts of a step of ``KFQN``; the rest is all that is small."""
    spent = dict.fromkeys((part for _, part in PARTS.values()), 0.0) | {"both passes": 0.0}

    def counted(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            try:
                return work(*args, **kwargs)
            finally:
                spent[part] += clock() - start

        return run

    with ExitStack() as stack:
        for name, (module, part) in PARTS.items():
            stack.enter_context(patch.object(module, name, counted(part, getattr(module, name))))
        stack.enter_context(patch.object(runner, "closure", counted("both passes", runner.closure)))
        whole = sum(runner.step(clock) for _ in range(steps))
    return {part: s / steps for part, s in spent.items()} | {
        "the rest": (whole - sum(spent.values())) / steps
    }
