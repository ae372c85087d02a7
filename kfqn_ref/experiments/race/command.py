"""``kfqn race``: optimizers against each other on real images, tuned by one rule, resumable."""

import json
import os
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer


class SuiteName(StrEnum):
    """What can be raced."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"
    ABLATIONS = "ablations"
    SIDES = "ablate-sides"


def command(
    suite: Annotated[SuiteName, typer.Argument(help="What to run.")] = SuiteName.QUICK,
    out: Annotated[
        Path,
        typer.Option(help="Directory for SUITE.jsonl, SUITE.json and the plots.", file_okay=False),
    ] = Path("out/race"),
    tasks: Annotated[str, typer.Option(help="Run only these tasks, as a,b.")] = "",
    entrants: Annotated[
        str, typer.Option(help="Run only these optimizers (and sgd), as a,b.")
    ] = "",
    report_only: Annotated[bool, typer.Option(help="Run nothing: report what is there.")] = False,
) -> None:
    """Race all optimizers on real images, tuned by one rule.

    `smoke` takes seconds, `quick` and `ablations` some minutes; `full` and `ablate-sides` (which
    half of the method helps) take hours. Started again with the same `--out`, a race goes on where
    it was stopped.
    """
    import torch
    from rich.console import Console

    from kfqn_ref.experiments.data import DataError
    from kfqn_ref.experiments.race.store import Store

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    _refuse_narrowing(suite, tasks, entrants)
    try:
        out.mkdir(parents=True, exist_ok=True)
        store = Store(out / f"{suite}.jsonl")
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    try:
        if suite is SuiteName.SIDES:
            _sides(suite, out, store, report_only, Console(), _names(tasks))
        elif suite is SuiteName.ABLATIONS:
            _ablations(suite, out, store, report_only, Console())
        else:
            _race(suite, out, store, report_only, Console(), _names(tasks), _names(entrants))
    except DataError as error:
        raise typer.BadParameter(str(error)) from error


def _refuse_narrowing(suite: SuiteName, tasks: str, entrants: str) -> None:
    """Refuse an option that a suite has no use for."""
    if suite is SuiteName.ABLATIONS and tasks:
        raise typer.BadParameter("'ablations' has one task: leave --tasks out")
    if suite in {SuiteName.ABLATIONS, SuiteName.SIDES} and entrants:
        raise typer.BadParameter(f"'{suite}' has variants of one optimizer: leave --entrants out")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _race(
    name: str,
    out: Path,
    store: Any,
    report_only: bool,
    console: Any,
    tasks: list[str],
    entrants: list[str],
) -> None:
    from kfqn_ref.experiments.race.report import summary
    from kfqn_ref.experiments.race.show import plot, show, verdict_lines
    from kfqn_ref.experiments.race.suite import SUITES, run_suite

    suite = SUITES[name]
    try:
        part = suite.narrowed(tasks, entrants)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not report_only:
        with _progress(console, sum(part.runs(task) for task in part.tasks)) as tell:
            run_suite(part, store, tell)
    results = summary(suite, store)
    rows = [row for result in results.values() for row in result["rows"].values()]
    notes = {row["label"]: row["note"] for row in rows if row["note"]}
    verdicts = [line for result in results.values() for line in verdict_lines(result)]
    record = {"rule": suite.rule, "notes": notes, "verdicts": verdicts, "tasks": results}
    write_record(out / f"{name}.json", f"kfqn race {name}", record)
    for task in suite.tasks:
        if task.name in results:
            plot(suite, task, store, results[task.name], out / f"{name}-{task.name}.png")
    show(suite, results, console)
    console.print(f"written to {out}")


def _ablations(name: str, out: Path, store: Any, report_only: bool, console: Any) -> None:
    from kfqn_ref.experiments.race.ablations import results, run_ablations, runs
    from kfqn_ref.experiments.race.ablations_show import plot_all, show_all

    if not report_only:
        with _progress(console, runs()) as tell:
            run_ablations(store, tell)
    found = results(store)
    write_record(out / f"{name}.json", f"kfqn race {name}", found)
    plot_all(found, out)
    show_all(found, console)
    console.print(f"written to {out}")


def _sides(
    name: str, out: Path, store: Any, report_only: bool, console: Any, tasks: list[str]
) -> None:
    from rich.table import Table

    from kfqn_ref.experiments.race.sides import chosen, results, run_sides, runs

    try:
        some = chosen(tasks)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not report_only:
        with _progress(console, runs(some)) as tell:
            run_sides(store, tell, some)
    found = results(store)
    write_record(out / "sides.json", f"kfqn race {name}", found)
    for task in found["tasks"].values():
        table = Table(
            "what learns", "lr", "damping", "mean loss", "minus input", title=task["title"]
        )
        for label, row in task["rows"].items():
            gap = row["minus_input"]
            cells = (_number(row["mean"]), _number(gap["mean"]))
            table.add_row(label, f"{row['lr']:g}", f"{row['damping']:g}", *cells)
        console.print(table)
    console.print(f"written to {out}")


def _number(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.4f}"


class _progress:
    """A bar that counts runs and shows the last one, and how long the rest will take."""

    def __init__(self, console: Any, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.bar = Progress(*columns, console=console, transient=True)
        self.task = self.bar.add_task("starting", total=total)

    def __enter__(self) -> Any:
        self.bar.start()
        return lambda key: self.bar.update(self.task, advance=1, description=key)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def write_record(path: Path, command_line: str, content: dict[str, Any]) -> None:
    """Write results as JSON with what they were computed with: command, versions, kind of
    machine.
    """
    from kfqn_ref.experiments.versions import machine
    from kfqn_ref.files import write_atomically

    record = {
        "command": command_line,
        "versions": peers_versions(),
        "machine": machine(),
        **content,
    }
    write_atomically(path, (json.dumps(record, indent=1, allow_nan=False) + "\n").encode())


def peers_versions() -> dict[str, str]:
    """Return the versions of what computes, other people's optimizers included where installed."""
    from kfqn_ref.experiments.versions import versions

    found = versions()
    for package in ("pytorch-optimizer", "asdfghjkl"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
