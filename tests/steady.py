"""Does the outcome of a test depend on the code alone? ``make steady`` runs the suite under other
conditions and compares names and results.

The conditions: the order of the tests, the number of workers, a folder with a space in its name
(torch lies in it as well), an installed wheel instead of a checkout, two busy processes beside.
Every order meets every number of workers; places and load take turns, or ``--every`` runs all
combinations. Files or options for pytest come last: ``python tests/steady.py tests/optim``.
Exit code 1: a test failed, or some result differs from that of the first run.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer

ROOT = Path(__file__).parents[1]
PLACES = ("here", "another name", "wheel")
LOADS = ("quiet", "loaded")
Results = dict[str, str]


@dataclass(frozen=True)
class Conditions:
    """Of one run; order 0 is that of the files."""

    order: int
    workers: int
    place: str
    load: str


def planned(orders: list[int], workers: list[int], places: list[str], loads: list[str],
            every: bool) -> list[Conditions]:  # fmt: skip  # a line for the values, one for the way
    """Return the conditions of all runs: combinations, or rows in which places and loads rotate."""
    if every:
        return [Conditions(*values) for values in product(orders, workers, places, loads)]
    rows = []
    for i, (order, count) in enumerate(product(orders, workers)):
        row = i // len(workers)
        place = places[(i + row) % len(places)]
        rows.append(Conditions(order, count, place, loads[i % len(loads)]))
    return rows


def copied(folder: Path) -> Path:
    """Copy what git tracks, and the environment, into a folder; return the interpreter there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    environment = folder / ".venv"
    shutil.copytree(sys.prefix, environment, symlinks=True, copy_function=linked)
    for path in environment.glob("lib/python*/site-packages/*kfqn_ref*.pth"):
        text = path.read_text(encoding="utf-8")
        path.unlink()  # it may be a link to that of the original
        path.write_text(text.replace(str(ROOT), str(folder)), encoding="utf-8")
    return environment / "bin" / "python"


def linked(source: str, target: str) -> None:
    """Link a file where the file system can, copy it otherwise."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def with_wheel(folder: Path, python: Path) -> None:
    """Install the package there from a wheel, and take the sources away."""
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
    subprocess.run([*pip, *build], cwd=folder, check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    install = ["install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    subprocess.run([*pip, *install], cwd=folder, check=True)
    shutil.rmtree(folder / "kfqn_ref")
    shutil.rmtree(folder / "dist")


@contextmanager
def busy(load: str) -> Iterator[None]:
    """Let two processes compute beside what runs in here, if the machine is to be loaded."""
    loop = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(loop) for _ in range(2 if load == "loaded" else 0)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def outcome(case: ElementTree.Element) -> str:
    """Return what became of a test."""
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return "xfailed" if found.get("type") == "pytest.xfail" else kind
    return "passed"


def run(conditions: Conditions, folder: Path, python: Path, out: Path, ask: list[str]) -> Results:
    """Run the suite once; return the result of every test by its name."""
    command = [str(python), "-m", "pytest", "-q", "-n", str(conditions.workers), *ask]
    command += ["--dist", "worksteal", "--junitxml", str(out.absolute())]
    if conditions.order:
        command += ["--random-order-bucket=global", f"--random-order-seed={conditions.order}"]
    out.unlink(missing_ok=True)
    with busy(conditions.load), out.with_suffix(".txt").open("w") as log:
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False)
    cases = ElementTree.parse(out).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}": outcome(case) for case in cases}


def differences(first: Results, other: Results) -> dict[str, tuple[str, str]]:
    """Return the tests whose results differ, with both; a test that did not run is absent."""
    names = sorted({*first, *other})
    pairs = {name: (first.get(name, "absent"), other.get(name, "absent")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def table(rows: list[dict]) -> str:
    """Return all runs as a table in Markdown."""
    lines = ["| order | workers | place | load | seconds | results | differ |"]
    lines.append("|---:|---:|---|---|---:|---|---:|")
    for row in rows:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(row["results"].items()))
        cells = (row["order"] or "files", row["workers"], row["place"], row["load"])
        cells += (f"{row['seconds']:.0f}", counts, len(row["differences"]))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def places_for(names: list[str], root: Path) -> dict[str, tuple[Path, Path]]:
    """Make the places; return folder and interpreter of each."""
    found = {"here": (ROOT, Path(sys.executable))}
    for name in names:
        if name != "here":
            folder = root / name
            found[name] = (folder, copied(folder))
    if "wheel" in names:
        with_wheel(*found["wheel"])
    return found


def numbers(text: str) -> list[int]:
    """Return the numbers of a list with commas."""
    return [int(part) for part in text.split(",")]


def command(
    ask: Annotated[list[str] | None, typer.Argument(help="Files and options for pytest.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the table.")] = Path("out/steady"),
    orders: Annotated[str, typer.Option(help="Seeds of random orders; 0: files.")] = "1,2,3,4,5",
    workers: Annotated[str, typer.Option(help="Numbers of workers.")] = "1,2,4",
    places: Annotated[str, typer.Option(help=f"Among {', '.join(PLACES)}.")] = ",".join(PLACES),
    loads: Annotated[str, typer.Option(help=f"Among {', '.join(LOADS)}.")] = ",".join(LOADS),
    every: Annotated[bool, typer.Option(help="All combinations; hours.")] = False,
) -> None:
    """Run the suite under many conditions and compare the result of every test."""
    chosen = places.split(",")
    plan = planned(numbers(orders), numbers(workers), chosen, loads.split(","), every)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    first: Results = {}
    with tempfile.TemporaryDirectory() as root:
        made = places_for(chosen, Path(root))
        for i, conditions in enumerate(plan):
            begun = time.monotonic()
            results = run(conditions, *made[conditions.place], out / f"{i}.xml", ask or [])
            first = first or results
            row = {"seconds": time.monotonic() - begun, "results": Counter(results.values())}
            row["differences"] = differences(first, results)
            rows.append({**asdict(conditions), **row})
            (out / "steady.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
            (out / "steady.md").write_text(table(rows), encoding="utf-8")
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            for name, (wanted, got) in row["differences"].items():
                print(f"  {name}: {wanted} first, {got} here", flush=True)
    if any(row["differences"] or {"failure", "error"} & set(row["results"]) for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
