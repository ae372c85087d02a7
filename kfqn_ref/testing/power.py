"""How often the suite finds a known mistake: ``python -m kfqn_ref.testing.power --seeds 200``.

Every listed mutant meets its kill test (the check that ``tests/test_mutants.py`` holds it to) once
a seed. The table has one row a mutant: its check, how many seeds were tried, and the seeds with
which it survived; a mutant that survives one is a kill that lives from luck. ``DIR/power.json`` is
written after every mutant, and what it holds is not run again: a run that was stopped goes on where
it was.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kfqn_ref.files import write_atomically
from kfqn_ref.testing.kill_matrix import kill_tests, stored
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.runner import Effort, run_check
from kfqn_ref.testing.thorough import versions

EXAMPLES = 50
Row = dict[str, Any]


def survivals(check: str, mutant: str, seeds: range) -> list[int]:
    """The seeds with which a mutant survives its kill test."""
    implementation = MUTANTS[mutant].implementation()

    def outcome(seed: int) -> str:
        effort = Effort(EXAMPLES, seed, shrink=False)
        return run_check(REGISTRY[check], implementation, effort).outcome

    return [seed for seed in seeds if outcome(seed) != "failed"]


def run_row(old: Row | None, check: str, mutant: str, seeds: int) -> Row:
    """Return the row of a kill test for this many seeds; it continues an older row of the test."""
    row = old or {"check": check, "mutant": mutant, "seeds": 0, "survived": []}
    if row["seeds"] < seeds:
        more = survivals(check, mutant, range(row["seeds"], seeds))
        row = row | {"seeds": seeds, "survived": [*row["survived"], *more]}
    return row


def read(path: Path) -> dict[str, Row]:
    """The rows of an earlier run with the same versions, by check and mutant."""
    if not path.is_file():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    if data["versions"] != versions():
        return {}
    return {f"{row['check']} {row['mutant']}": row for row in data["kills"]}


def write(path: Path, rows: list[Row]) -> None:
    """Write the table, one row a line."""
    head = {"command": "python -m kfqn_ref.testing.power --out DIR", "examples": EXAMPLES}
    head |= {"versions": versions()}
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in rows)
    text = json.dumps(head)[:-1] + ', "kills": [\n' + lines + "\n]}\n"
    write_atomically(path, text.encode())


def command(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds a mutant.")] = 200,
    out: Annotated[Path, typer.Option(help="Directory for power.json.", file_okay=False)] = Path(
        "out/power"
    ),
    only: Annotated[str, typer.Option(help="Only mutants whose names begin so.")] = "",
) -> None:
    """Put every mutant to its kill test with many seeds; exit code 1: one survived."""
    console = Console(highlight=False)
    matrix = stored()
    assert matrix is not None, "compute it: python -m kfqn_ref.testing.kill_matrix"
    out.mkdir(parents=True, exist_ok=True)
    old, rows = read(out / "power.json"), []
    for check, mutant in kill_tests(matrix):
        before = old.get(f"{check} {mutant}")
        row = run_row(before, check, mutant, seeds) if mutant.startswith(only) else before
        if row is None:
            continue
        rows.append(row)
        write(out / "power.json", rows)
        killed = row["seeds"] - len(row["survived"])
        console.print(f"{killed:4} of {row['seeds']} seeds  {mutant}  by {check}", markup=False)
    if any(row["survived"] for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
