"""Find the notebook of a student, by whatever name a browser or a learning platform gave it."""

import os
import re
from pathlib import Path

from kfqn_ref.course.reading import LARGEST, NotGraded, read

KINDS = {
    ".py": "a script has no cells: renaming it does not help, hand in the notebook it came from",
    ".zip": "an archive is not opened: unpack it, and hand in the notebook alone",
    ".html": "a page for reading is no notebook: hand in the notebook it came from",
    ".pdf": "a page for reading is no notebook: hand in the notebook it came from",
}


def find(submitted: Path, student: str, assignment: str) -> tuple[Path, list[str]]:
    """The file to grade, and what student and teacher should know of its name and place.

    Raises:
        NotGraded: there is none, or no telling which; the message says what to do.
    """
    _require_right(submitted / student, os.R_OK | os.X_OK)
    folder = submitted / student / assignment
    notes = []
    if not folder.is_dir():
        folder = submitted / student
        if not any(_named(path, assignment) for path in _files(folder)):
            reason = f"nothing was handed in: there is no folder {assignment}/"
            raise NotGraded("missing", reason)
        notes.append(f"there is no folder {assignment}/: taken from the folder above it")
    _require_right(folder, os.R_OK | os.X_OK)
    exact = folder / f"{assignment}.ipynb"
    if exact.is_symlink():
        reason = f"{exact.name} is a link and not a file: hand in the file itself"
        raise NotGraded("wrong name", reason)
    path = _choose(exact, [path for path in _files(folder) if _named(path, assignment)], notes)
    _require_right(path, os.R_OK)
    if path.stat().st_size > LARGEST:
        size = f"{LARGEST // 2**20} MB"
        reason = f"the notebook is larger than {size}: clear its outputs and hand it in again"
        raise NotGraded("corrupt", reason)
    return path, notes


def _require_right(path: Path, right: int) -> None:
    if path.exists() and not os.access(path, right, effective_ids=True):
        reason = f"{path.name} cannot be read: give yourself the right to (chmod -R u+rwX)"
        raise NotGraded("not graded", reason)


def strays(submitted: Path, assignment: str) -> list[str]:
    """Notebooks that lie in no student's folder, in words: Canvas packs all in one folder."""
    found = [path for path in sorted(submitted.glob("*")) if _named(path, assignment)]
    place = "{0} lies in no student's folder and is not graded: move it to {1}/{2}/{2}.ipynb"
    return [
        place.format(path.name, path.name.split("_")[0] or "STUDENT", assignment) for path in found
    ]


def _files(folder: Path) -> list[Path]:
    """Files of a folder and of the folders in it, but not hidden ones and no links."""
    found = [*folder.glob("*"), *folder.glob("*/*")]
    names = [path for path in found if not any(p.startswith(".") for p in path.parts[-2:])]
    links = [path for path in names if path.is_symlink() or path.parent.is_symlink()]
    return sorted(path for path in names if path.is_file() and path not in links)


def _named(path: Path, assignment: str) -> bool:
    """Whether the name is the assignment's, with what browsers and platforms add to it."""
    copy = r"([ _-]*(\(\d+\)|copy\d*|kopie|\d+))*"
    pattern = rf"(.*[ _-])?{re.escape(assignment)}{copy}\.ipynb(\.txt|\.json)?"
    return re.fullmatch(pattern, path.name, re.IGNORECASE) is not None and path.is_file()


def _choose(exact: Path, named: list[Path], notes: list[str]) -> Path:
    """The file with the right name, unless it is an untouched hand-out beside a better one."""
    others = [path for path in named if path != exact]
    if exact in named:
        better = [path for path in others if 0 < _stubs(exact) > _stubs(path)]
        if len(better) == 1 and not _answered(exact):
            notes.append(f"{exact.name} is the untouched hand-out: {better[0].name} was graded")
            return better[0]
        if others:
            beside = ", ".join(path.name for path in others)
            notes.append(f"{exact.name} was graded; beside it lies {beside}, which was not")
        return exact
    if len(others) == 1:
        found = others[0].relative_to(exact.parent)
        notes.append(f"the notebook must be named {exact.name}: {found} was graded")
        return others[0]
    if others:
        names = ", ".join(path.name for path in others)
        raise NotGraded("wrong name", f"there are {names}: leave one, and name it {exact.name}")
    raise _wrong_name(exact)


def _wrong_name(exact: Path) -> NotGraded:
    """What lies there instead, and what to do."""
    entries = sorted(entry.name for entry in exact.parent.iterdir())
    if not entries:
        return NotGraded("missing", f"nothing was handed in: {exact.parent.name}/ is empty")
    names = ", ".join(entries[:5])
    remedy = next((KINDS[Path(n).suffix] for n in entries if Path(n).suffix in KINDS), "rename it")
    if entries == [".ipynb_checkpoints"]:
        remedy = "it holds Jupyter's own copies, which may be old; hand in the notebook itself"
    return NotGraded(
        "wrong name", f"the notebook must be named {exact.name}, found {names}: {remedy}"
    )


def _sources(path: Path) -> list[str]:
    try:
        return [cell.source for cell in read(path.read_bytes())[0].cells]
    except NotGraded:
        return ["raise NotImplementedError()"] * 1000  # worse than every hand-out


def _stubs(path: Path) -> int:
    """How many of its cells nobody has answered."""
    return sum("raise NotImplementedError()" in source for source in _sources(path))


def _answered(path: Path) -> bool:
    """Whether any function in it is written."""
    written = [s for s in _sources(path) if re.search(r"^\s*def ", s, re.MULTILINE)]
    return any("raise NotImplementedError()" not in source for source in written)
