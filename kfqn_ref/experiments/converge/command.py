"""``kfqn converge``: the convergence theorem against runs, as a table, ``converge.json`` and a
plot.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def command(
    out: Annotated[
        Path,
        typer.Option(
            help="Directory for converge.json, converge.png, damping.png.", file_okay=False
        ),
    ] = Path("out/converge"),
    b: Annotated[
        list[float] | None, typer.Option(help="Exponent of the step size; may be repeated.")
    ] = None,
    iterations: Annotated[int, typer.Option(help="Iterations of each run.")] = 800,
    seeds: Annotated[int, typer.Option(help="Runs of each kind.")] = 4,
    samples: Annotated[int, typer.Option(help="Digits that f is the mean loss of.")] = 200,
    batch_size: Annotated[int, typer.Option(help="Digits a step.")] = 20,
    damping: Annotated[float, typer.Option(help="lambda; lambda_A = lambda_G = its root.")] = 100.0,
    gamma: Annotated[float, typer.Option(help="Scale of H_0 = gamma I of H_g.")] = 0.5,
    mu1: Annotated[float, typer.Option(help="Threshold of Powell's damping.")] = 0.5,
    memory: Annotated[int, typer.Option(help="Pairs that L-BFGS keeps.")] = 2,
    input_inverse: Annotated[
        Literal["exact", "lbfgs"], typer.Option(help="H_a: an exact inverse, or L-BFGS.")
    ] = "exact",
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
) -> None:
    """Hold the convergence theorem to runs on digits.

    Softmax regression and a tanh convolution on digits, every constant computed. Printed and
    written: the constants, both sides of the theorem at every N, the slack, and the log-log slope
    of the running mean of the squared gradient against b - 1. Exit code 1 if a bound is broken.
    """
    from rich.console import (
        Console,
    )  # these imports take a second: 'kfqn converge --help' does without

    from kfqn_ref.experiments.converge.run import Setup, measure

    try:
        exponents = tuple(b) if b else Setup.exponents
        lean = input_inverse == "lbfgs"
        setup = Setup(
            iterations, seeds, samples, batch_size, exponents, damping, gamma, mu1, memory, lean
        )
        out.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except OSError as error:
        raise typer.BadParameter(f"{out} cannot be written: {error}") from error
    console = Console()
    with console.status("running"):
        results = measure(setup, workers=workers)
    for table in (constants_table(results), runs_table(results)):
        console.print(table)
    write(setup, results, out)
    broken = [f"{r.task}, b = {r.rate.b}: {words}" for r in results for words in r.broken]
    for words in broken:
        console.print(f"[red]broken[/red]  {words}", highlight=False, soft_wrap=True)
    if broken:
        raise typer.Exit(1)
    console.print(f"no bound is broken; written to {out}", highlight=False, soft_wrap=True)


def constants_table(results: list[Any]) -> Any:
    """Every constant of every task; fits 80 columns."""
    from rich.table import Table

    result = Table("", title="constants", title_justify="left")
    first = {r.task: r for r in results}
    for task in first:
        result.add_column(task, justify="right")
    rows = (
        ("L", lambda r: r.loss.L),
        ("σ² per sample", lambda r: r.loss.sigma2),
        ("σ²/m without replacement", lambda r: r.rate.variance),
        ("f(w_1) − f_low", lambda r: r.rate.gap),
        ("R_a", lambda r: r.constants.layers[0].R_a),
        ("M_g", lambda r: r.constants.layers[0].M_g),
        ("κ_lo proved", lambda r: r.constants.kappa.lo),
        ("κ_lo seen", lambda r: min(o.spectrum.lo for o in results if o.task == r.task)),
        ("κ_hi seen", lambda r: max(o.spectrum.hi for o in results if o.task == r.task)),
        ("κ_hi proved", lambda r: r.constants.kappa.hi),
        ("c = 1/(L κ_hi)", lambda r: r.rate.c),
    )
    for name, value in rows:
        result.add_row(name, *(f"{value(r):.3g}" for r in first.values()))
    return result


def runs_table(results: list[Any]) -> Any:
    """Both sides of the theorem and the slopes, one row a task and b; fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    result = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    headings = (
        "task",
        "b",
        "mean\nat N",
        "bound\nat N",
        "least\nslack",
        "b − 1",
        "slope",
        "slope, steps\n10 times as long",
    )
    for heading in headings:
        side = "left" if heading == "task" else "right"
        result.add_column(heading, justify=side, no_wrap=True)
    for r in results:
        values = (r.means.mean(axis=0)[-1], r.bound[-1], r.slack.min())
        slopes = (f"{s.value:.2f} ±{(s.hi - s.lo) / 2:.2f}" for s in (r.steps, r.longer))
        result.add_row(
            r.task, f"{r.rate.b:g}", *(f"{v:.2g}" for v in values), f"{r.rate.b - 1:.2f}", *slopes
        )
    return result


def write(setup: Any, results: list[Any], out: Path) -> None:
    """Write ``converge.json``, ``converge.png`` and ``damping.png``."""
    from dataclasses import asdict

    from kfqn_ref.experiments.converge.plot import growth, plot_growth, plot_results
    from kfqn_ref.files import write_atomically

    content = {"setup": asdict(setup), "results": [record(r) for r in results], "damping": growth()}
    write_atomically(out / "converge.json", (json.dumps(content, indent=1) + "\n").encode())
    plot_results(results, out / "converge.png")
    plot_growth(out / "damping.png")


def record(r: Any) -> dict[str, Any]:
    """One task and b as plain values; curves at about 60 values of N, evenly in log N."""
    import numpy as np

    at = np.unique(np.geomspace(1, len(r.bound), 60).astype(int))
    curves = {
        "mean": r.means.mean(axis=0),
        "largest": r.means.max(axis=0),
        "bound": r.bound,
        "by_parts": r.by_parts,
    }
    return {
        "task": r.task,
        "b": r.rate.b,
        "c": r.rate.c,
        "L": r.loss.L,
        "sigma2": r.loss.sigma2,
        "variance": r.rate.variance,
        "gap": r.rate.gap,
        "layers": [layer._asdict() for layer in r.constants.layers],
        "kappa": r.constants.kappa,
        "spectrum": r.spectrum,
        "slack": {"least": float(r.slack.min()), "at_N": float(r.slack[-1])},
        "slope": {
            "b_minus_1": r.rate.b - 1,
            "steps": r.steps._asdict(),
            "longer": r.longer._asdict(),
        },
        "N": at.tolist(),
        **{name: curve[at - 1].tolist() for name, curve in curves.items()},
        "broken": r.broken,
    }
