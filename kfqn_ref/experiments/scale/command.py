"""``kfqn scale``: what a step would cost on many GPUs, by a model that is checked on local
ranks.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from kfqn_ref.experiments.scale import model
from kfqn_ref.experiments.scale.networks import Network, large, reference_cnn
from kfqn_ref.files import write_atomically

GPUS = (8, 64, 1024)


@dataclass(frozen=True)
class Assumptions:
    """The machine of the extrapolation. No figure here was measured by us.

    Args:
        peak: 1e12 operations a second in passes; TF32 on an A100 (nvidia2021a100).
        product_peak: the same in products of float32 (nvidia2021a100).
        efficiency: share of both that is reached; an assumption, as all that follows but
            ``memory``.
        inverse_efficiency: share of ``product_peak`` that a Cholesky inversion reaches.
        memory: GB a second (nvidia2021a100).
        link: GB a second that one GPU sends; 200 Gb/s.
        latency: microseconds of a message.   launch: microseconds of a kernel's launch.
        batch: samples of one GPU.   interval: steps from one curvature update to the next.
        pairs: memory of the lean form.
    """

    peak: float = 156.0
    product_peak: float = 19.5
    efficiency: float = 0.4
    inverse_efficiency: float = 0.05
    memory: float = 2039.0
    link: float = 25.0
    latency: float = 5.0
    launch: float = 5.0
    batch: int = 32
    interval: int = 1
    pairs: int = 100

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            upper = 1 if name.endswith("efficiency") else float("inf")
            if not 0 < value <= upper or value == float("inf"):
                allowed = "in (0, 1]" if upper == 1 else "positive and finite"
                raise ValueError(f"{name} must be {allowed}, got {value}")

    @property
    def machine(self) -> model.Machine:
        """The machine in multiply-adds and bytes; a multiply-add is two operations."""
        reached = 1e12 / 2 * self.efficiency
        return model.Machine(
            passes=self.peak * reached,
            products=self.product_peak * reached,
            inverses=self.product_peak * 1e12 / 2 * self.inverse_efficiency,
            memory=1e9 * self.memory,
            link=1e9 * self.link,
            latency=1e-6 * self.latency,
            launch=1e-6 * self.launch,
        )


def predicted(
    network: Network, ranks: int, given: Assumptions, operations: model.Counts
) -> dict[str, Any]:
    """Return, by method, seconds of a step and on the wire, bytes sent and kept, and what limits
    the step.

    Args:
        network: the network.   ranks: the GPUs, at least 1.   given: the assumptions.
        operations: what a step dispatches, by method.
    """
    machine = given.machine
    rows = {}
    for method in model.METHODS:
        work = model.work(
            network,
            method,
            batch=given.batch,
            ranks=ranks,
            interval=given.interval,
            pairs=given.pairs,
        )
        launched = _launched(operations, method, given.interval, len(network.layers))
        busy = model.busy_seconds(work, ranks, machine, launched)
        computing = model.busy_seconds(work, ranks, machine, 0)
        wire = model.wire_seconds(work, ranks, machine)
        rows[method] = {
            "seconds": busy + wire,
            "computing": computing,
            "launching": launched * machine.launch,
        }
        rows[method] |= {"wire": wire, "sent": work.sent, "state": work.state}
    return rows


def _launched(operations: model.Counts, method: str, interval: int, layers: int) -> float:
    """Return the operations of a step: between updates it is taken for one of SGD."""
    sgd, updating = (model.dispatched(operations, name, layers) for name in ("SGD", method))
    return sgd + (updating - sgd) / interval


COUNTS = [*GPUS]
"""Numbers of GPUs unless the user says; typer copies the list."""


def command(
    out: Annotated[
        Path, typer.Option(help="Directory for scale.json, scale.png.", file_okay=False)
    ] = Path("out/scale"),
    gpus: Annotated[
        list[int], typer.Option(help="Numbers of GPUs; repeat the option.", min=1)
    ] = COUNTS,
    measure: Annotated[
        bool, typer.Option(help="Check the model on 1, 2 and 4 local ranks.")
    ] = True,
    shards: Annotated[
        bool, typer.Option(help="Also check memory and steps under FSDP2, on 1 and 2 local ranks.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Steps of each method in the check.", min=1)] = 30,
    peak: Annotated[float, typer.Option(help="Passes: peak, TFLOP/s.")] = Assumptions.peak,
    product_peak: Annotated[
        float, typer.Option(help="Products: peak, TFLOP/s.")
    ] = Assumptions.product_peak,
    efficiency: Annotated[
        float, typer.Option(help="Share of the peaks reached.")
    ] = Assumptions.efficiency,
    inverse_efficiency: Annotated[
        float, typer.Option(help="Share of the peak of products that inversions reach.")
    ] = Assumptions.inverse_efficiency,
    memory: Annotated[float, typer.Option(help="Memory bandwidth, GB/s.")] = Assumptions.memory,
    link: Annotated[
        float, typer.Option(help="Bandwidth of a GPU's link, GB/s.")
    ] = Assumptions.link,
    latency: Annotated[float, typer.Option(help="Latency of a message, µs.")] = Assumptions.latency,
    launch: Annotated[float, typer.Option(help="Launch of a kernel, µs.")] = Assumptions.launch,
    batch: Annotated[int, typer.Option(help="Samples of one GPU.", min=1)] = Assumptions.batch,
    interval: Annotated[
        int, typer.Option(help="Steps per curvature update.", min=1)
    ] = Assumptions.interval,
    pairs: Annotated[int, typer.Option(help="Pairs of the lean form.", min=1)] = Assumptions.pairs,
) -> None:
    """Model a step on many GPUs; check it on local ranks.

    Time, bytes and state of SGD, KFAC and KF-QN for ResNet-50, VGG-16 and ViT-B/16: extrapolated on
    paper. Nothing here ran on a GPU or by NCCL. The check compares predicted and measured steps of
    the reference CNN on processes of this machine.
    """
    from rich.console import (
        Console,
    )  # these imports take a second: 'kfqn scale --help' does without

    from kfqn_ref.experiments.scale import measure as scale_measure
    from kfqn_ref.experiments.scale import show as scale_show

    try:
        given = Assumptions(peak, product_peak, efficiency, inverse_efficiency, memory, link,
                            latency, launch, batch, interval, pairs)  # fmt: skip
        if any(a >= b for a, b in pairwise(gpus)):
            raise ValueError(f"the numbers of GPUs must increase, got {gpus}")
        out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    console = Console()
    operations = scale_measure.operations()
    found = report(gpus, given, operations)
    if measure:
        with console.status("measuring on 1, 2 and 4 local ranks"):
            found["check"] = scale_measure.check(steps=steps, batch=128)
        console.print(scale_show.check_table(found["check"]))
    if shards:
        with console.status("measuring shards on 1 and 2 local ranks"):
            found["shards"] = scale_measure.check_shards(steps=steps, batch=128)
        console.print(scale_show.shards_table(found["shards"]))
    scale_show.show(console, found)
    write_atomically(out / "scale.json", (json.dumps(found, indent=1) + "\n").encode())
    scale_show.plot(found, out / "scale.png")
    console.print(f"written to {out}", highlight=False, soft_wrap=True)


def report(gpus: list[int], given: Assumptions, operations: model.Counts) -> dict[str, Any]:
    """Return the extrapolation as data, and the messages of the reference CNN on two ranks."""
    networks = {
        n.name: {str(ranks): predicted(n, ranks, given, operations) for ranks in gpus}
        for n in large()
    }
    heavy = {n.name: _heavy(n, given.batch) for n in large()}
    cnn = {
        method: model.work(
            reference_cnn(), method, batch=128, ranks=2, interval=given.interval
        ).sent
        for method in model.METHODS
    }
    return {"assumptions": vars(given), "operations": operations, "networks": networks} | {
        "dear_layers": heavy,
        "reference_cnn_sent": cnn,
    }


def _heavy(network: Network, batch: int) -> list[dict[str, Any]]:
    """Return the layers that call for the lean form, with what a matrix ``H_a`` keeps and computes
    there.
    """
    return [
        {
            "layer": layer.name,
            "d_a": layer.d_a,
            "H_a_bytes": model.FLOAT * layer.d_a**2,
            "over_passes": model.direction(layer, layer.d_g, None) / (5 * batch * layer.macs),
        }
        for layer in model.dear_layers(network, batch)
    ]
