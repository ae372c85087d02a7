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
    with width, batch, depth and kernel, for the dense and the lean input factor, beside the growth
    of the counts on paper.
    """
    # these imports take a second: 'kfqn bench --help' does without
    from rich.console import Console

    from kfqn_ref.experiments.bench import measure
    from kfqn_ref.experiments.bench.growth import growth, lean_pays_from
    from kfqn_ref.experiments.versions import machine, versions
    from kfqn_ref.files import write_atomically

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
        curves = growth(largest=largest, steps=min(steps, 9), clock=timer)
    found |= {"growth": curves, "lean_pays_from": lean_pays_from(curves["width"])}
    found["setup"] = {"steps": steps, "batch": batch_size, "clock": clock}
    found |= {"versions": versions(), "machine": machine()}
    tables = rows_table(found), parts_table(found), width_table(curves), exponent_table(curves)
    for table in tables:
        console.print(table)
    least = found["lean_pays_from"]
    where = f"from d_a = {least:g}" if least else "at no width measured"
    console.print(f"lean is the faster {where}")
    write_atomically(out / "bench.json", (json.dumps(found, indent=1) + "\n").encode())
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


def width_table(curves: dict[str, Any]) -> Any:
    """Time and state of one layer by its width."""
    from rich.table import Table

    table = Table("d_a", title="one linear layer to 64 outputs, batch 128", title_justify="left")
    forms = curves["width"]["forms"]
    for form in forms:
        table.add_column(f"{form} ms", justify="right")
        table.add_column(f"{form} MB", justify="right")
    for i, width in enumerate(curves["width"]["sizes"]):
        cells = [(1e3 * curve["seconds"][i], curve["bytes"][i] / 1e6) for curve in forms.values()]
        table.add_row(str(width), *(f"{value:.2f}" for cell in cells for value in cell))
    return table


def exponent_table(curves: dict[str, Any]) -> Any:
    """How time and state grow: exponents over the larger half of the sizes, and on paper."""
    from rich.table import Table

    title = "exponents of growth: time with its 95 % interval, state; on paper: counts"
    table = Table("by", "factor", title=title, title_justify="left")
    for name in ("time", "on paper", "state", "on paper"):
        table.add_column(name, justify="right")
    for axis, found in curves.items():
        for form, curve in found["forms"].items():
            time = curve["exponent of seconds"]
            state = curve["exponent of bytes"]
            interval = f"{time['value']:.2f} [{time['low']:.2f}, {time['high']:.2f}]"
            rest = (f"{value:.2f}" for value in (time["paper"], state["value"], state["paper"]))
            table.add_row(axis, form, interval, *rest)
    return table


def plot(curves: dict[str, Any], path: Path) -> None:
    """Draw the time of a step by width, batch, depth and kernel, and the state by width."""
    from kfqn_ref.experiments.plots import COLOURS, new_figure, save_figure

    panels = [(axis, "seconds") for axis in curves] + [("width", "bytes")]
    figure, axes = new_figure(len(panels), width=3.2)
    for axis, (name, value) in zip(axes, panels, strict=True):
        found = curves[name]
        for (form, curve), colour in zip(found["forms"].items(), COLOURS, strict=False):
            axis.loglog(found["sizes"], curve[value], "o-", color=colour, label=form)
        axis.set_xlabel({"width": "d_a"}.get(name, name))
        axis.set_ylabel({"bytes": "state, bytes", "seconds": "step, seconds"}[value])
        axis.legend()
    save_figure(figure, path)
