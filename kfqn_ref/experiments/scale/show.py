"""Tables and plot of ``kfqn scale``, within 80 columns."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure


def show(console: Console, found: dict[str, Any]) -> None:
    """Print the assumptions, one table a network, and the layers that call for the lean form."""
    given = ", ".join(f"{name} {value:g}" for name, value in found["assumptions"].items())
    console.print(f"Assumed, not measured; nothing ran on a GPU: {given}.", highlight=False)
    for name, by_ranks in found["networks"].items():
        console.print(network_table(name, by_ranks))
    for name, layers in found["dear_layers"].items():
        for layer in layers[:2]:
            console.print(
                f"{name} {layer['layer']}: d_a = {layer['d_a']:,}, H_a as a matrix "
                f"{layer['H_a_bytes'] / 1e9:.2f} GB; H_g M H_a takes "
                f"{layer['over_passes']:.1f} times the "
                f"passes of the layer: lean",
                highlight=False,
            )
    cnn = ", ".join(f"{m} {size / 1e6:.2f}" for m, size in found["reference_cnn_sent"].items())
    console.print(f"reference CNN, MB handed to collectives a step: {cnn}", highlight=False)


def network_table(name: str, by_ranks: dict[str, Any]) -> Table:
    """Every number of GPUs with all methods."""
    table = Table("GPUs", "method", title=f"{name}: a step, predicted", title_justify="left")
    for column in ("ms", "/ SGD", "launches ms", "wire ms", "MB sent", "state GB"):
        table.add_column(column, justify="right")
    for ranks, rows in by_ranks.items():
        base = rows["SGD"]["seconds"]
        for method, row in rows.items():
            times = f"{1e3 * row['seconds']:.0f}", f"{row['seconds'] / base:.2f}"
            parts = f"{1e3 * row['launching']:.0f}", f"{1e3 * row['wire']:.1f}"
            sizes = f"{row['sent'] / 1e6:.0f}", f"{row['state'] / 1e9:.2f}"
            label = ranks if method == "SGD" else ""
            table.add_row(label, method, *times, *parts, *sizes, end_section=method == "input")
    return table


def check_table(check: dict[str, Any]) -> Table:
    """Predicted beside measured, by wall time and by processor (CPU) time."""
    title = (
        f"reference CNN on local ranks, gloo, {check['machine']['cores']:.0f} cores "
        f"shared, load {check['load']:.1f}; milliseconds"
    )
    table = Table("ranks", "method", title=title, title_justify="left")
    for clock in ("wall", "CPU"):
        for column in (f"{clock}, model", clock, "ratio"):
            table.add_column(column, justify="right")
    for row in check["rows"]:
        cells = []
        for clock in ("wall", "processor"):
            cells += [f"{1e3 * row[f'{clock}_{part}']:.1f}" for part in ("predicted", "measured")]
            cells.append(f"{row[f'{clock}_ratio']:.2f}")
        table.add_row(str(row["ranks"]), row["method"], *cells)
    return table


def shards_table(rows: list[dict[str, Any]]) -> Table:
    """Bytes of a rank under FSDP2, and a step beside that of one process and of SGD."""
    wall = {(row["method"], row["ranks"]): row["wall"] for row in rows}
    table = Table("ranks", "method", title="FSDP2 on local ranks, gloo", title_justify="left")
    for column in ("kB, model", "kB", "ratio", "step ms", "/ 1 rank", "/ SGD"):
        table.add_column(column, justify="right")
    for row in rows:
        parts = ("weights", "gradients", "state")
        predicted = sum(row[f"{part}_predicted"] for part in parts)
        kept = sum(row[part] for part in parts)
        sizes = f"{predicted / 1e3:.1f}", f"{kept / 1e3:.1f}", f"{predicted / kept:.2f}"
        over_alone = row["wall"] / wall[row["method"], 1]
        over_sgd = row["wall"] / wall["SGD", row["ranks"]]
        times = f"{1e3 * row['wall']:.1f}", f"{over_alone:.2f}", f"{over_sgd:.2f}"
        table.add_row(str(row["ranks"]), row["method"], *sizes, *times)
    return table


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw seconds of a step by GPUs, one panel a network."""
    figure, axes = new_figure(len(found["networks"]), width=4.0)
    for axis, (name, by_ranks) in zip(axes, found["networks"].items(), strict=True):
        draw(axis, name, by_ranks)
    save_figure(figure, path)


def draw(axis: Any, name: str, by_ranks: dict[str, Any]) -> None:
    """Draw one network's steps, in milliseconds."""
    ranks = [int(text) for text in by_ranks]
    for method, colour, marker in zip(
        next(iter(by_ranks.values())), COLOURS, "osD^vP", strict=False
    ):
        times = [1e3 * rows[method]["seconds"] for rows in by_ranks.values()]
        axis.loglog(ranks, times, marker=marker, markersize=4, color=colour, label=method)
    axis.set_xticks(ranks, [str(r) for r in ranks])
    axis.minorticks_off()
    axis.set(xlabel="GPUs", ylabel="milliseconds a step, predicted", title=name)
    axis.legend()
