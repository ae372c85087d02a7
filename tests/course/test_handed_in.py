"""Notebooks as front ends, tools and platforms leave them: read, and their cells found again.

Each change below is a kind that public notebooks show. The right answers stay right: whatever the
change, the function that runs before a test is the student's own, and no mark is lost or doubled.
"""

import copy
import json
import warnings

import nbformat
import numpy as np
import pytest

import kfqn_ref
from kfqn_ref.course.box.cells import Cells
from kfqn_ref.course.classroom import Classroom
from kfqn_ref.course.handed_in import find, strays
from kfqn_ref.course.marks import grade_id
from kfqn_ref.course.prepare import _copy_date, completed
from kfqn_ref.course.reading import NotGraded, read
from kfqn_ref.course.regrade import is_test

from . import answers
from .corpus import deleted, edited
from .samples import MASTERS, Sample, build, stubs

NAME = "a1_bfgs"
MASTER = MASTERS[NAME]
UPDATE = "bfgs_inverse_update"
STUB = stubs(NAME)[UPDATE]
MARKED = [grade_id(cell) for cell in MASTER.cells if grade_id(cell)]


def right() -> dict:
    """A right submission, as plain JSON."""
    return json.loads(nbformat.writes(build(Sample("s", NAME, 20))))


def name_of(cell: dict) -> str:
    return (cell["metadata"].get("nbgrader") or {}).get("grade_id", "")


def cell_of(notebook: dict, name: str) -> dict:
    return next(cell for cell in notebook["cells"] if name_of(cell) == name)


def place_of(notebook: dict, name: str) -> int:
    return notebook["cells"].index(cell_of(notebook, name))


def code(source: str, **metadata: object) -> dict:
    return {"cell_type": "code", "metadata": metadata, "source": source}


def graded_as(notebook: dict | bytes) -> tuple[list, list[str]]:
    """The cells that would run, and what is said of them."""
    data = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none may reach the teacher's terminal
        done = completed(data, MASTER, [])
        nbformat.validate(done)
    return done.cells, done.metadata["kfqn"]["notes"]


def assert_right(cells: list) -> None:
    """Every marked cell once, and the right update before each test of it."""
    names = [grade_id(cell) for cell in cells if grade_id(cell)]
    assert sorted(names) == sorted(MARKED)
    runner, H, s = Cells(), np.eye(2), np.array([1.0, 2.0])
    wanted = kfqn_ref.bfgs_inverse_update(H, s, s)
    for cell in cells:
        if is_test(cell):
            assert np.allclose(runner.namespace[UPDATE](H, s, s), wanted), grade_id(cell)
        elif cell.cell_type == "code":
            runner.run(cell.source)


# ---- what the file is


def test_only_kind_source_and_mark_are_needed():
    notebook = right()
    for cell in notebook["cells"]:
        for key in ("outputs", "execution_count", "id"):
            cell.pop(key, None)
        cell["metadata"] |= {"vendor": {"x": 1}, "tags": ["skip-execution"]}
    notebook["metadata"] = {"kernelspec": {"name": "ir"}, "widgets": {}}
    cells, notes = graded_as(notebook)
    assert_right(cells)
    assert not notes


def odd_outputs(notebook: dict) -> dict:
    outputs = [{"output_type": "error"}, {"output_type": "display_data", "data": 3}, "half \ud83d"]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = outputs
    return notebook


def version_3(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
    return {"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": notebook["cells"]}]}


def bare_lines(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).split("\n")
    return notebook


