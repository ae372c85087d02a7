"""The command ``kfqn check``: put somebody's implementation through the laws, one line a check."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kfqn_ref.testing.html import to_html
from kfqn_ref.testing.implementation import UnusableImplementation, load
from kfqn_ref.testing.kill_matrix import diagnose
from kfqn_ref.testing.report import Report, print_result
from kfqn_ref.testing.runner import Effort, all_checks, run_checks


def command(
    target: Annotated[
        str,
        typer.Argument(
            help="FILE.py or module:Object that defines some of the functions by their names."
        ),
    ],
    errors: Annotated[bool, typer.Option("--errors", help="Check the error contract too.")] = False,
    examples: Annotated[int, typer.Option(min=1, help="Examples a law.")] = 100,
    seed: Annotated[
        int | None, typer.Option(help="Other examples; without it they are always the same.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only the checks whose names begin so, as bfgs or damping.powell.")
    ] = "",
    json: Annotated[
        Path | None, typer.Option(help="Write the report as JSON.", dir_okay=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as a page.", dir_okay=False)
    ] = None,
) -> None:
    """Check an implementation of the method against its laws.

    Exit code 0: every law holds; 1: one is broken; 2: the file cannot be used.
    """
    console = Console(highlight=False)
    try:
        implementation = load(target)
    except UnusableImplementation as error:
        Console(stderr=True, highlight=False).print(f"kfqn check: {error}", markup=False)
        raise typer.Exit(2) from error
    checks = [check for check in all_checks(errors=errors) if check.name.startswith(only)]
    if not checks:
        raise typer.BadParameter(f"no check's name begins with {only!r}", param_hint="--only")
    report = diagnose(run_checks(implementation, checks, effort=Effort(examples, seed)))
    for result in report.results:
        print_result(console, result)
    console.print(", ".join(f"{number} {outcome}" for outcome, number in report.counts().items()))
    _write(report, json, html)
    if not report.ok:
        raise typer.Exit(1)


def _write(report: Report, json: Path | None, html: Path | None) -> None:
    for path, text in (json, report.to_json), (html, lambda: to_html(report)):
        if path is not None:
            path.write_text(text(), encoding="utf-8")
