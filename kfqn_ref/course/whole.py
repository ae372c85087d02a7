"""Files of a course that may be broken, and what is said and kept then: JSON, and the gradebook."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

BROKEN = "{} is broken ({}): nothing was changed. Move it away, or put a copy of yours in its place"


class CourseError(Exception):
    """The course folder is not as it must be; the message says what to do."""


COPIES = 3  # of the gradebook that are kept, from before the latest gradings


def require_whole(path: Path) -> None:
    """Refuse a gradebook that is broken.

    Raises:
        CourseError: it is; the message names the latest copy that is whole.
    """
    problem = _problem(path)
    if problem:
        copies = (path.with_name(f"{path.name}.{number}") for number in range(1, COPIES + 1))
        whole = next((copy for copy in copies if copy.is_file() and not _problem(copy)), None)
        way = "there is no copy that is whole; without it, release and grade make a new one"
        if whole is not None:
            way = f"{whole} is the latest copy that is whole: rename it to {path.name}"
        raise CourseError(
            f"{path} is broken ({problem}): nothing was changed. Move it away; {way}. The scores "
            "of tests are in grades/ as well"
        )


def _problem(path: Path) -> str:
    """What is wrong with a database, or nothing; one that is not there is whole."""
    if not path.is_file() or path.stat().st_size == 0:
        return ""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as base:
            said = base.execute("PRAGMA quick_check(1)").fetchone()[0]
            base.execute("SELECT 1 FROM student LIMIT 1")
    except sqlite3.Error as error:
        return str(error)
    return "" if said == "ok" else str(said)


def copy_gradebook(path: Path) -> None:
    """Keep a copy of a gradebook as it is now; the oldest of :data:`COPIES` goes."""
    if not path.is_file():
        return
    require_whole(path)
    new = path.with_name(f".{path.name}-copy")
    try:
        with closing(sqlite3.connect(path)) as base, closing(sqlite3.connect(new)) as copy:
            base.backup(copy)
        _in_front(path, new)
    finally:
        new.unlink(missing_ok=True)


def _in_front(path: Path, new: Path) -> None:
    """Make a copy the first one, and number the others anew."""
    for number in range(COPIES, 1, -1):
        older = path.with_name(f"{path.name}.{number - 1}")
        if older.is_file():
            os.replace(older, path.with_name(f"{path.name}.{number}"))
    os.replace(new, path.with_name(f"{path.name}.1"))


def entries(path: Path, none: Any) -> Any:
    """What a file of the grader's own says, or nothing where there is none."""
    if not path.is_file():
        return none
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(BROKEN.format(path, error)) from error
    if type(found) is not type(none):
        raise CourseError(BROKEN.format(path, f"it must hold a {type(none).__name__}"))
    return found