def windows_lines(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    return notebook


FORMATS = {
    "ids below minor 5": lambda notebook: notebook | {"nbformat_minor": 2},
    "a newer minor": lambda notebook: notebook | {"nbformat_minor": 9},
    "a newer major": lambda notebook: notebook | {"nbformat": 5},
    "no metadata at all": lambda notebook: {"cells": notebook["cells"]},
    "foreign keys": lambda notebook: notebook | {"extensions": {"a": [1]}},
    "odd outputs": odd_outputs,
    "version 3": version_3,
    "lines without ends": bare_lines,
    "lines of Windows": windows_lines,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_that_is_a_little_off_is_read(name):
    cells, notes = graded_as(FORMATS[name](right()))
    assert_right(cells)
    assert not notes


TEXT = json.dumps(right(), ensure_ascii=False, indent=1)
ENCODINGS = {
    "byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "CRLF": TEXT.replace("\n", "\r\n").encode(),
    "a line of Databricks above": b"# Databricks notebook source\n" + TEXT.encode(),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_bytes_of_another_kind_are_read(name):
    cells, notes = graded_as(ENCODINGS[name])
    assert_right(cells)
    assert not notes


def test_half_a_surrogate_in_a_source_is_replaced():
    notebook = right()
    notebook["cells"].insert(2, code("x = '\ud83d'"))
    cells, _ = graded_as(notebook)
    assert "x = '\ufffd'" in [cell.source for cell in cells]


def test_another_encoding_is_said():
    text = TEXT.encode("ascii", "ignore").replace(b"### BEGIN", b"### na\xefve BEGIN", 1)
    _, notes = read(text)
    assert "Windows-1252" in notes[0]


NO_NOTEBOOK = {
    b"": "it is empty",
    b"<!DOCTYPE html><html>": "it is a web page",
    b"def f(x):\n    return x\n": "it is a Python script",
    b"PK\x03\x04 and so on": "it is an archive (zip)",
    b'{\n<<<<<<< HEAD\n "cells": []}': "merge conflict",
    b'{"metadata": {}}': "it has no 'cells'",
    b'{"cells": [{"source": "x"}]}': "it has no 'cell_type'",
    b'{"cells": [{"cell_type": "co': "Unterminated string",
    b"[" * 100_000: "the file is not a notebook",
    b"3": "the file is not a notebook",
}


@pytest.mark.parametrize("data", NO_NOTEBOOK, ids=lambda data: data[:20])
def test_what_is_no_notebook_is_told_what_it_is_and_what_to_do(data):
    with pytest.raises(NotGraded) as told:
        read(data)
    assert told.value.state == "corrupt"
    assert NO_NOTEBOOK[data] in str(told.value)
    assert "hand" in str(told.value)
    assert "\n" not in str(told.value)


# ---- marks


def strip(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        cell["metadata"] = {}
    return notebook


def without_tests(notebook: dict) -> dict:
    tests = [
        cell for cell in notebook["cells"] if "points" in (cell["metadata"].get("nbgrader") or {})
    ]
    return notebook | {"cells": [cell for cell in notebook["cells"] if cell not in tests]}


def as_text(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        if name_of(cell):
            cell["metadata"]["nbgrader"] = json.dumps(cell["metadata"]["nbgrader"])
    return notebook


def schema_1(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        if name_of(cell):
            cell["metadata"]["nbgrader"] |= {"schema_version": 1}
            cell["metadata"]["nbgrader"].pop("task")
    return notebook


def empty_marks(notebook: dict) -> dict:
    for number, mark in enumerate((None, {}, "", "no JSON", [1])):
        notebook["cells"].insert(2 + number, code("x = 1", nbgrader=mark))
    return notebook


def reformatted(notebook: dict) -> dict:
    for cell in strip(notebook)["cells"]:
        cell["source"] = "".join(cell["source"]).replace('"', "'").replace("\n\n", "\n\n\n")
    return notebook


MARKS = {
    "all lost": (strip, "has lost marks"),
    "all lost and tests deleted": (
        lambda notebook: strip(without_tests(notebook)),
        "has lost marks",
    ),
    "all lost and reformatted": (reformatted, "has lost marks"),
    "made text": (as_text, ""),
    "schema 1": (schema_1, ""),
    "empty": (empty_marks, ""),
}


@pytest.mark.parametrize("name", MARKS)
def test_marks_are_found_again(name):
    change, told = MARKS[name]
    cells, notes = graded_as(change(right()))
    assert_right(cells)
    assert any(told in note for note in notes) if told else not notes


@pytest.mark.parametrize(
    "cells", [[], [code("x = 1")], [code("y", nbgrader={"grade_id": "other"})]]
)
def test_a_notebook_in_which_nothing_is_recognised_has_a_state_of_its_own(cells):
    with pytest.raises(NotGraded, match="has lost its marks.*copy your functions") as told:
        graded_as({"cells": cells})
    assert told.value.state == "lost its marks"


@pytest.mark.parametrize("change", [deleted, edited])
def test_lost_and_edited_tests_come_back_in_the_master_s_order(change):
    cells, _ = graded_as(nbformat.writes(change(build(Sample("s", NAME, 20)))).encode())
    names = [grade_id(cell) for cell in cells if grade_id(cell)]
    assert names == MARKED
    assert_right(cells)
    assert len({cell["id"] for cell in cells}) == len(cells)


# ---- cells copied, split, moved, turned into text


def with_cell(name: str, after: int, source: str | None = None, *, mark: bool = True) -> dict:
    """The right notebook with a copy of a cell so many cells below it (or above it)."""
    notebook = right()
    place = place_of(notebook, name)
    twin = copy.deepcopy(notebook["cells"][place])
    twin["source"] = twin["source"] if source is None else source
    twin["metadata"] = twin["metadata"] if mark else {}
    notebook["cells"].insert(max(0, place + after), twin)
    return notebook


def split() -> dict:
    helper = "def outer(a, b):\n    return a[:, None] * b\n"
    notebook = with_cell(UPDATE, 0, helper)
    own = notebook["cells"][place_of(notebook, UPDATE) + 1]
    own["source"] = "".join(own["source"]).replace("np.outer", "outer")
    return notebook


def merged() -> dict:
    notebook = right()
    direct = cell_of(notebook, "bfgs_direct_update")
    notebook["cells"].remove(direct)
    cell_of(notebook, UPDATE)["source"] += ["\n\n", *direct["source"]]
    return notebook


def moved(name: str, place: int) -> dict:
    notebook = right()
    cell = cell_of(notebook, name)
    notebook["cells"].remove(cell)
    notebook["cells"].insert(place, cell)
    return notebook


def turned(name: str, kind: str) -> dict:
    notebook = right()
    cell_of(notebook, name)["cell_type"] = kind
    return notebook


def switched_off() -> dict:
    """An old attempt made text, and the right one in a new cell."""
    notebook = turned(UPDATE, "raw")
    old = cell_of(notebook, UPDATE)
    notebook["cells"].insert(place_of(notebook, UPDATE), code("".join(old["source"])))
    old["source"] = [STUB]
    return notebook


def at_the_end() -> dict:
    notebook = right()
    cell = cell_of(notebook, UPDATE)
    notebook["cells"].remove(cell)
    notebook["cells"].append(code("".join(cell["source"])))
    return notebook


def added_to(name: str, lines: str) -> dict:
    notebook = right()
    cell_of(notebook, name)["source"].insert(0, lines)
    return notebook


COUNTS = "the last definition that runs before a test counts there"
CHANGES = {
    "a stub's copy above": (lambda: with_cell(UPDATE, 0, STUB), COUNTS),
    "a stub's copy below the tests": (lambda: with_cell(UPDATE, 99, STUB), COUNTS),
    "the same without a mark": (lambda: with_cell(UPDATE, 99, STUB, mark=False), COUNTS),
    "the right cell twice": (lambda: with_cell(UPDATE, 1), COUNTS),
    "a test twice": (lambda: with_cell("secant", 1), ""),
    "a test's copy above all": (lambda: with_cell("secant", -99), ""),
    "the setup twice": (lambda: with_cell("setup", 99), ""),
    "split": (split, ""),
    "merged": (merged, ""),
    "a test above its function": (lambda: moved("secant", 2), "secant stood above the functions"),
    "the setup last": (lambda: moved("setup", 99), "setup stood below the cells that need it"),
    "a function turned into text": (lambda: turned(UPDATE, "markdown"), "turned into markdown"),
    "a test turned into raw": (lambda: turned("secant", "raw"), "secant was turned into raw"),
    "an old attempt turned into raw": (switched_off, ""),
    "functions in a new cell at the end": (at_the_end, "stood above the functions"),
    "an import in the setup": (lambda: added_to("setup", "import math\n"), "cell of their own"),
    "a test edited": (lambda: added_to("secant", "print(1)\n"), "changed and has been put back"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_cells_that_were_copied_moved_or_turned_count_as_they_should(name):
    change, told = CHANGES[name]
    cells, notes = graded_as(change())
    assert_right(cells)
    assert any(told in note for note in notes) if told else not notes


def test_what_a_student_defines_in_a_locked_cell_is_kept_beside_it():
    cells, _ = graded_as(added_to("secant", "def helper(a):\n    return a\n"))
    place = next(i for i, cell in enumerate(cells) if grade_id(cell) == "secant")
    assert cells[place - 1].source == "def helper(a):\n    return a"
    assert cells[place].source.startswith("laws(globals()")


def test_a_wrong_last_definition_counts_as_in_jupyter():
    notebook = right()
    wrong = code(answers.WITHOUT_STEP)
    notebook["cells"].insert(place_of(notebook, "secant"), wrong)
    cells, notes = graded_as(notebook)
    assert COUNTS in notes[0]
    with pytest.raises(AssertionError, match="secant"):
        assert_right(cells)


def test_an_answer_in_words_is_found_where_it_belongs():
    notebook = json.loads(nbformat.writes(build(Sample("s", "a2_damping", 18))))
    cell_of(notebook, "proof")["source"] = "By the triangle inequality."
    done = completed(json.dumps(strip(notebook)).encode(), MASTERS["a2_damping"], [])
    proof = next(cell for cell in done.cells if grade_id(cell) == "proof")
    assert proof.source == "By the triangle inequality."


# ---- names and places


def folder_with(tmp_path, **files: bytes):
    for name, data in files.items():
        path = tmp_path / "ann" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


HANDOUT = json.dumps(
    json.loads(nbformat.writes(build(Sample("s", NAME, 0, cells=stubs(NAME)))))
).encode()
DONE = TEXT.encode()
EXACT = f"{NAME}/{NAME}.ipynb"
FOUND = [
    ({EXACT: DONE}, f"{NAME}.ipynb", ""),
    (
        {EXACT: DONE, f"{NAME}/.ipynb_checkpoints/{NAME}-checkpoint.ipynb": DONE},
        f"{NAME}.ipynb",
        "",
    ),
    ({f"{NAME}/{NAME} (1).ipynb": DONE}, f"{NAME} (1).ipynb", "must be named"),
    ({f"{NAME}/{NAME.upper()}.ipynb": DONE}, f"{NAME.upper()}.ipynb", "must be named"),
    ({f"{NAME}/{NAME}.ipynb.txt": DONE}, f"{NAME}.ipynb.txt", "must be named"),
    ({f"{NAME}/{NAME}/{NAME}.ipynb": DONE}, f"{NAME}.ipynb", "must be named"),
    (
        {f"{NAME}/doe_LATE_47_815_{NAME}-1.ipynb": DONE},
        f"doe_LATE_47_815_{NAME}-1.ipynb",
        "must be",
    ),
    ({f"{NAME}.ipynb": DONE}, f"{NAME}.ipynb", "there is no folder"),
    ({EXACT: HANDOUT, f"{NAME}/{NAME} (1).ipynb": DONE}, f"{NAME} (1).ipynb", "untouched hand-out"),
    ({EXACT: DONE, f"{NAME}/{NAME} (1).ipynb": HANDOUT}, f"{NAME}.ipynb", "beside it lies"),
    ({EXACT: DONE, f"{NAME}/{NAME} (1).ipynb": DONE}, f"{NAME}.ipynb", "beside it lies"),
]


@pytest.mark.parametrize(("files", "name", "told"), FOUND)
def test_a_notebook_is_found_by_the_names_that_platforms_give(tmp_path, files, name, told):
    path, notes = find(folder_with(tmp_path, **files), "ann", NAME)
    assert path.name == name
    assert path.read_bytes() == DONE
    assert told in " ".join(notes) if told else not notes


NOT_FOUND = [
    ({f"{NAME}/{NAME}.py": b"x"}, "wrong name", "a script has no cells"),
    ({f"{NAME}/{NAME}.zip": b"x"}, "wrong name", "unpack it"),
    ({f"{NAME}/homework.ipynb": DONE}, "wrong name", "found homework.ipynb: rename it"),
    ({f"{NAME}/.ipynb_checkpoints/{NAME}-checkpoint.ipynb": DONE}, "wrong name", "own copies"),
    (
        {f"{NAME}/{NAME} (1).ipynb": DONE, f"{NAME}/{NAME} (2).ipynb": DONE},
        "wrong name",
        "leave one",
    ),
    ({"notes.txt": b"x"}, "missing", "nothing was handed in"),
]


@pytest.mark.parametrize(("files", "state", "told"), NOT_FOUND)
def test_what_cannot_be_graded_says_what_to_do(tmp_path, files, state, told):
    with pytest.raises(NotGraded, match="^[^\n]*$") as problem:
        find(folder_with(tmp_path, **files), "ann", NAME)
    assert problem.value.state == state
    assert told in str(problem.value)


def test_a_link_to_a_file_of_the_teacher_is_not_followed(tmp_path):
    folder_with(tmp_path, **{"other/x": b""})
    (tmp_path / "secret.ipynb").write_bytes(DONE)
    folder = tmp_path / "ann" / NAME
    folder.mkdir()
    (folder / f"{NAME} (1).ipynb").symlink_to(tmp_path / "secret.ipynb")
    with pytest.raises(NotGraded, match="must be named"):
        find(tmp_path, "ann", NAME)


def test_a_notebook_in_nobody_s_folder_is_mentioned(tmp_path):
    (tmp_path / f"doejane_4711_815_{NAME}.ipynb").write_bytes(DONE)
    (tmp_path / "notes.txt").write_bytes(b"")
    (told,) = strays(tmp_path, NAME)
    assert f"move it to doejane/{NAME}/{NAME}.ipynb" in told


def test_a_hidden_folder_is_no_student(tmp_path):
    for name in ("ann", ".ipynb_checkpoints"):
        (tmp_path / "submitted" / name).mkdir(parents=True)
    assert Classroom(tmp_path).students() == ["ann"]


@pytest.mark.parametrize(
    ("text", "copied"),
    [("2026-01-02 03:04:05 UTC", True), ("handed in on Friday, about noon", False), ("", False),
     ("1 2 nowhere", False)],
)  # fmt: skip  # a pair a line
def test_a_date_is_copied_and_what_is_none_is_said(tmp_path, text, copied):
    stamp, clean = tmp_path / "timestamp.txt", tmp_path / "clean"
    stamp.write_text(text)
    clean.mkdir()
    notes = _copy_date(stamp, clean)
    assert (clean / "timestamp.txt").exists() is copied
    assert bool(notes) is not copied
