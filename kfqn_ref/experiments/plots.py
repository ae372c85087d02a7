"""Plots to PNG files, in colours that colour-blind readers tell apart, without any display."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from kfqn_ref.files import write_atomically

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito


def new_figure(panels: int, *, width: float = 5.0, height: float = 3.8) -> tuple[Figure, list[Any]]:
    """A figure with ``panels`` axes side by side."""
    figure = Figure(figsize=(width * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def save_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())


def plot_run(history: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Losses, and errors if there are any, against the epoch."""
    errors = any(record.get("test_error") is not None for record in history)
    panels = 2 if errors else 1
    figure, axes = new_figure(panels)
    _lines(axes[0], history, ("train_loss", "test_loss"), "loss")
    positive = [
        v for r in history for k in ("train_loss", "test_loss") if (v := r[k]) is not None and v > 0
    ]
    if positive:
        log_losses(axes[0])
    if errors:
        _lines(axes[1], history, ("train_error", "test_error"), "share of wrong classes")
    figure.suptitle(title)
    save_figure(figure, path)


def log_losses(axis: Any) -> None:
    """A logarithmic axis whose ticks read 0.3, not 3 x 10^-1."""
    axis.set_yscale("log")
    for formatter in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def whole_epochs(axis: Any) -> None:
    """An axis of epochs, with ticks at whole ones only."""
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _lines(
    axis: Any, history: Sequence[Mapping[str, Any]], names: Sequence[str], label: str
) -> None:
    epochs = [record["epoch"] for record in history]
    for name, colour, marker in zip(names, COLOURS, "os", strict=False):
        values = [_or_nan(record[name]) for record in history]
        axis.plot(
            epochs, values, color=colour, marker=marker, markersize=3, label=name.replace("_", " ")
        )
    whole_epochs(axis)
    axis.set_ylabel(label)
    axis.legend()
    axis.grid(alpha=0.3)
