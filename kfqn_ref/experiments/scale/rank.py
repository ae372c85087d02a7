"""One local rank of ``kfqn scale``: arguments ``RANK WORLD PORT OUT STEPS BATCH``; writes JSON.

Every rank trains the reference CNN on images of its own by every method, whose steps take turns,
and times collectives; one thread a rank.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.experiments.bench import measure as bench
from kfqn_ref.experiments.race.kfac import KFAC
from kfqn_ref.optim import KFQN

SIZES = (16, 1 << 20)  # floats of the messages that latency and bandwidth come from
WARMUP = 3


def maker(method: str) -> Callable[[nn.Module], Any]:
    """Return what builds the optimizer of a method."""
    return {
        "SGD": bench.MAKERS["SGD"],
        "KFAC": KFAC,
        "dense": lambda m: KFQN(m, lr=0.01),
        "lean": lambda m: KFQN(m, lr=0.01, input_inverse="lbfgs"),
        "owned": lambda m: KFQN(m, lr=0.01, factor_ownership=True),
        "input": lambda m: KFQN(m, "kfqn_input", lr=0.01),
    }[method]


class Drawing(bench.Runner):
    """A runner whose optimizer wants a loss on drawn targets: KFAC."""

    def closure(self, draw: bool = False) -> Any:
        """Return the loss, and the loss on targets drawn from the model."""
        outputs = self.model(self.x)
        drawn = torch.distributions.Categorical(logits=outputs.detach()).sample()
        return F.cross_entropy(outputs, self.target), F.cross_entropy(outputs, drawn)


def runner(method: str, world: int, batch: int, *, deeper: int = 0) -> bench.Runner:
    """Return a method's training of the reference CNN, wrapped where there are ranks to agree
    with.
    """
    model: nn.Module = bench.reference_cnn(deeper=deeper)
    model = DistributedDataParallel(model) if world > 1 else model
    x = torch.randn(batch, 1, 28, 28)
    target = torch.randint(0, 10, (batch,))
    kind = Drawing if method == "KFAC" else bench.Runner
    return kind(model, maker(method)(model), x, target, batch)


def collectives(repeats: int) -> dict[str, list[float]]:
    """Return the fastest all-reduce of messages of both sizes, in seconds."""
    found = []
    for size in SIZES:
        message = torch.zeros(size)
        seconds = []
        for _ in range(repeats):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(message)
            seconds.append(time.perf_counter() - start)
        found.append(min(seconds))
    return {"bytes": [4.0 * size for size in SIZES], "seconds": found}


def measured(world: int, steps: int, batch: int) -> dict[str, Any]:
    """Return the fastest step of every method by wall and by processor time, its bytes and its
    state.
    """
    apart = "KFAC" if world == 1 else "owned"
    methods = ("SGD", "dense", "lean", "input", apart)
    runners = {method: runner(method, world, batch) for method in methods}
    times: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    for k in range(WARMUP + steps):
        for method, training in runners.items():
            if world > 1:
                dist.barrier()
            start = time.perf_counter()
            processor = training.step(time.process_time)
            if k >= WARMUP:
                times[method].append((time.perf_counter() - start, processor))
    found: dict[str, Any] = {}
    for method, seconds in times.items():
        found[method] = dict(
            zip(("wall", "processor"), np.min(seconds, axis=0).tolist(), strict=True)
        )
    for method, training in runners.items():
        found[method]["state"] = bench.state_bytes(training.opt)
        if isinstance(training.opt, KFQN):
            found[method]["reduced"] = training.opt._reducer.bytes
    return found


def main() -> None:
    """Run as one rank."""
    rank = int(sys.argv[1])
    world = int(sys.argv[2])
    port = sys.argv[3]
    out = Path(sys.argv[4])
    steps = int(sys.argv[5])
    batch = int(sys.argv[6])
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    found: dict[str, Any] = {"steps": WARMUP + steps, "methods": measured(world, steps, batch)}
    if world > 1:
        found["collectives"] = collectives(4 * steps)
        dist.destroy_process_group()
    out.write_text(json.dumps(found))
    os._exit(
        0
    )  # a thread of gloo that outlives its group would abort the interpreter's own way out


if __name__ == "__main__":
    main()
