"""What ``kfqn scale`` measures: the rates of this machine, and steps on 1, 2 and 4 local ranks."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from kfqn_ref.experiments.bench import measure as bench
from kfqn_ref.experiments.bench.kernels import Kernels, as_on_a_gpu
from kfqn_ref.experiments.scale import model
from kfqn_ref.experiments.scale import rank as scale_rank
from kfqn_ref.experiments.scale.networks import reference_cnn

WORLDS = (1, 2, 4)
COUNTED = ("SGD", "KFAC", "dense", "lean", "input")


def operations(*, gpu: bool = True) -> model.Counts:
    """Return how many operations a step dispatches, by method: once, and for every layer.

    Counted on two images, with the reference CNN and with a deeper one; those of a GPU, or those of
    a CPU. ``passes`` is a forward-backward pass alone. No time is measured: the numbers repeat.
    """
    found = {}
    for method in (*COUNTED, "passes"):
        (few, less), (many, more) = (_counted(method, deeper, gpu) for deeper in (0, 1))
        each = (more - less) / (many - few)
        found[method] = (less - each * few, each)
    return {**found, "owned": found["dense"]}


def _counted(method: str, deeper: int, gpu: bool) -> tuple[int, int]:
    """Return the layers of a network, and the operations of a step or of a pass."""
    passes = method == "passes"
    contender = "SGD" if passes else method
    training = scale_rank.runner(contender, 1, 2, deeper=deeper)
    training.step(time.perf_counter)  # the first step starts the layers
    way = as_on_a_gpu(training.opt) if gpu else nullcontext()
    with way, Kernels() as kernels, torch.enable_grad():
        _ = training.closure() if passes else training.step(time.perf_counter)
    return sum(hasattr(module, "weight") for module in training.model.modules()), kernels.count


def beyond_passes(counted: model.Counts, method: str, layers: int) -> float:
    """Return the operations of a step that are not those of a pass: what a measured pass does not
    cover.
    """
    passes = {"SGD": 1.0, "input": 1.0, "KFAC": 1.5}.get(
        method, 2.0
    )  # drawing targets goes back once more
    return model.dispatched(counted, method, layers) - passes * model.dispatched(
        counted, "passes", layers
    )


def rates(batch: int, repeats: int, clock: bench.Clock = time.process_time) -> model.Machine:
    """Return what one thread does at its best, with no ranks to talk to; by processor time."""
    best = bench.measure_rates(clock, size=512)
    training = scale_rank.runner("SGD", 1, batch)
    seconds = min(training.passes(clock)[0] for _ in range(repeats))
    small = torch.zeros(64)
    square = torch.eye(1024) * 3
    launch = float(np.median([bench.timed(clock, lambda: small.add_(1.0)) for _ in range(1000)]))
    inversion = min(bench.timed(clock, lambda: _inverted(square)) for _ in range(3))
    return model.Machine(
        passes=model.first_pass(reference_cnn(), batch) / seconds,
        products=best.gemm,
        inverses=len(square) ** 3 / 2 / inversion,
        memory=best.memory,
        link=float("inf"),
        latency=0.0,
        launch=launch,
        overlaps=False,
        cores=os.cpu_count() or 1,
    )


def _inverted(square: torch.Tensor) -> torch.Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(square))


def on_ranks(world: int, steps: int, batch: int, what: str = "copies") -> list[dict[str, Any]]:
    """Return what every rank of a world of local processes wrote.

    Args:
        world: the ranks.   steps: of every method.   batch: samples of a rank.
        what: ``copies`` of the model on every rank, or ``shards``.

    Raises:
        RuntimeError: a rank failed.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{rank}.json" for rank in range(world)]
        given = [str(port)], [str(steps), str(batch), what]
        commands = [
            [
                sys.executable,
                "-m",
                scale_rank.__name__,
                str(r),
                str(world),
                *given[0],
                str(out),
                *given[1],
            ]
            for r, out in enumerate(outs)
        ]
        running = [subprocess.Popen(c, stderr=subprocess.PIPE, text=True) for c in commands]
        try:
            errors = [process.communicate(timeout=600)[1] for process in running]
        finally:
            for process in running:
                process.kill()
        if any(process.returncode for process in running):
            raise RuntimeError(f"every rank must end well, got {errors}")
        return [json.loads(out.read_text()) for out in outs]


def check(*, steps: int, batch: int) -> dict[str, Any]:
    """Return the rates of this machine, and predicted beside measured seconds of a step.

    Rates come from one process alone, latency and bandwidth from all-reduces of two ranks; no step
    with several ranks enters the prediction. Wall time holds everything, turns on shared cores
    included; processor time holds what one rank computes, and other people's work on the machine
    does not enter it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    machine = rates(batch, steps)
    torch.set_num_threads(threads)
    counted = operations(gpu=False)
    found = {world: on_ranks(world, steps, batch) for world in WORLDS}
    machine = _linked(machine, found[2][0]["collectives"])
    network = reference_cnn()
    rows = []
    for world, ranks in found.items():
        for method in ranks[0]["methods"]:
            work = model.work(network, method, batch=batch, ranks=world)
            launched = beyond_passes(counted, method, len(network.layers))
            busy = model.busy_seconds(work, world, machine, launched)
            wire = model.wire_seconds(work, world, machine)
            alone = model.busy_seconds(work, 1, machine, launched)
            row = {"ranks": world, "method": method, "state_predicted": work.state}
            row["state"] = max(rank["methods"][method]["state"] for rank in ranks)
            row |= _compared(
                "wall", busy + wire, max(rank["methods"][method]["wall"] for rank in ranks)
            )
            row |= _compared(
                "processor", alone, max(rank["methods"][method]["processor"] for rank in ranks)
            )
            rows.append(row)
    load = os.getloadavg()[0]
    return {
        "machine": vars(machine),
        "operations": counted,
        "batch": batch,
        "load": load,
        "rows": rows,
    }


def check_shards(*, steps: int, batch: int) -> list[dict[str, Any]]:
    """Return predicted beside measured bytes of a rank under FSDP2, on 1 and 2 local ranks, and the
    seconds of a step.

    Bytes are exact: no time enters them. Of several ranks the one that keeps most counts.
    """
    rows = []
    for world in WORLDS[:2]:
        ranks = on_ranks(world, steps, batch, "shards")
        for method in scale_rank.SHARDED:
            found = [rank["methods"][method] for rank in ranks]
            predicted = model.shards(reference_cnn(), method, world)
            row: dict[str, Any] = {"ranks": world, "method": method}
            for part, size in predicted.items():
                row[f"{part}_predicted"] = size
                row[part] = max(rank[part] for rank in found)
            row["wall"] = max(rank["wall"] for rank in found)
            rows.append(row)
    return rows


def _compared(clock: str, predicted: float, measured: float) -> dict[str, float]:
    return {
        f"{clock}_predicted": predicted,
        f"{clock}_measured": measured,
        f"{clock}_ratio": predicted / measured,
    }


def _linked(machine: model.Machine, collectives: dict[str, list[float]]) -> model.Machine:
    """Return the machine with latency and bandwidth of a link between two ranks.

    With two ranks the cheaper algorithm is one exchange: ``τ + n/b``.
    """
    small, large = collectives["bytes"]
    short, long = collectives["seconds"]
    link = (large - small) / max(long - short, 1e-9)
    return model.Machine(**{**vars(machine), "link": link, "latency": short})
