"""One local rank of ``kfqn scale``: arguments ``RANK WORLD PORT OUT STEPS BATCH WHAT``; writes
JSON.

Every rank trains the reference CNN on images of its own by every method, whose steps take turns;
one thread a rank. ``WHAT`` is ``copies``, which also times collectives, or ``shards`` (FSDP2).
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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.experiments.bench import measure as bench
from kfqn_ref.experiments.race.kfac import KFAC
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.guards import leaves
from kfqn_ref.optim.sharded import local

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


SHARDED = ("SGD", "dense")


def measured_shards(world: int, steps: int, batch: int) -> dict[str, Any]:
    """Return the fastest step of SGD and of the method by wall time, and the bytes that this rank
    keeps, with the model in shards where there are several ranks.
    """
    runners = {method: _sharded(method, world, batch) for method in SHARDED}
    times: dict[str, list[float]] = {method: [] for method in SHARDED}
    for k in range(WARMUP + steps):
        for method, training in runners.items():
            if world > 1:
                dist.barrier()
            start = time.perf_counter()
            training.step(time.process_time)
            if k >= WARMUP:
                times[method].append(time.perf_counter() - start)
    return {
        method: {"wall": min(times[method]), **_kept(training)}
        for method, training in runners.items()
    }


def _sharded(method: str, world: int, batch: int) -> bench.Runner:
    model = bench.reference_cnn()
    if world > 1:
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    x = torch.randn(batch, 1, 28, 28)
    target = torch.randint(0, 10, (batch,))
    return bench.Runner(model, maker(method)(model), x, target, batch)


def _kept(training: bench.Runner) -> dict[str, int]:
    """Return the bytes of weights, gradients and state on this rank."""
    training.closure()  # a second pass has left no gradients
    parameters = [*training.model.parameters()]
    gradients = [p.grad for p in parameters if p.grad is not None]
    states = leaves([dict(state) for state in training.opt.state.values()])
    kept = {"weights": parameters, "gradients": gradients, "state": states}
    return {name: sum(local(x).nbytes for x in tensors) for name, tensors in kept.items()}


def main() -> None:
    """Run as one rank."""
    rank = int(sys.argv[1])
    world = int(sys.argv[2])
    port = sys.argv[3]
    out = Path(sys.argv[4])
    steps = int(sys.argv[5])
    batch = int(sys.argv[6])
    what = sys.argv[7]
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    measure = measured_shards if what == "shards" else measured
    found: dict[str, Any] = {"steps": WARMUP + steps, "methods": measure(world, steps, batch)}
    if world > 1 and what == "copies":
        found["collectives"] = collectives(4 * steps)
    if world > 1:
        dist.destroy_process_group()
    out.write_text(json.dumps(found))
    os._exit(
        0
    )  # a thread of gloo that outlives its group would abort the interpreter's own way out


if __name__ == "__main__":
    main()
