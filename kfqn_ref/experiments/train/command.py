"""``kfqn train``: options in, a run directory out."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kfqn_ref.experiments.data import DataError, load_data

INTERRUPTED = 130


def command(
    context: typer.Context,
    out: Annotated[
        Path,
        typer.Option(help="Directory of the run: checkpoint, metrics, curves.", file_okay=False),
    ],
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="A preset (kfqn_cnn, kbfgs_2020, ...), sgd, adam; torch: adamw; reference: kfac."
        ),
    ] = None,
    engine: Annotated[
        Literal["torch", "reference"] | None,
        typer.Option(help="torch, or the NumPy reference (slow, float64)."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits; IDX files: fashion-mnist, mnist, kmnist, qmnist, emnist; iris, wine, "
            "breast_cancer; or FILE.npz."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the IDX files (Fashion-MNIST: default Debian's)."),
    ] = None,
    transposed: Annotated[
        bool | None, typer.Option("--transposed", help="The IDX files store images transposed.")
    ] = None,
    model: Annotated[
        Literal["cnn", "mlp", "autoencoder"] | None, typer.Option(help="The network.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs in all; more than before with --resume.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    train_size: Annotated[
        int | None, typer.Option(help="Use only this many training images, from the first.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Step size (default: the optimizer's own).")
    ] = None,
    damping: Annotated[float | None, typer.Option(help="lambda of KFQN and KFAC.")] = None,
    momentum: Annotated[
        float | None, typer.Option(help="Decay of the gradient's moving average.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Factor of the L2 term.")] = None,
    memory: Annotated[int | None, typer.Option(help="Pairs that L-BFGS keeps.")] = None,
    curvature_interval: Annotated[
        int | None, typer.Option(help="Steps between curvature updates.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float64"] | None, typer.Option(help="Precision of torch.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the initial weights and the order of the data.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")
    ] = False,
) -> None:
    """Train a network on real images, with checkpoints.

    Writes `checkpoint.pt`, `metrics.jsonl` (one line an epoch) and `curves.png` after every epoch.
    Ctrl-C stops after the step and saves; `--resume` then gives the numbers of a run that was never
    stopped, and takes every option that is not given from the checkpoint.

    Defaults: kfqn_cnn, torch, digits, cnn, 10 epochs, batch 100, float32, seed 0.
    """
    own = ("out", "data_dir", "resume")
    given = {
        name: value
        for name, value in context.params.items()
        if name not in own and value is not None
    }
    run = _start(given, data_dir, out, resume)
    for text in run.data.describe():
        typer.echo(text, err=True)  # standard output has one line an epoch
    _train(run)


def _start(given: dict[str, Any], data_dir: Path | None, out: Path, resume: bool) -> Any:
    """The run that the options describe; wrong use is a ``typer.BadParameter``."""
    from kfqn_ref.experiments.train.run import CHECKPOINT, Run, has_results
    from kfqn_ref.experiments.train.settings import Settings, resumed
    from kfqn_ref.files import load  # imports torch: 'kfqn train --help' does without

    if not resume and has_results(out):
        raise typer.BadParameter(
            f"{out} holds a run already; continue it with --resume or name another --out"
        )
    try:
        settings = (
            resumed(load(out / CHECKPOINT)["settings"], given) if resume else Settings(**given)
        )
        data = load_data(settings.data, data_dir, transposed=settings.transposed)
        data = data if settings.train_size is None else data.first(settings.train_size)
        return Run(settings, data, out, resume=resume)
    except (DataError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        where = error.filename or out  # a cache that torch is told to use, perhaps
        raise typer.BadParameter(f"{where} cannot be written: {error.strerror}") from error


def _train(run: Any) -> None:
    """Train with a progress bar and one printed line an epoch."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from kfqn_ref.experiments.train.run import Diverged, Stopped

    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown = {"console": console, "transient": True, "disable": not console.is_terminal}
    with stop_signals() as stop, Progress(*columns, **shown) as progress:
        done = run.position.epoch * run.steps + run.position.step
        bar = progress.add_task("training", total=run.settings.epochs * run.steps, completed=done)

        def on_step(done: int, loss: float) -> None:
            progress.update(bar, completed=done, description=f"loss {loss:.4f}")

        try:
            run.train(
                should_stop=lambda: bool(stop),
                on_step=on_step,
                on_epoch=lambda record: console.print(
                    line(record), highlight=False, soft_wrap=True
                ),
            )
        except Stopped:
            at = run.position
            console.print(
                f"stopped and saved after step {at.step} of epoch {at.epoch + 1}; go on with "
                "--resume"
            )
            raise typer.Exit(INTERRUPTED) from None
        except Diverged as error:
            console.print(f"[red]{error}[/red]: lower --lr or raise --damping")
            raise typer.Exit(1) from None
    console.print(f"{run.position.epoch} epochs in {run.out}", highlight=False, soft_wrap=True)


def line(record: dict[str, Any]) -> str:
    """One epoch as one printed line."""
    parts = [f"epoch {record['epoch']:3d}"]
    for name in ("train_loss", "test_loss", "test_error"):
        value = record[name]
        if value is not None or name != "test_error":
            shown = "not finite" if value is None else f"{value:.4f}"
            parts.append(f"{name.replace('_', ' ')} {shown}")
    if "pairs_damped" in record:
        parts.append(f"damped {record['pairs_damped']} skipped {record['pairs_skipped']}")
    return "  ".join([*parts, f"{record['seconds']:.1f} s"])


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that the first Ctrl-C fills; the second interrupts at once, as usual."""
    caught: list[int] = []

    def handle(signum: int, frame: Any) -> None:
        caught.append(signum)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, before)
