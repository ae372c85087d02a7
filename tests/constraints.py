"""Resolve the dependencies, and compare them with constraints.txt: a name that is not pinned, or a
pin that nothing needs any more, is stale. ``--write`` writes the newest versions instead.

pip resolves ``pyproject.toml`` with all extras, and installs nothing. It needs a package index.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
EXTRAS = "dev,book,peers,trainers"  # the others are parts of these


def normal(name: str) -> str:
    """Return the name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolved(*options: str) -> dict[str, tuple[str, str]]:
    """Return what pip would install in an empty environment: spelling and version by name."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed",
                   "--quiet", "--no-build-isolation", "--report", str(report), *options,
                   f"{ROOT}[{EXTRAS}]"]  # fmt: skip  # one command
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    versions = {}
    for entry in found:
        name, version = entry["metadata"]["name"], entry["metadata"]["version"]
        versions[normal(name)] = (name, version.partition("+")[0])  # any build of the version
    del versions["kfqn-ref"]
    return versions


def pinned() -> dict[str, str]:
    """Return the versions of constraints.txt by name."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pairs}


def write() -> None:
    """Write the newest versions that the ranges of pyproject.toml allow, below the same header."""
    header = [line for line in FILE.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    lines = sorted((f"{name}=={version}" for name, version in resolved().values()), key=str.lower)
    FILE.write_text("\n".join([*header, *lines]) + "\n", encoding="utf-8")


def check() -> int:
    """Return 1 and say why if the file is stale, else 0."""
    wanted, known = resolved("-c", str(FILE)), pinned()
    stale = {
        "not pinned": sorted(wanted.keys() - known.keys()),
        "needed by nothing": sorted(known.keys() - wanted.keys()),
    }
    for what, names in stale.items():
        print(f"{what}: {', '.join(names) or 'none'}")
    return int(any(stale.values()))


if __name__ == "__main__":
    sys.exit(write() if sys.argv[1:] == ["--write"] else check())
