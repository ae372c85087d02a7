"""Ablations for readers: one plot and one sentence each, and the maps of the good region of step
sizes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure


def show_all(found: Mapping[str, Any], console: Console) -> None:
    """Print one sentence for every study, and how wide the good region of every map is."""
    console.print(
        f"{found['title']}, batch {found['batch']}, {found['steps']} steps, base {found['base']}"
    )
    for study in found["studies"].values():
        console.print("* " + study["sentence"])
    for line in widths(found["maps"]):
        console.print("* " + line)


def widths(maps: Mapping[str, Sequence[Mapping[str, Any]]], within: float = 1.25) -> list[str]:
    """Return for every map how far its step sizes reach within a factor of its own best loss."""
    lines = []
    for name, points in maps.items():
        known = [p for p in points if p["loss"] is not None]
        if known:
            best = min(known, key=lambda p: p["loss"])
            good = [p["lr"] for p in known if p["loss"] <= within * best["loss"]]
            lines.append(
                f"{name}: best loss {best['loss']:.3f} at lr {best['lr']:g}; within {within:g} "
                "times of it, "
                f"{len(good)} of {len(points)} points, lr from {min(good):g} to {max(good):g}"
            )
    return lines


def plot_all(found: Mapping[str, Any], out: Path) -> None:
    """Write one plot of all studies and one of the maps."""
    figure, axes = new_figure(len(found["studies"]), width=2.6, height=4.6)
    for axis, study in zip(axes, found["studies"].values(), strict=True):
        _bars(axis, study)
    figure.suptitle(
        f"{found['title']}: mean of the last training losses, one dot a seed; x: diverged"
    )
    save_figure(figure, out / "ablations.png")
    figure, axes = new_figure(2)
    _map(axes[0], found["maps"]["kfqn_eager"], figure)
    for name, colour in (("sgd", COLOURS[1]), ("adam", COLOURS[2])):
        points = found["maps"][name]
        # None, of a run that diverged, becomes NaN: no dot
        losses = np.array([p["loss"] for p in points], dtype=float)
        axes[1].plot([p["lr"] for p in points], losses, "o-", color=colour, label=name)
    axes[1].set(xscale="log", yscale="log", xlabel="lr", ylabel="training loss")
    axes[1].legend()
    axes[1].grid(alpha=0.3)
    save_figure(figure, out / "sensitivity.png")


def _bars(axis: Any, study: Mapping[str, Any]) -> None:
    for i, losses in enumerate(study["losses"].values()):
        known = [v for v in losses if v is not None]
        if known:
            colour = COLOURS[0] if i == 0 else COLOURS[5]
            axis.bar(i, sum(known) / len(known), color=colour, alpha=0.6)
            axis.plot([i] * len(known), known, "k.", markersize=5)
        if len(known) < len(losses):
            axis.plot(i, 0.05, "x", color=COLOURS[1])
    axis.set_xticks(
        range(len(study["losses"])), study["losses"], rotation=60, ha="right", fontsize=8
    )
    axis.set_title(study["question"], fontsize=8)


def _map(axis: Any, points: Sequence[Mapping[str, Any]], figure: Any) -> None:
    rates, dampings = (sorted({p[key] for p in points}) for key in ("lr", "damping"))
    grid = np.full((len(dampings), len(rates)), np.nan)
    for p in points:
        if p["loss"] is not None:
            grid[dampings.index(p["damping"]), rates.index(p["lr"])] = p["loss"]
    image = axis.imshow(grid, origin="lower", cmap="viridis_r", norm="log")
    axis.set_xticks(range(len(rates)), [f"{v:g}" for v in rates])
    axis.set_yticks(range(len(dampings)), [f"{v:g}" for v in dampings])
    axis.set(xlabel="lr", ylabel="damping", title="kfqn_eager (white: diverged)")
    figure.colorbar(image, ax=axis, label="training loss")
