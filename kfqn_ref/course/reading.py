"""Read a notebook as front ends, tools and learning platforms leave it.

Only the kind of a cell, its source and its mark are needed. So nothing else is asked of a file, and
nothing else is taken from it: no outputs, no attachments, no metadata.
"""

import ast
import json
import re
from typing import Any

import nbformat

MOST = 5000  # cells; a hand-out has about thirty
LARGEST = 100 * 2**20  # bytes of a file; outputs and pictures are most of a large one
AGAIN = "save it in Jupyter and hand it in again"


class NotGraded(Exception):
    """A submission that cannot be graded: its state, and what to do about it."""

    def __init__(self, state: str, reason: str):
        super().__init__(reason)
        self.state = state


def read(data: bytes) -> tuple[Any, list[str]]:
    """The notebook in a file, and what a teacher should know of the file.

    The cells have their source and, where there is one, ``metadata.nbgrader.grade_id``.

    Raises:
        NotGraded: it is no notebook; the message says what it is and what to do.
    """
    if data.startswith(b"PK\x03\x04"):
        raise _corrupt("it is an archive (zip)", "unpack it and hand in the notebook inside")
    text, notes = _text(data)
    try:
        raw = json.loads(_without_head(text))
        cells = [_cell(cell) for cell in _cells(raw)]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _no_notebook(text, error) from error
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    return notebook, notes


def _text(data: bytes) -> tuple[str, list[str]]:
    encoding = json.detect_encoding(data)  # by its first bytes: UTF-8, UTF-16, a mark in front
    try:
        return data.decode(encoding, "surrogatepass"), []
    except UnicodeDecodeError:
        note = "the file is in no Unicode encoding; it was read as Windows-1252"
        return data.decode("cp1252", "replace"), [note]


def _without_head(text: str) -> str:
    """The text from its first brace on, where only comments stand above it (Databricks)."""
    head, brace, rest = text.partition("{")
    comments = all(line.startswith("#") or not line.strip() for line in head.splitlines())
    return brace + rest if comments else text


def _cells(raw: Any) -> list[Any]:
    """The cells of a notebook of any version from 3 on."""
    if "worksheets" in raw:
        return [cell for sheet in raw["worksheets"] for cell in sheet["cells"]]
    cells = raw["cells"]
    if not isinstance(cells, list):
        raise TypeError("its cells are no list")
    if len(cells) > MOST:
        raise ValueError(f"it has {len(cells)} cells, more than {MOST}")
    return cells


def _cell(raw: Any) -> Any:
    kinds = {"code": nbformat.v4.new_code_cell, "raw": nbformat.v4.new_raw_cell}
    new = kinds.get(raw["cell_type"], nbformat.v4.new_markdown_cell)
    cell = new(_source(raw.get("source", raw.get("input", ""))))
    if grade_id := _mark(raw.get("metadata")):
        cell.metadata["nbgrader"] = {"grade_id": grade_id}
    return cell


def _source(value: Any) -> str:
    """One text, whether it came as one or as lines, with or without their ends."""
    lines = [str(line) for line in value] if isinstance(value, list) else [str(value or "")]
    bare = not any(line.endswith("\n") for line in lines[:-1])
    end = "\n" if bare else ""
    text = end.join(lines)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Halves of a surrogate pair are joined; one that stands alone becomes U+FFFD.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mark(metadata: Any) -> str:
    """The name that nbgrader gave a cell; empty marks and marks that were made text are met."""
    mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if isinstance(mark, str):
        try:
            mark = json.loads(mark)
        except ValueError:
            return ""
    name = mark.get("grade_id") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else ""


def _no_notebook(text: str, error: Exception) -> NotGraded:
    """What the file is instead, as far as one can tell."""
    if not text.strip():
        return _corrupt("it is empty", AGAIN)
    if text.lstrip().startswith("<"):
        return _corrupt("it is a web page", "download the notebook itself, " + AGAIN)
    if re.search("^ *<<<<<<< ", text, re.MULTILINE):
        return _corrupt(
            "it has the marks of a merge conflict, <<<<<<<", "keep one version, " + AGAIN
        )
    if isinstance(error, KeyError):
        return _corrupt(f"it has no {error}", AGAIN)
    if _is_script(text):
        return _corrupt("it is a Python script", "copy your functions into the hand-out, " + AGAIN)
    return _corrupt(str(error).splitlines()[0][:100], AGAIN)


def _is_script(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return not text.lstrip().startswith("{")


def _corrupt(what: str, remedy: str) -> NotGraded:
    return NotGraded("corrupt", f"the file is not a notebook ({what}): {remedy}")
