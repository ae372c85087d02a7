"""Results of a race for readers: tables and verdicts on the terminal, curves as PNG files."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure
from kfqn_ref.experiments.race.entrants import ENTRANTS
from kfqn_ref.experiments.race.report import WINDOW, mean, smoothed
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.suite import Suite, final_points
from kfqn_ref.experiments.race.tasks import Task

MEASURES = {"loss": "equal steps", "loss_at_equal_time": "equal time"}


COLUMNS = (
    "optimizer", "tuned", "step / SGD's (median, mean)", "loss, equal steps", "loss, equal time",
    "steps to target", "/ SGD's", "time / SGD's", "test error or loss",
)  # fmt: skip  # a list


def spread(values: Sequence[float | None]) -> str:
    """Return mean and range of the seeds."""
    middle = mean(values)
    if middle is None:
        return "diverged" if values else "-"
    known = [v for v in values if v is not None]
    return f"{middle:.4g} [{min(known):.4g}, {max(known):.4g}]"


def number(value: float | None, digits: int = 3) -> str:
    """Return the number, a dash for None."""
    return "-" if value is None else f"{value:.{digits}g}"


def table(result: Mapping[str, Any]) -> Table:
    """Return the table of one task, best loss first."""
    shown = Table(title=f"{result['title']}, batch {result['batch']}, {result['steps']} steps")
    for column in COLUMNS:
        shown.add_column(column)
    for found in sorted(result["rows"].values(), key=lambda r: mean(r["loss"]) or float("inf")):
        time = found["time"] or {}
        classifies = any(v is not None for v in found["test_error"])
        tests = found["test_error"] if classifies else found["test_loss"]
        label = f"[bold]{found['label']}[/bold]" if found["ours"] else found["label"]
        shown.add_row(
            label,
            ", ".join(f"{k} {v:.3g}" for k, v in (found["hyper"] or {}).items()) or "diverged",
            f"{number(time.get('median_ratio'))}, {number(time.get('mean_ratio'))}",
            spread(found["loss"]), spread(found["loss_at_equal_time"]),
            number(found["steps_to_target"]), number(found["steps_ratio"]),
            number(found["time_ratio"]), number(mean(tests)),
        )  # fmt: skip  # one row
    return shown


def verdict_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the verdicts of one task as sentences."""
    lines = []
    for measure, words in MEASURES.items():
        found = result["verdicts"][measure]
        if found:
            ours, theirs = (result["rows"][found[side]]["label"] for side in ("ours", "theirs"))
            gap = found["difference"]
            lines.append(
                f"{result['title']}, {words}: {found['verdict']} - ours {ours} "
                f"{found['our_mean']:.4g}, "
                f"others {theirs} {found['their_mean']:.4g}, "
                f"difference {number(gap['low'])} to {number(gap['high'])}"
            )
    return lines


def show(suite: Suite, results: Mapping[str, Any], console: Console) -> None:
    """Print the tables, the verdicts and how to read them."""
    for result in results.values():
        console.print(table(result))
    console.print(f"[bold]{suite.rule}.[/bold]")
    console.print(
        f"loss: mean of the last {WINDOW} mini-batch losses, mean over seeds, and its range; "
        "target: what every seed of SGD reaches. Time is not that of the runs: it is the number of "
        "steps times a step time measured apart, in one process, interleaved with SGD's (ratio of "
        "means); the budget of equal time is SGD's whole run. A verdict is the interval of the "
        "difference between the best of ours and the best of the others, seed by seed, at the "
        "level that covers all pairs of entrants at once."
    )
    for result in results.values():
        for line in verdict_lines(result):
            console.print(line)


def plot(suite: Suite, task: Task, store: Store, result: Mapping[str, Any], path: Path) -> None:
    """Draw training loss and test error (or loss) against the epoch and against time in steps of
    SGD.
    """
    figure, axes = new_figure(4, width=4.6, height=4.4)
    epoch = task.batch / _train_size(task)
    metric = "test_loss" if task.autoencoder else "test_error"
    for name, found in result["rows"].items():
        points = final_points(suite, task, ENTRANTS[name], store)
        runs = [r for p in points if p.key in store and (r := store[p.key])["score"] is not None]
        if not runs:
            continue
        style = line_style(result["rows"], name)
        step = found["time"]["mean_ratio"] if found["time"] else None
        marks = list(range(WINDOW, task.steps + 1, 5))
        losses = [[smoothed(r["losses"], n) for n in marks] for r in runs]
        seen = [e["step"] for e in runs[0]["evaluations"]]
        tests = [[e[metric] for e in r["evaluations"]] for r in runs]
        for axis, scale in ((0, epoch), (1, step)):
            if scale is not None:
                _band(axes[axis], [n * scale for n in marks], losses, found["label"], style)
                _band(axes[2 + axis], [n * scale for n in seen], tests, found["label"], style)
    titles = ("training loss", "training loss", metric.replace("_", " "), metric.replace("_", " "))
    for axis, title, label in zip(
        axes, titles, ("epoch", "time, in steps of SGD") * 2, strict=True
    ):
        axis.set_xlabel(label)
        axis.set_title(title)
        scale = "log" if title == "training loss" else "linear"
        axis.set_yscale(scale)
        axis.grid(alpha=0.3)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    figure.suptitle(f"{result['title']}: median and range of {len(suite.seeds)} seeds")
    save_figure(figure, path)


def line_style(rows: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return colour and line of an entrant: no two are alike, ours are solid or dash-dotted."""
    side = [other for other in rows if rows[other]["ours"] == rows[name]["ours"]]
    turn, colour = divmod(side.index(name), len(COLOURS))
    lines = ("-", "-.") if rows[name]["ours"] else ("--", ":")
    return {"color": COLOURS[colour], "linestyle": lines[turn % 2]}


def _band(
    axis: Any, x: Sequence[float], curves: Sequence[Sequence[float]], label: str, style: dict
) -> None:
    """Draw the median over the curves, and their range."""
    columns = list(zip(*curves, strict=True))
    axis.plot(x, [statistics.median(c) for c in columns], label=label, linewidth=1.2, **style)
    axis.fill_between(
        x, [*map(min, columns)], [*map(max, columns)], color=style["color"], alpha=0.12
    )


def _train_size(task: Task) -> int:
    return {"digits": 1500, "fashion-mnist": 60_000}[task.data]
