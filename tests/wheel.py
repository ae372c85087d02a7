"""Does the package work for a stranger? ``make wheel`` builds wheel and sdist, installs each in an
empty environment outside of the checkout, and uses it there: without network, home, cache and git.

What is used: both examples of the README, ``kfqn verify``, ``kfqn check`` on a file, ``kfqn train``
and a read-along notebook. The sdist is also unpacked, and a part of its tests is run. The option
``--versions`` takes the versions of constraints.txt (``pinned``), the ``newest`` ones, or the
``lowest`` that pyproject.toml allows. It needs a package index. Exit code 1: something fails.

``--here FILE`` installs nothing: it uses the package of the environment that runs this, runs the
tests of the reference and of the optimizer that ``MATRIX_TESTS`` names, and writes versions and
outcomes as a row of the table in FILE, which the book's status page shows.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from packaging.requirements import Requirement
from packaging.version import Version

import kfqn_ref

ROOT = Path(__file__).parents[1]
LARGEST = 1_000_000  # bytes of a wheel or an sdist
NOWHERE = "/dev/null/home"  # nobody can make a folder there, not even root
SOME_TESTS = ("tests/test_bfgs.py", "tests/test_extras.py", "tests/test_repository.py")
MATRIX_TESTS = (
    *("test_bfgs.py", "test_damping.py", "test_kronecker.py", "test_lbfgs.py", "test_layers.py"),
    *("test_network.py", "test_patches.py", "test_extras.py", "test_options.py", "method"),
    *("optim/test_step.py", "optim/test_kernels.py", "optim/test_checkpoint.py"),
)
CHECKED = """import numpy as np


def bfgs_inverse_update(H, s, y):
    V = np.eye(len(s)) - np.outer(y, s) / (s @ y)
    return V.T @ H @ V + np.outer(s, s) / (s @ y)
"""


class Versions(StrEnum):
    """Which versions of the dependencies are installed."""

    pinned = "pinned"
    newest = "newest"
    lowest = "lowest"


def lowest(torch: str) -> str:
    """Return constraints: each direct dependency at the lowest version that it may have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(t for e in ("cli", "check") for t in extras[e])]
    bounds = {}
    for requirement in map(Requirement, texts):
        for bound in requirement.specifier:
            if bound.operator == ">=":
                bounds[requirement.name] = bound.version
    if torch:
        bounds["torch"] = torch
    return "".join(f"{name}=={version}\n" for name, version in bounds.items())


def run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed; leave with 1 if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        typer.echo(f"{' '.join(command)[:300]}\nfailed with {done.returncode}\n{done.stdout}")
        typer.echo(done.stderr)
        raise typer.Exit(1)
    return done.stdout


def offline() -> list[str]:
    """Return the prefix of a command that has no network, where the system allows it."""
    prefix = ["unshare", "--net", "--map-root-user"]
    available = shutil.which("unshare") and not subprocess.run([*prefix, "true"]).returncode
    return prefix if available else []


def build(folder: Path) -> tuple[Path, Path]:
    """Return wheel and sdist, both below the size that is allowed."""
    run([sys.executable, "-m", "hatchling", "build", "--directory", str(folder)], ROOT)
    wheel, sdist = next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))
    for path in (wheel, sdist):
        size = path.stat().st_size
        typer.echo(f"{path.name}: {size} bytes")
        if size > LARGEST:
            typer.echo(f"it must have at most {LARGEST} bytes")
            raise typer.Exit(1)
    return wheel, sdist


def installed(file: Path, extras: str, constraints: list[str], folder: Path) -> Path:
    """Return the folder of the commands of a new environment with the file in it."""
    run([sys.executable, "-m", "venv", str(folder)], folder.parent)
    commands = folder / "bin"
    pip = [str(commands / "python"), "-m", "pip", "install", "--quiet", *constraints]
    run([*pip, f"{file}[{extras}]"], folder.parent)
    return commands


