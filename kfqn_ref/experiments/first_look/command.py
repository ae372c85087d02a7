"""``kfqn first-look``: KF-QN-CNN at fixed values against SGD and Adam, each at the best value of a
grid.

The grid is searched on the very seed that is reported, and judged by the training loss that is
reported: that favours SGD and Adam. One seed and three epochs are a first look, not a race.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

GRID = {"sgd": (0.01, 0.03, 0.1, 0.3), "adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
OURS = {"optimizer": "kfqn_cnn", "lr": 0.3, "damping": 0.01}


@dataclass(frozen=True)
class Trial:
    """One optimizer at one step size: training loss before and after every epoch, seconds spent in
    steps.
    """

    optimizer: str
    lr: float
    train_loss: tuple[float, ...]
    seconds: tuple[float, ...]


def command(
    out: Annotated[
        Path,
        typer.Option(help="Directory for first_look.json and first_look.png.", file_okay=False),
    ] = Path("out/first-look"),
    data: Annotated[
        Literal["digits", "fashion-mnist"], typer.Option(help="The images.")
    ] = "fashion-mnist",
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the four IDX files are (default: where Debian puts them)."),
    ] = None,
    train_size: Annotated[
        int, typer.Option(help="Use this many training images, from the first.")
    ] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 200,
    epochs: Annotated[int, typer.Option(help="Epochs of every trial.")] = 3,
    seed: Annotated[
        int, typer.Option(help="Of the initial weights and the order of the data.")
    ] = 0,
) -> None:
    """Compare KF-QN-CNN with SGD and Adam, tuned.

    KF-QN-CNN runs once at lr 0.3 and damping 0.01; SGD with momentum 0.9 and Adam run at every step
    size of a grid, of which the one with the lowest training loss after the last epoch counts. Exit
    code 1 if KF-QN-CNN does not end below both.
    """
    from rich.console import Console
    from rich.progress import track

    from kfqn_ref.experiments.data import load_data
    from kfqn_ref.experiments.train.settings import Settings

    try:
        base = Settings(
            data=data, batch_size=batch_size, epochs=epochs, train_size=train_size, seed=seed
        )
        images = load_data(data, data_dir).first(train_size)
        if batch_size > train_size:
            raise ValueError(
                f"the batch size must be at most the {train_size} training images, got {batch_size}"
            )
        out.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error}") from error
    console = Console()
    candidates = [replace(base, **OURS)]
    candidates += [
        replace(base, optimizer=name, lr=lr) for name, grid in GRID.items() for lr in grid
    ]
    trials = [
        measure(s, images) for s in track(candidates, "training", console=console, transient=True)
    ]
    chosen = best(trials)
    report(base, trials, chosen, out)
    console.print(table(trials, chosen))
    last = {trial.optimizer: trial.train_loss[-1] for trial in chosen}
    ours = last.pop(OURS["optimizer"])
    below = ours < min(last.values())
    word = "below" if below else "[red]not below[/red]"
    console.print(
        f"training loss after epoch {epochs}: {OURS['optimizer']} {ours:.3f}, "
        + ", ".join(f"{name} {loss:.3f}" for name, loss in last.items())
        + f": {word} both; written to {out}",
        highlight=False,
        soft_wrap=True,
    )
    if not below:
        raise typer.Exit(1)


def measure(settings: Any, data: Any) -> Trial:
    """Train once; the loss is that of all training images, in evaluation, after every epoch."""
    from kfqn_ref.experiments.models import build_network
    from kfqn_ref.experiments.train.engines import build_engine
    from kfqn_ref.experiments.train.run import epoch_batches

    engine = build_engine(
        settings, build_network(settings.model, data.train.x.shape[2:], data.classes), data.train
    )
    losses = [engine.evaluate(data.train).loss]
    seconds = [0.0]
    for epoch in range(settings.epochs):
        start = time.perf_counter()
        for index in epoch_batches(settings.seed, epoch, len(data.train.y), settings.batch_size):
            engine.step(index)
        seconds.append(seconds[-1] + time.perf_counter() - start)
        losses.append(engine.evaluate(data.train).loss)
    return Trial(settings.optimizer, settings.lr, tuple(losses), tuple(seconds))


def best(trials: list[Trial]) -> list[Trial]:
    """The trial of each optimizer with the lowest last training loss; one that is not finite
    loses.
    """

    def key(trial: Trial) -> float:
        return trial.train_loss[-1] if math.isfinite(trial.train_loss[-1]) else math.inf

    names = dict.fromkeys(trial.optimizer for trial in trials)
    return [min((t for t in trials if t.optimizer == name), key=key) for name in names]


def table(trials: list[Trial], chosen: list[Trial]) -> Any:
    """All trials, the chosen ones marked."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "optimizer",
        "lr",
        *(f"epoch {k}" for k in range(1, len(trials[0].train_loss))),
        "seconds",
        "",
    ):
        side = "left" if heading == "optimizer" else "right"
        result.add_column(heading, justify=side)
    for t in trials:
        losses = (f"{loss:.3f}" for loss in t.train_loss[1:])
        mark = "best" if t in chosen else ""
        result.add_row(t.optimizer, f"{t.lr:g}", *losses, f"{t.seconds[-1]:.1f}", mark)
    return result


def report(settings: Any, trials: list[Trial], chosen: list[Trial], out: Path) -> None:
    """Write ``first_look.json`` and ``first_look.png``."""
    from kfqn_ref.experiments.plots import (
        COLOURS,
        log_losses,
        new_figure,
        save_figure,
        whole_epochs,
    )
    from kfqn_ref.experiments.verify.command import finite
    from kfqn_ref.experiments.versions import versions
    from kfqn_ref.files import write_atomically

    names = ("data", "model", "train_size", "batch_size", "epochs", "dtype", "seed")
    content = {
        "command": "kfqn first-look",
        "versions": versions(),
        "setting": {name: getattr(settings, name) for name in names},
        "ours": OURS,
        "grid": GRID,
        "rule": "lowest training loss after the last epoch, on the reported seed",
        "trials": [{**asdict(t), "chosen": t in chosen} for t in trials],
    }
    write_atomically(
        out / "first_look.json", json.dumps(finite(content), indent=1, allow_nan=False).encode()
    )
    figure, (by_epoch, by_time) = new_figure(2)
    for colour, t in zip(COLOURS, chosen, strict=False):
        by_epoch.plot(t.train_loss, color=colour, marker="o", label=f"{t.optimizer}, lr {t.lr:g}")
        by_time.plot(
            t.seconds, t.train_loss, color=colour, marker="o", label=f"{t.optimizer}, lr {t.lr:g}"
        )
    whole_epochs(by_epoch)
    by_time.set_xlabel("seconds in steps")
    for axis in (by_epoch, by_time):
        log_losses(axis)
        axis.set_ylabel("training loss")
        axis.legend()
        axis.grid(alpha=0.3, which="both")
    figure.suptitle(f"{settings.train_size} images of {settings.data}, batch {settings.batch_size}")
    save_figure(figure, out / "first_look.png")
