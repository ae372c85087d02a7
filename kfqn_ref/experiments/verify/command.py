"""``kfqn verify``: shows on real data that the reference and the torch optimizer are one
algorithm.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    out: Annotated[
        Path,
        typer.Option(
            help="Directory for verify.json and verify.png, replaced if there.", file_okay=False
        ),
    ] = Path("out/verify"),
) -> None:
    """Train reference and torch side by side, and compare.

    Every preset runs on scikit-learn's digits in both implementations, in float64, from the same
    weights on the same batches. Printed and written: the largest relative deviation of weights, H_a
    and H_g, the smallest eigenvalues, the secant residual, and how many pairs were damped and
    skipped. Exit code 1 if a bound is broken.
    """
    from rich.console import (
        Console,
    )  # these imports take a second: 'kfqn verify --help' does without
    from rich.progress import track

    from kfqn_ref.experiments.data import digits
    from kfqn_ref.experiments.verify.side_by_side import STEPS, compare
    from kfqn_ref.method.presets import PRESETS

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error}") from error
    console = Console()
    train = digits().train
    names = track(PRESETS, "comparing", console=console, transient=True)
    comparisons = [compare(name, train) for name in names]
    console.print(table(comparisons))
    baselines = baseline_losses(train)
    write(comparisons, baselines, out)
    broken = [f"{c.preset}: {words}" for c in comparisons for words in c.broken]
    for words in broken:
        console.print(f"[red]broken[/red]  {words}", highlight=False, soft_wrap=True)
    if broken:
        raise typer.Exit(1)
    console.print(
        f"reference and torch agree on {len(comparisons)} presets over {STEPS} steps; "
        f"written to {out / 'verify.json'} and {out / 'verify.png'}",
        highlight=False,
        soft_wrap=True,
    )


def table(comparisons: list[Any]) -> Any:
    """The table of deviations, one row a preset; fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    result.add_column("preset", no_wrap=True)
    deviations = ("largest\ndev. W", "\nH_a", "\nH_g")
    for heading in (
        *deviations,
        "min eig\nH_a",
        "\nH_g",
        "secant\nresid.",
        "damped/\nskipped/\npairs",
    ):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("verdict", no_wrap=True)
    for c in comparisons:
        numbers = [max(d) for d in (c.deviation_W, c.deviation_H_a, c.deviation_H_g)]
        numbers += [c.smallest_H_a, c.smallest_H_g, c.secant]
        verdict = "[red]broken[/red]" if c.broken else "[green]agree[/green]"
        pairs = f"{c.damped}/{c.skipped}/{c.updates + c.skipped}"
        result.add_row(c.preset, *(f"{x:.0e}" for x in numbers), pairs, verdict)
    return result


def baseline_losses(train: Any) -> dict[str, dict[str, list[float]]]:
    """Loss per step of the reference's SGD and Adam, untuned, and KFAC with our values, on both
    networks.
    """
    import numpy as np

    from kfqn_ref.experiments.verify.side_by_side import CNN, DAMPING, LR, MLP, SEED, batches
    from kfqn_ref.method.baselines import SGD, Adam
    from kfqn_ref.method.kfac import KFAC
    from kfqn_ref.method.train import fit

    losses: dict[str, dict[str, list[float]]] = {}
    for kind, network in (("CNN", CNN), ("MLP", MLP)):
        start = network.init(np.random.default_rng(SEED))
        losses[kind] = {
            type(method).__name__: [
                step.loss for step in fit(method, network, start, batches(train))
            ]
            for method in (SGD(), Adam(), KFAC(lr=LR, damping=DAMPING))
        }
    return losses


def write(comparisons: list[Any], baselines: dict[str, dict[str, list[float]]], out: Path) -> None:
    """Write ``verify.json`` and ``verify.png``."""
    from dataclasses import asdict

    from kfqn_ref.experiments.verify.side_by_side import BATCH_SIZE, DAMPING, DEVIATION, LR, STEPS
    from kfqn_ref.experiments.versions import versions
    from kfqn_ref.files import write_atomically

    broken = any(c.broken for c in comparisons)
    verdict = "broken" if broken else "agree"
    content = {
        "versions": versions(),
        "setting": {
            "data": "digits",
            "steps": STEPS,
            "batch_size": BATCH_SIZE,
            "lr": LR,
            "damping": DAMPING,
        },
        "bounds": {"deviation": DEVIATION, "secant_over_bound": 1.0},
        "verdict": verdict,
        "presets": [asdict(c) for c in comparisons],
        "baselines": baselines,
    }
    write_atomically(
        out / "verify.json", json.dumps(finite(content), indent=1, allow_nan=False).encode()
    )
    plot(comparisons, baselines, out / "verify.png")


def finite(value: Any) -> Any:
    """The value as JSON has it: ``null`` where a number is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def plot(comparisons: list[Any], baselines: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Losses of reference and torch on top of each other, beside SGD, Adam, KFAC; and the
    deviations.
    """
    from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure
    from kfqn_ref.experiments.verify.side_by_side import DEVIATION, MLP, network_of
    from kfqn_ref.method.presets import preset

    figure, (cnn, mlp, deviation) = new_figure(3, height=4.4)
    for axis, kind in ((cnn, "CNN"), (mlp, "MLP")):
        for (name, losses), style in zip(baselines[kind].items(), (":", "-.", "--"), strict=True):
            axis.plot(
                losses, color="0.45", linestyle=style, linewidth=1.2, label=f"{name}, reference"
            )
        axis.set(
            title=f"{kind} on digits (nothing tuned)",
            xlabel="step",
            ylabel="loss of the mini-batch",
        )
    for colour, c in zip(COLOURS, comparisons, strict=False):
        axis = mlp if network_of(preset(c.preset)) is MLP else cnn
        axis.plot(
            c.reference_loss, color=colour, linewidth=5, alpha=0.35, label=f"{c.preset}, reference"
        )
        axis.plot(c.torch_loss, color=colour, linewidth=1.2, label=f"{c.preset}, torch")
        largest = [
            max(d) for d in zip(c.deviation_W, c.deviation_H_a, c.deviation_H_g, strict=True)
        ]
        deviation.plot(largest, color=colour, label=c.preset)
    deviation.axhline(DEVIATION, color="black", linestyle="--", label="bound")
    deviation.set(
        title="reference against torch",
        xlabel="step",
        ylabel="largest relative deviation",
        yscale="log",
    )
    deviation.set_ylim(top=300 * DEVIATION)  # room for the legend
    for axis in (cnn, mlp, deviation):
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    save_figure(figure, path)