def use(commands: Path, folder: Path, *, notebook: bool) -> Iterator[str]:
    """Use the installed package as the README says, in an empty folder; yield what has worked."""
    environment = {
        **{name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")},
        "PATH": str(commands),  # no git
        "HOME": NOWHERE,
        "XDG_CACHE_HOME": NOWHERE,
        "LANG": "C.UTF-8",
    }
    python, kfqn = str(commands / "python"), str(commands / "kfqn")
    prefix = [shutil.which("unshare") or "", *offline()[1:]] if offline() else []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (folder / "mine.py").write_text(CHECKED, encoding="utf-8")
    work: dict[str, list[str]] = {
        f"README's example {number}": [python, "-c", text]
        for number, text in enumerate(re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S), 1)
    }
    work["kfqn verify"] = [kfqn, "verify", "--out", "verify"]
    work["kfqn check"] = [kfqn, "check", "mine.py"]
    work["kfqn train"] = [kfqn, "train", "--data", "digits", "--epochs", "1", "--out", "run"]
    for name, command in work.items():
        run([*prefix, *command], folder, environment)
        typer.echo(f"  {name}: works")
        yield name
    if notebook:
        shutil.copy(ROOT / "notebooks" / "01_newton.py", folder)
        jupytext = [str(commands / "jupytext"), "--to", "ipynb", "--execute", "01_newton.py"]
        # Jupyter itself needs a home, and the loopback network
        run(jupytext, folder, {**environment, "HOME": str(folder), "XDG_CACHE_HOME": str(folder)})
        typer.echo("  a notebook: works")
        yield "a notebook"


def tested(folder: Path) -> str:
    """Return how many tests of ``MATRIX_TESTS`` passed and failed, with the installed package."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("kfqn_ref", ".*", "_build", "out"))
    tests = [f"tests/{name}" for name in MATRIX_TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1]
    if done.returncode:
        typer.echo(done.stdout[-5000:] + done.stderr[-5000:])
    return last.split(" in ")[0]


def row_of_this_environment(folder: Path) -> dict[str, Any]:
    """Return versions and outcomes of the environment that runs this."""
    works: list[str] = []
    place = folder / "place"
    place.mkdir()
    commands = Path(sys.executable).parent
    try:
        for name in use(commands, place, notebook=(commands / "jupytext").exists()):
            works.append(name)
        outcome = "all of these"
    except typer.Exit:
        outcome = "the next one fails"
    names = ("numpy", "scipy", "torch", "jaxtyping", "beartype")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: importlib.metadata.version(name) for name in names},
        "works": works,
        "outcome": outcome,
        "tests": tested(folder / "checkout"),
    }


def add_row(file: Path) -> None:
    """Write the row of this environment, instead of an older one of the same versions."""
    if (Path(kfqn_ref.__file__).parents[1] / "pyproject.toml").exists():
        typer.echo("--here asks for an environment in which a wheel of the package is installed")
        raise typer.Exit(2)
    with tempfile.TemporaryDirectory() as name:
        row = row_of_this_environment(Path(name))
    same = ("python", "torch", "numpy")
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    rows = [old for old in rows if any(old[name] != row[name] for name in same)]
    rows = sorted([*rows, row], key=lambda each: [Version(each[name]) for name in same])
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(row, indent=1))
    if row["outcome"] != "all of these" or "failed" in row["tests"] or "error" in row["tests"]:
        raise typer.Exit(1)


def main(
    versions: Annotated[Versions, typer.Option(help="Versions of the dependencies.")] = (
        Versions.pinned
    ),
    torch: Annotated[str, typer.Option(help="The version of torch, instead of the lowest.")] = "",
    only: Annotated[str, typer.Option(help="wheel or sdist; both by default.")] = "",
    here: Annotated[
        Path | None, typer.Option(help="Use this environment's package; add a row to this file.")
    ] = None,
) -> None:
    """Build, install and use the package outside of the checkout."""
    if here:
        add_row(here)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        constraints: list[str] = []
        if versions is not Versions.newest:
            text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
            file = folder / "constraints.txt"
            file.write_text(lowest(torch) if versions is Versions.lowest else text)
            constraints = ["-c", str(file)]
        # the lowest versions of Jupyter's many packages do not concern us
        extras = "cli,check" if versions is Versions.lowest else "all"
        for path in (wheel, sdist):
            if only and only not in {"wheel" if path is wheel else "sdist"}:
                continue
            place = folder / f"from {path.suffix[1:]}"
            place.mkdir()
            wanted = f"{extras},test" if path is sdist else extras
            commands = installed(path, wanted, constraints, folder / path.suffix[1:])
            typer.echo(f"{path.name}, {versions} versions: installed")
            for _ in use(commands, place, notebook=extras == "all"):
                pass  # `use` says what works
        if only != "wheel":
            unpacked_tests(sdist, folder)


def unpacked_tests(sdist: Path, folder: Path) -> None:
    """Run a part of the tests of the sdist from where it was unpacked."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    place = folder / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(place / "kfqn_ref")  # the installed package is what is tested
    python = str(folder / "gz" / "bin" / "python")
    run([python, "-m", "pytest", "-q", *SOME_TESTS], place)
    typer.echo(f"  {', '.join(SOME_TESTS)} of the unpacked sdist: pass")


if __name__ == "__main__":
    typer.run(main)
