"""Finds the four IDX files of an image set in a folder, however they were unpacked.

Dashes or dots, compressed or not, a wrong ending, each file in a folder of its own name, and
torchvision's ``MNIST/raw`` are all found. Files from two folders are never mixed.
"""

import re
from collections import defaultdict
from pathlib import Path

from kfqn_ref.experiments.idx import HOW_TO_GET, DataError

# --data -> the folder that torchvision makes for it
IMAGE_SETS = {
    "fashion-mnist": "FashionMNIST",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
    "emnist": "EMNIST",
}
SPLITS = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
          # two aligned lines
          "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
ROLES = tuple((split, kind) for split in SPLITS for kind in ("images", "labels"))
DEEPEST = 4  # torchvision's DIR/EMNIST/raw/NAME, and a folder of the file's own name
NAME = re.compile(
    r"(?P<family>emnist-[a-z]+|qmnist)?[-_.]?(?P<split>train|t10k|test)[-_.]"
    r"(?P<kind>images|labels)(?![a-z])",
    re.IGNORECASE,
)

Group = dict[tuple[str, str], Path]  # (split, images or labels) -> file


def find_files(data_dir: Path, name: str) -> tuple[str, Group]:
    """Return the family that the file names state ("" if none) and the four files below a folder.

    Raises:
        DataError: no file, not all four, or more than one set is there; the message says which
            files are.
    """
    if not data_dir.exists():
        raise DataError(f"{data_dir} does not exist; {HOW_TO_GET}")
    groups = _of_set(_groups(data_dir), name)
    if not groups:
        raise DataError(
            f"{data_dir} has none of the files {SPLITS['train'][0]}[.gz], ... of {name}; it has "
            f"{_what_is_there(data_dir)}; {HOW_TO_GET}"
        )
    if len(groups) > 1:
        raise DataError(_choose(data_dir, groups))
    ((folder, family), group) = next(iter(groups.items()))
    for split, kind in ROLES:
        if (split, kind) not in group:
            usual = SPLITS[split][kind == "labels"]
            raise DataError(
                f"{folder / usual} is missing (and {usual}.gz too); {folder} has "
                f"{_what_is_there(folder)}; {HOW_TO_GET}"
            )
    return family, group


def _groups(data_dir: Path) -> dict[tuple[Path, str], Group]:
    """Return the files whose names fit, by folder and family; the uncompressed one comes first."""
    found: dict[tuple[Path, str], Group] = defaultdict(dict)
    for path in sorted(_files(data_dir)):
        match = NAME.match(path.name)
        if match is None:
            continue
        split = "train" if match["split"].lower() == "train" else "test"
        own = NAME.match(path.parent.name) and path.parent != data_dir
        folder = path.parent.parent if own else path.parent
        family = (match["family"] or "").lower()
        found[folder, family].setdefault((split, match["kind"].lower()), path)
    return dict(found)


def _files(data_dir: Path) -> list[Path]:
    """Return the files at most ``DEEPEST`` folders down."""
    depth = len(data_dir.parts)
    return [p for p in data_dir.rglob("*") if p.is_file() and len(p.parts) - depth <= DEEPEST]


def _of_set(groups: dict[tuple[Path, str], Group], name: str) -> dict[tuple[Path, str], Group]:
    """Return the groups that belong to the set ``name``; one that is named otherwise is left out.

    A family in the file names decides, else a folder with torchvision's name of a set.
    """
    kept: dict[tuple[Path, str], Group] = {}
    for (folder, family), group in groups.items():
        other = [s for s, title in IMAGE_SETS.items() if title in folder.parts and s != name]
        of_folder = next(iter(other), None) if IMAGE_SETS.get(name) not in folder.parts else None
        stated = family or of_folder
        if stated is None or _same_set(name, stated):
            kept[folder, family] = group
    exact = {key: group for key, group in kept.items() if key[1] == name}
    return exact or kept


def _same_set(name: str, stated: str) -> bool:
    """Whether files that state one name may be read as the set ``name``."""
    return stated == name or stated.startswith(f"{name}-") or name.startswith(f"{stated}-")


def _choose(data_dir: Path, groups: dict[tuple[Path, str], Group]) -> str:
    places = ", ".join(str(folder) + f" ({family})" * bool(family) for folder, family in groups)
    return (
        f"{data_dir} holds more than one set or layout: {places}; files are not mixed, so one is "
        "missing: name one folder by --data-dir, or one set by --data emnist-letters or the like"
    )


def _what_is_there(folder: Path) -> str:
    """Return the first files and folders as the message names them."""
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    if not names:
        return "no files at all"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
