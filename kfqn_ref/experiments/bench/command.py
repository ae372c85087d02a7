"""``kfqn bench``: what a step costs, beside SGD and the physical limit, as a table, JSON and a
plot.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def command(
    out: Annotated[
        Path, typer.Option(help="Directory for bench.json, bench.png.", file_okay=False)
    ] = Path("out/bench"),
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Fashion-MNIST as IDX files; random images without it.", file_okay=False),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of each optimizer.", min=1)] = 60,
    batch_size: Annotated[int, typer.Option(help="Images a step.", min=1)] = 128,
    threads: Annotated[int, typer.Option(help="Threads of torch.", min=1)] = 2,
    clock: Annotated[
        Literal["wall", "cpu"],
        typer.Option(help="Wall time, or processor time (busy machine, one thread)."),
    ] = "wall",
    largest: Annotated[
        int, typer.Option(help="Largest width of the growth curve.", min=256)
    ] = 4609,
    compiled: Annotated[
        bool, typer.Option(help="Measure the steps under compile=True as well.")
    ] = True,
) -> None:
    """Measure a step beside SGD and the physical limit.

    The steps of all optimizers take turns on the reference CNN: medians and means, state, the
    kernels that a GPU would launch, and where the time of a step goes. Then how time and state grow
    with the width of a layer and the batch, for the dense and the lean input factor.
    """
    # these imports take a second: 'kfqn bench --help' does without
    from rich.console import Console

    from kfqn_ref.experiments.bench import measure

    makers = measure.MAKERS | measure.COMPILED if compiled else measure.MAKERS
    try:
        if compiled:
            _require_compiler()
        x, target = _images(data_dir, batch_size)
        out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    import torch

    torch.set_num_threads(threads)
    console = Console()
    timer = measure.CLOCKS[clock]
    with console.status("measuring"):
        found = measure.side_by_side(
            x, target, makers, steps=steps, warmup=5, batch=batch_size, clock=timer
        )
        widths = tuple(width for width in (64, 128, 256, 512, 1024, 2305, 4609) if width <= largest)
        curves = measure.growth(widths, (32, 64, 128, 256, 512), steps=min(steps, 9), clock=timer)
    found |= {"growth": curves, "exponents": measure.exponents(curves)}
    found["lean_pays_from"] = measure.lean_pays_from(curves)
    found["setup"] = {"steps": steps, "batch": batch_size, "threads": threads, "clock": clock}
    for table in (rows_table(found), parts_table(found), growth_table(found)):
        console.print(table)
    least = found["lean_pays_from"]
    where = f"from d_a = {least:g}" if least else "at no width measured"
    console.print(f"lean is the faster {where}")
    (out / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(curves, out / "bench.png")
    console.print(f"written to {out}", highlight=False, soft_wrap=True)


def _require_compiler() -> None:
    """Refuse where the compiled contenders cannot run.

    Raises:
        ValueError: they cannot.
    """
    import torch

    from kfqn_ref.optim.options import compile_problem

    problem = compile_problem(torch.device("cpu"))
    if problem:
        raise ValueError(f"{problem}; --no-compiled measures the rest")


def _images(data_dir: Path | None, batch: int) -> tuple[Any, Any]:
    """Return images (N, 1, 28, 28) in float32, and classes."""
    import torch

    if data_dir is None:
        return torch.rand(4 * batch, 1, 28, 28), torch.randint(0, 10, (4 * batch,))
    from kfqn_ref.experiments.data import fashion_mnist

    train = fashion_mnist(data_dir).train
    images = torch.from_numpy(train.x[: 100 * batch]).float().reshape(-1, 1, 28, 28)
    return images, torch.from_numpy(train.y[: 100 * batch]).long()


def rows_table(found: dict[str, Any]) -> Any:
    """One optimizer a row; fits 80 columns."""
    from rich.table import Table

    table = Table("step", title="reference CNN; ratios of means", title_justify="left")
    for name in ("median ms", "mean ms", "/ SGD", "/ limit", "state MB", "kernels"):
        table.add_column(name, justify="right")
    for name, row in found["rows"].items():
        over = f"{row['mean_over_limit']:.2f}" if "limit" in row else ""
        times = [f"{1e3 * row[key]:.1f}" for key in ("median", "mean")]
        ratio = f"{row['mean_over_sgd']:.2f}"
        size = f"{row['state_bytes'] / 1e6:.1f}"
        kernels = f"{row['kernels']:.0f}" if "kernels" in row else ""
        table.add_row(name, *times, ratio, over, size, kernels)
    return table


def parts_table(found: dict[str, Any]) -> Any:
    """Where a step of ``kfqn_cnn`` spends its time, the largest part first."""
    from rich.table import Table

    table = Table("part of a step", title="kfqn_cnn, where the time goes", title_justify="left")
    for name in ("ms", "/ SGD"):
        table.add_column(name, justify="right")
    sgd = found["rows"]["SGD"]["mean"]
    for name, seconds in sorted(found["parts"].items(), key=lambda item: -item[1]):
        table.add_row(name, f"{1e3 * seconds:.2f}", f"{seconds / sgd:.2f}")
    return table


def growth_table(found: dict[str, Any]) -> Any:
    """Time and state of one layer by its width, and the fitted exponents."""
    from rich.table import Table

    table = Table("d_a", title="one linear layer to 64 outputs, batch 128", title_justify="left")
    curves = found["growth"]
    fitted = found["exponents"]
    names = {"dense": "dense", "lbfgs": "lean"}
    for name in names.values():
        table.add_column(f"{name} ms", justify="right")
        table.add_column(f"{name} MB", justify="right")
    for i, width in enumerate(curves["dense"]["width"]):
        cells = [(1e3 * curves[f]["seconds"][i], curves[f]["bytes"][i] / 1e6) for f in names]
        table.add_row(f"{width:.0f}", *(f"{value:.2f}" for cell in cells for value in cell))
    powers = [(fitted[f]["seconds_by_width"], fitted[f]["bytes_by_width"]) for f in names]
    table.add_row("exponent", *(f"{value:.2f}" for pair in powers for value in pair))
    return table


def plot(curves: dict[str, Any], path: Path) -> None:
    """Draw time by width, state by width, and time by batch."""
    from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure

    figure, axes = new_figure(3, width=4.0)
    panels = (
        ("width", "seconds", "d_a"),
        ("width", "bytes", "d_a"),
        ("batch", "seconds_by_batch", "batch"),
    )
    for axis, (size, value, label) in zip(axes, panels, strict=True):
        for (factor, curve), colour in zip(curves.items(), COLOURS, strict=False):
            axis.loglog(
                curve[size],
                curve[value],
                "o-",
                color=colour,
                label={"lbfgs": "lean"}.get(factor, factor),
            )
        axis.set_xlabel(label)
        words = "state, bytes" if value == "bytes" else "step, seconds"
        axis.set_ylabel(words)
        axis.legend()
    save_figure(figure, path)
