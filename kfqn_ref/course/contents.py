"""What the box holds besides the system: Python, the libraries of an assignment, and a stub.

The package itself is not there: not its sources, nor its compiled files, nor any library that the
assignment does not name. In place of ``kfqn_ref`` stands the folder ``kfqn_ref/course/box``.
"""

import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

STUB = Path(__file__).resolve().parent / "box"

# What every assignment may use; those that are not installed here are not in the box either.
LIBRARIES = (
    "numpy", "scipy", "matplotlib", "scikit-learn", "pandas", "sympy",
    "ipython", "ipywidgets", "tqdm",
)  # fmt: skip  # one list
NAME = re.compile(r"[A-Za-z0-9._-]+")


@cache
def files(names: tuple[str, ...] = LIBRARIES) -> tuple[Path, ...]:
    """Files and folders of these libraries, and of all that they need."""
    found: dict[str, None] = {}
    wanted = list(names)
    seen = set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            library = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found |= dict.fromkeys(map(str, _top(library)))
        wanted += [NAME.match(need)[0] for need in library.requires or () if _always(need)]  # type: ignore[index]  # a requirement begins with a name
    return tuple(map(Path, sorted(found)))


def _always(requirement: str) -> bool:
    """Whether a requirement is not one of an extra."""
    return "extra ==" not in requirement.partition(";")[2]


def _top(library: metadata.Distribution) -> list[Path]:
    """The entries of a library in the folder of libraries."""
    parts = {file.parts[0] for file in library.files or () if file.parts[0] not in ("..", "/")}
    parts -= {"__pycache__"}
    places = [Path(str(library.locate_file(part))) for part in sorted(parts)]
    return [place for place in places if place.exists()]


@cache
def hidden() -> tuple[Path, ...]:
    """Folders of libraries of this Python, which are empty in the box but for :func:`files`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = ["site-packages", "dist-packages"]
    roots = {Path(sys.prefix), Path(sys.base_prefix), Path("/usr"), Path("/usr/local")}
    places = [root / "lib" / version / folder for root in roots for folder in folders]
    places += [root / "lib" / "python3" / "dist-packages" for root in roots]
    return tuple(sorted(place for place in places if place.is_dir()))
