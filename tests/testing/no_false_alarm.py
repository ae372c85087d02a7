"""Ten correct alternatives of every kernel, ten thousand cases each over all its laws: is one
refused?

``python tests/testing/no_false_alarm.py --out DIR`` writes ``no_false_alarm.json`` and ``.md``
after every alternative; what is there is not run again. Exit code 1: an alternative was refused.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.runner import all_checks
from kfqn_ref.testing.thorough import timed, versions, write

sys.path.insert(0, str(Path(__file__).parent))
from alternatives import ALTERNATIVES  # a neighbour of this file, which is not a package

TITLE = "No false alarm: correct alternatives of every kernel"


def accept(kernel: str, name: str, examples: int) -> dict[str, Any]:
    """One alternative through all laws of its kernel, which share the examples; the sum as a
    row.
    """
    checks = [check for check in all_checks() if check.requires == (kernel,)]
    each, alternative = -(-examples // len(checks)), load(ALTERNATIVES[kernel][name])
    rows = {check.name: timed(check, alternative, each, seed=0)[1] for check in checks}
    failures = {law: row["failure"] for law, row in rows.items() if "failure" in row}
    total = {
        key: round(sum(row[key] for row in rows.values()), 2) for key in ("examples", "seconds")
    }
    assert all(row["outcome"] != "not provided" for row in rows.values()), (
        f"{kernel}, {name} answers no law"
    )
    outcome = {"outcome": "failed" if failures else "passed", "laws": len(checks)}
    return outcome | total | ({"failures": failures} if failures else {})


def command(
    out: Annotated[Path, typer.Option()], examples: Annotated[int, typer.Option(min=1)] = 10_000
) -> None:
    """Put every alternative through the laws of its kernel."""
    stored = out / "no_false_alarm.json"
    old = json.loads(stored.read_text(encoding="utf-8")) if stored.is_file() else {}
    rows = old["laws"] if old.get("versions") == versions() else {}
    ask = f"python tests/testing/no_false_alarm.py --out DIR --examples {examples}"
    out.mkdir(parents=True, exist_ok=True)
    for kernel, name in ((k, n) for k, found in ALTERNATIVES.items() for n in found):
        if rows.get(f"{kernel}: {name}", {}).get("examples", 0) >= examples:
            continue
        rows[f"{kernel}: {name}"] = accept(kernel, name, examples)
        head = {"of": "alternative", "command": ask, "versions": versions()}
        write(out, "no_false_alarm", head | {"laws": rows}, TITLE)
    if any(row["outcome"] == "failed" for row in rows.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
