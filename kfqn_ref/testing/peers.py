"""What the checks say of other people's implementations, as data:
``python -m kfqn_ref.testing.peers --out DIR``.

One JSON report an adapter, in which only a broken law is written out, and a table of all in
``README.md``. ASDL needs the extra ``peers``; what is not installed is left out.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kfqn_ref.testing.implementation import UnusableImplementation, load
from kfqn_ref.testing.kill_matrix import diagnose
from kfqn_ref.testing.report import Report
from kfqn_ref.testing.runner import Effort, run_checks

PEERS = {
    "reference": "kfqn_ref.testing.adapters.reference:REFERENCE",
    "torch_kfqn": "kfqn_ref.testing.adapters.torch_kfqn:TorchKFQN",
    "torch_kfqn_float32": "kfqn_ref.testing.adapters.torch_kfqn:TorchKFQN32",
    "scipy_bfgs": "kfqn_ref.testing.adapters.scipy_bfgs:ScipyBFGS",
    "torch_lbfgs": "kfqn_ref.testing.adapters.torch_lbfgs:TorchLBFGS",
    "asdl": "kfqn_ref.testing.adapters.asdl:ASDL",
}


def table(reports: dict[str, Report], examples: int) -> str:
    """The table of all reports, and the broken laws of each, in Markdown."""
    lines = [
        "# What the checks say",
        "",
        f"Computed by `python -m kfqn_ref.testing.peers --out DIR --examples {examples}`; one "
        "JSON report "
        f"each beside this.",
        "",
        "| implementation | passed | failed | not provided |",
        "|---|---|---|---|",
    ]
    for name, report in reports.items():
        counts = report.counts()
        lines.append(
            f"| {name} | {counts['passed']} | {counts['failed']} | {counts['not provided']} |"
        )
    for name, report in reports.items():
        if report.failed:
            lines += ["", f"## {name}: broken laws"]
        for result in report.failed:
            assert result.failure is not None, "a failed check has a failure"
            case = ", ".join(
                f"{key} = {text}" for key, text in result.failure.counterexample.items()
            )
            looks = "; ".join(result.failure.looks_like) or "nothing in the list of mutants"
            failure = result.failure
            got = f"{failure.left} = {failure.lhs}, {failure.right} = {failure.rhs}"
            lines += ["", f"* **{result.check.name}** {result.check.words}", ""]
            lines += [
                f"  `{' '.join(case.split())}`: `{' '.join(got.split())}`. Looks like: {looks}."
            ]
    return "\n".join(lines) + "\n"


def short(report: str) -> str:
    """Return a JSON report without the words and formulas of the laws that are not broken."""
    data = json.loads(report)
    for entry in data["results"]:
        if entry["outcome"] != "failed":
            for key in ("law", "formula", "chapter", "page"):
                del entry[key]
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)


def command(
    out: Annotated[Path, typer.Option(help="Directory for the reports.", file_okay=False)],
    examples: Annotated[int, typer.Option(min=1, help="Examples a law.")] = 200,
) -> None:
    """Put all adapters through the checks and write what they said."""
    console = Console(highlight=False)
    reports = {}
    out.mkdir(parents=True, exist_ok=True)
    for name, target in PEERS.items():
        try:
            report = diagnose(run_checks(load(target), effort=Effort(examples)))
        except UnusableImplementation as error:
            console.print(f"{name}: left out, {error}", markup=False)
            continue
        reports[name] = report
        (out / f"{name}.json").write_text(short(report.to_json()) + "\n", encoding="utf-8")
        console.print(f"{name}: {report.counts()}")
    (out / "README.md").write_text(table(reports, examples), encoding="utf-8")


if __name__ == "__main__":
    typer.run(command)
