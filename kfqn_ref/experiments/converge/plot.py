"""Plots of the convergence theorem: both sides and a slope line; ``‖B‖`` under the two kinds of
damping.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure
from kfqn_ref.method.convergent import Convergent
from kfqn_ref.method.presets import preset
from kfqn_ref.testing.convergence.lemmas import negative_curvature_repeats
from kfqn_ref.theory.bounds import pair_bound

UPDATES = 20
OPTIONS = {"gamma": 1.0, "mu1": 0.2, "damping": 0.1, "memory": 5}


def plot_results(results: list[Any], path: Path) -> None:
    """One panel a task: running means, their bounds, and lines of slope b − 1 through the last
    mean.
    """
    names = list(dict.fromkeys(r.task for r in results))
    figure, axes = new_figure(len(names))
    for axis, name in zip(axes, names, strict=True):
        for r, colour in zip((r for r in results if r.task == name), COLOURS, strict=False):
            left = r.means.mean(axis=0)
            N = np.arange(1, len(r.bound) + 1)
            axis.loglog(N, left, color=colour, label=f"left side, b = {r.rate.b:g}")
            axis.loglog(N, r.bound, color=colour, linestyle="--", label="right side")
            axis.loglog(
                N,
                left[-1] * (N / N[-1]) ** (r.rate.b - 1),
                color=colour,
                linestyle=":",
                label="slope b − 1",
            )
        axis.set(title=name, xlabel="N", ylabel="running mean of ‖∇f‖²")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="x-small", ncols=3)
    save_figure(figure, path)


def growth() -> dict[str, list[float]]:
    """Return ``‖B‖`` of ``H_g`` update by update, damped against ``H_k`` and against ``H_0``, and
    its bound.

    The same pair of negative curvature comes again and again (see ``negative_curvature_repeats``).
    """
    rest = {name: value for name, value in OPTIONS.items() if name != "gamma"}
    return {
        "against H_k": negative_curvature_repeats(
            preset("kfqn_cnn_l", pair_decay=0.0, **rest), UPDATES
        ),
        "against H_0": negative_curvature_repeats(Convergent(**OPTIONS), UPDATES),
        "M_g": [pair_bound(OPTIONS["gamma"], OPTIONS["mu1"], OPTIONS["damping"] ** 0.5)] * UPDATES,
    }


def plot_growth(path: Path) -> None:
    """``‖B‖`` against the number of updates, both kinds of damping."""
    figure, (axis,) = new_figure(1)
    for (name, values), colour in zip(growth().items(), COLOURS, strict=False):
        style = ":" if name == "M_g" else "-"
        updates = range(1, UPDATES + 1)
        axis.semilogy(updates, values, color=colour, label=name, linestyle=style)
    axis.set(
        xlabel="updates with one pair of negative curvature",
        ylabel="‖B‖",
        title="what Powell's damping refers to",
    )
    axis.grid(alpha=0.3)
    axis.legend()
    save_figure(figure, path)
