"""The command ``kfqn check``: put somebody's implementation through the laws, one line a check."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kfqn_ref.testing import verdict
from kfqn_ref.testing.html import to_html
from kfqn_ref.testing.implementation import UnusableImplementation
from kfqn_ref.testing.junit import to_junit
from kfqn_ref.testing.kill_matrix import diagnose
from kfqn_ref.testing.law import Check
from kfqn_ref.testing.report import CheckResult, Report, print_result
from kfqn_ref.testing.runner import Effort, all_checks, exact_checks
from kfqn_ref.testing.supervise import supervised


def command(
    target: Annotated[
        str,
        typer.Argument(
            help="FILE.py or module:Object that defines some of the functions by their names."
        ),
    ],
    namespace: Annotated[
        str | None,
        typer.Option(
            help="Module whose arrays the functions take, as torch, jax.numpy, array_api_strict; "
            "float32 ones where the file says dtype = 'float32'.",
        ),
    ] = None,
    errors: Annotated[bool, typer.Option("--errors", help="Check the error contract too.")] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Decide identities in exact arithmetic too.")
    ] = False,
    examples: Annotated[int, typer.Option(min=1, help="Examples a law.")] = 100,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Visit the domain twenty times, with 2,000 examples.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Other examples; without it they are always the same.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only the checks whose names begin so, as bfgs or damping.powell.")
    ] = "",
    workers: Annotated[int, typer.Option("--workers", "-n", min=1, help="Processes.")] = 1,
    limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds for the import, and for each law.")
    ] = 60.0,
    json: Annotated[
        Path | None, typer.Option(help="Write the report as JSON.", dir_okay=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as a page.", dir_okay=False)
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write the report as JUnit XML.", dir_okay=False)
    ] = None,
) -> None:
    """Check an implementation of the method against its laws.

    The code of the file runs with your rights, in a process of its own; what it prints is not
    shown. Exit code 0: every law holds; 1: one is broken; 2: the file cannot be used.
    """
    console = Console(highlight=False)
    checks = _chosen(errors, exact, only)
    _folders_exist([json, html, junit])
    effort = Effort(2_000, seed, rounds=20) if thorough else Effort(examples, seed)
    try:
        report, printed = _run(console, (target, namespace), checks, effort, limit, workers)
    except UnusableImplementation as error:
        said = Console(stderr=True, highlight=False)
        said.print(f"kfqn check: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    report = diagnose(report)
    _show(console, report, printed)
    _write(report, {json: Report.to_json, html: to_html, junit: to_junit})
    if not report.ok:
        raise typer.Exit(1)


def _folders_exist(paths: list[Path | None]) -> None:
    """Refuse a report into a folder that is not there before anything is checked."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise typer.BadParameter(f"the folder of {path} must exist, got {path.parent}")


def _chosen(errors: bool, exact: bool, only: str) -> list[Check]:
    known = all_checks(errors=errors)
    if exact:
        known += exact_checks()
    checks = [check for check in known if check.name.startswith(only)]
    if not checks:
        raise typer.BadParameter(f"no check's name begins with {only!r}", param_hint="--only")
    return checks


def _run(
    console: Console,
    named: tuple[str, str | None],
    checks: list[Check],
    effort: Effort,
    limit: float,
    workers: int,
) -> tuple[Report, int]:
    target, namespace = named
    how: dict[str, Any] = {"effort": effort, "limit": limit, "workers": workers}
    with console.status("checking") as status:

        def tell(result: CheckResult) -> None:
            status.update(f"{result.outcome} {result.check.name}")

        return supervised(target, checks, progress=tell, namespace=namespace, **how)


def _show(console: Console, report: Report, printed: int) -> None:
    for result in report.results:
        print_result(console, result)
    console.print(", ".join(f"{number} {outcome}" for outcome, number in report.counts().items()))
    if report.ok:
        for line in verdict.lines(report):
            console.print(line, markup=False, soft_wrap=True)
    if printed:
        console.print(f"the file printed {printed:,} bytes, which are not shown", markup=False)


def _write(report: Report, wanted: dict[Path | None, Callable[[Report], str]]) -> None:
    for path, text in wanted.items():
        if path is not None:
            path.write_text(text(report), encoding="utf-8")
