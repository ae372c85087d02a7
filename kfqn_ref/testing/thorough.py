"""Every law on a hundred thousand cases: ``python -m kfqn_ref.testing.thorough --out DIR``.

The cases come in bulk (:mod:`kfqn_ref.testing.bulk`). ``DIR/thorough.json`` is written after every
law, and a law that it holds with as many examples is not run again: a run that was stopped goes on
where it was. The laws are shared out to ``--workers`` processes; seconds are processor time,
whatever their number. After a change to a law or to the code begin in an empty ``DIR``: rows are
told apart by versions and seed. ``DIR/thorough.md`` is the table of it. Exit code 1: a law is
broken.
"""

import json
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import hypothesis
import numpy as np
import typer
from rich.console import Console

import kfqn_ref
from kfqn_ref.files import write_atomically
from kfqn_ref.testing.bulk import cases
from kfqn_ref.testing.implementation import NETWORKS, Implementation, load
from kfqn_ref.testing.law import REGISTRY, Check
from kfqn_ref.testing.report import CheckResult, Failure, print_result
from kfqn_ref.testing.runner import Effort, all_checks, failure_of, run_check

REFERENCE = "kfqn_ref.testing.adapters.reference:REFERENCE"
Row = dict[str, Any]


def tally(check: Check, implementation: Implementation, examples: int, seed: int) -> CheckResult:
    """State one law for this many cases, or up to the first that breaks it, which Hypothesis then
    makes small.

    Where hypothesis finds no counterexample of its own, the case is given as it was drawn.
    """
    if not implementation.provides(check.requires):
        return CheckResult(check, "not provided", 0, None)
    with np.errstate(all="ignore"):  # as in the runner: a NaN fails the law
        for k, case in enumerate(
            islice(cases(check.given(implementation.precision), seed), examples)
        ):
            try:
                check(implementation, case)
            except Exception as error:
                small = run_check(check, implementation, Effort(2_000 * check.cost, seed))
                return CheckResult(check, "failed", k + 1, small.failure or failure_of(case, error))
    return CheckResult(check, "passed", examples, None)


def versions() -> dict[str, str]:
    """What the result depends on besides the code of the laws."""
    found = {"kfqn_ref": kfqn_ref.__version__, "python": platform.python_version()}
    return found | {"numpy": np.__version__, "hypothesis": hypothesis.__version__}


def table(data: dict[str, Any], title: str = "Every law on many cases") -> str:
    """The report in Markdown: totals, then one line a row (a law, or whatever ``data["of"]``
    names).
    """
    rows: dict[str, Row] = data["laws"]
    what = data.get("of", "law")
    total = sum(row["examples"] for row in rows.values())
    minutes = sum(row["seconds"] for row in rows.values()) / 60
    broken = [name for name, row in rows.items() if row["outcome"] == "failed"]
    counts = f"{len(rows)} {what}s, {total:,} cases, {minutes:.0f} minutes of one core"
    lines = [
        f"# {title}",
        "",
        f"Computed by `{data['command']}`, the last of its runs; a row says its cases.",
    ]
    lines += [f"{counts}; broken: {', '.join(broken) or 'none'}.", ""]
    lines += [
        "With " + ", ".join(f"{name} {text}" for name, text in data["versions"].items()) + ".",
        "",
    ]
    lines += [f"| {what} | cases | seconds | result |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['examples']:,} | {row['seconds']:.0f} | {row['outcome']} |"
        for name, row in rows.items()
    ]
    return "\n".join(lines) + "\n"


def write(out: Path, name: str, data: dict[str, Any], title: str) -> None:
    """Write the report as JSON, one law a line, and as Markdown."""
    head = json.dumps({key: value for key, value in data.items() if key != "laws"})[:-1]
    rows = (
        f" {json.dumps(law)}: {json.dumps(row, ensure_ascii=False)}"
        for law, row in data["laws"].items()
    )
    text = head + ', "laws": {\n' + ",\n".join(rows) + "\n}}\n"
    write_atomically(out / f"{name}.json", text.encode())
    write_atomically(out / f"{name}.md", table(data, title).encode())


def timed(
    check: Check, implementation: Implementation, examples: int, seed: int
) -> tuple[CheckResult, Row]:
    """A law's result, and its row of the report; seconds are processor time."""
    start = time.process_time()
    result = tally(check, implementation, examples, seed)
    row = {"outcome": result.outcome, "examples": result.examples}
    row |= {"seconds": round(time.process_time() - start, 2)}
    if result.failure:
        row["failure"] = result.to_json()["failure"]
    return result, row


def _in_worker(name: str, examples: int, seed: int) -> tuple[Failure | None, Row]:
    result, row = timed(REGISTRY[name], load(REFERENCE), examples, seed)
    return result.failure, row


def _on_networks(check: Check) -> bool:
    return not set(check.requires).isdisjoint(NETWORKS)


def command(
    out: Annotated[Path, typer.Option(help="Directory for the report.", file_okay=False)],
    examples: Annotated[int, typer.Option(min=1, help="Examples a law.")] = 100_000,
    networks: Annotated[
        int, typer.Option(min=1, help="Examples a law of networks and runs.")
    ] = 5_000,
    only: Annotated[str, typer.Option(help="Only the checks whose names begin so.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the cases.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """State every law on many cases."""
    console = Console(highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "thorough.json"
    old = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
    rows = old["laws"] if old.get("versions") == versions() and old.get("seed") == seed else {}
    ask = "python -m kfqn_ref.testing.thorough --out DIR"
    ask += f" --examples {examples} --networks {networks} --seed {seed}"
    head = {"command": ask, "versions": versions(), "seed": seed}
    broken = 0
    checks = all_checks(errors=True)
    wanted = {check.name: examples for check in checks}
    wanted |= {check.name: networks for check in checks if _on_networks(check)}
    missing = {
        name for name, many in wanted.items() if rows.get(name, {}).get("examples", 0) < many
    }
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        names = [name for name in wanted if name in missing and name.startswith(only)]
        jobs = {pool.submit(_in_worker, name, wanted[name], seed): REGISTRY[name] for name in names}
        for job in as_completed(jobs):
            check = jobs[job]
            (failure, row) = job.result()
            rows[check.name] = row
            print_result(console, CheckResult(check, row["outcome"], row["examples"], failure))
            broken += row["outcome"] == "failed"
            laws = {name: rows[name] for name in wanted if name in rows}
            write(out, "thorough", head | {"laws": laws}, "Every law on many cases")
    if broken:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
