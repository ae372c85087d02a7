"""Read-along notebooks: each runs from top to bottom, its two files agree, and its outputs are not
stale.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy
import pytest
import yaml
from nbclient import NotebookClient

import kfqn_ref

from . import cells as cells_alone
from . import warm

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PAIRS = sorted(path.with_suffix("") for path in NOTEBOOKS.glob("[0-9]*.py"))
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")

each_notebook = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def read(pair: Path, suffix: str) -> nbformat.NotebookNode:
    return jupytext.read(pair.with_suffix(suffix))


def cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what each code cell printed; pictures and progress bars are not compared."""
    outputs = (cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    return ["".join(o.text for o in each if o.output_type == "stream") for each in outputs]


def same_up_to_the_processor(one: str, two: str) -> bool:
    """Whether words are equal and numbers close.

    Another processor sums in another order, and training magnifies that: a loss of 0.06 may print
    as 0.07. A stale output differs in words, in layout, or by more than a fifth.
    """
    words = [NUMBER.sub("#", text).split() for text in (one, two)]
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (one, two)]
    close = (abs(a - b) <= max(0.05, 0.2 * abs(a)) for a, b in zip(*numbers, strict=False))
    return words[0] == words[1] and len(numbers[0]) == len(numbers[1]) and all(close)


def launch(folder: Path, url: str) -> None:
    """Run ``make launch`` on a copy of the notebooks."""
    subprocess.run([sys.executable, folder / "launch.py", url], check=True)


def test_an_address_adds_what_opens_the_notebooks_and_none_removes_it(tmp_path):
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns("assignments", "trainers"))
    before = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    launch(folder, "https://github.com/owner/name")
    for pair in PAIRS:
        for suffix in (".py", ".ipynb"):
            text = (folder / pair.name).with_suffix(suffix).read_text(encoding="utf-8")
            assert f"github/owner/name/blob/main/notebooks/{pair.name}.ipynb" in text
            assert "%pip install -q git+https://github.com/owner/name" in text
        assert cells(read(folder / pair.name, ".py")) == cells(read(folder / pair.name, ".ipynb"))
    assert (tmp_path / ".binder" / "requirements.txt").is_file()
    launch(folder, "")
    assert before == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert not (tmp_path / ".binder").exists()


def test_without_an_address_nothing_leads_to_a_code_host():
    texts = [pair.with_suffix(".py").read_text(encoding="utf-8") for pair in PAIRS]
    assert not [text for text in texts if "colab" in text.lower() or "%pip" in text]


def test_each_chapter_has_its_notebook():
    """One for each numbered chapter, with its number and name, then that of the training page."""
    parts = yaml.safe_load((NOTEBOOKS.parent / "book" / "_toc.yml").read_text(encoding="utf-8"))
    (numbered,) = [part for part in parts["parts"] if part.get("numbered")]
    files = [chapter["file"] for chapter in numbered["chapters"]] + ["training"]
    assert [pair.name for pair in PAIRS] == [f"{n:02}_{file}" for n, file in enumerate(files, 1)]


@each_notebook
def test_the_pair_agrees(pair):
    assert cells(read(pair, ".py")) == cells(read(pair, ".ipynb")), (
        f"run: make notebooks ({pair.name})"
    )


@each_notebook
def test_it_is_complete(pair):
    """A picture, three questions with folded answers, no warning and no error among its outputs."""
    notebook = read(pair, ".ipynb")
    text = "\n".join(source for _, source in cells(notebook))
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert text.count("<details><summary>Answer</summary>") == 3
    assert "Change this and see" in text
    assert any("image/png" in o.get("data", {}) for o in outputs)
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]


def exercise(pair: Path) -> tuple[str, list[str], str]:
    """Return the cell of an exercise, the names of its hints and its solution."""
    notebook = cells(read(pair, ".ipynb"))
    titles = [source.startswith("## Exercise: ") for _, source in notebook]
    (at,) = [number for number, title in enumerate(titles) if title]
    _, cell = notebook[at + 1]
    _, hints = notebook[at + 2]
    (solution,) = re.findall(r"```python\n(.*?)```", hints, flags=re.DOTALL)
    return cell, re.findall(r"<details><summary>(.*?)</summary>", hints), solution


@pytest.mark.parametrize("pair", PAIRS[:-1], ids=lambda pair: pair.name)
def test_its_exercise_fails_a_law_until_it_is_solved(pair, capsys):
    """The cell as it stands, and then with the solution in place of its function."""
    cell, names, solution = exercise(pair)
    assert names == ["Hint 1", "Hint 2", "Hint 3", "Solution"]
    namespace = {"np": numpy, "kf": kfqn_ref}
    exec(cell, namespace)
    assert capsys.readouterr().out.startswith("✗")
    exec(solution, namespace)
    exec(cell[cell.index("try:") :], namespace)
    assert capsys.readouterr().out.startswith("✓")


def assert_not_stale(before: list[str], now: list[str]) -> None:
    for old, new in zip(before, now, strict=True):
        assert same_up_to_the_processor(old, new), (
            f"stale output, run: make notebooks\n{old}\n-- now --\n{new}"
        )


@each_notebook
def test_it_runs_and_prints_what_is_committed(pair, tmp_path):
    """In a fork of a warm process: a kernel would import torch again for every notebook."""
    if (
        "fashion" in pair.with_suffix(".py").read_text(encoding="utf-8")
        and not Path("/usr/share/datasets/fashion-mnist").is_dir()
    ):
        pytest.skip(
            "Fashion-MNIST is not installed, and the committed output is that of Fashion-MNIST"
        )
    assert "KFQN_QUICK" not in os.environ
    path, out = pair.with_suffix(".ipynb"), tmp_path / "printed.json"
    code, told = warm.Process(cells_alone.run, path, tmp_path, out).end()
    assert code == 0, told
    assert_not_stale(printed(read(pair, ".ipynb")), json.loads(out.read_text(encoding="utf-8")))


# the kernel client's own, from its dependencies
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_runs_in_a_kernel_of_jupyter_too(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # no settings of the user
    monkeypatch.delenv("MPLBACKEND", raising=False)  # inline figures, as the reader sees them
    notebook = read(PAIRS[0], ".ipynb")
    before, place = printed(notebook), {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=200, resources=place).execute()
    assert_not_stale(before, printed(notebook))


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("loss 0.06", "loss 0.07", True),
        ("loss 0.6", "loss 0.9", False),
        ("loss 0.6", "mean 0.6", False),
        ("errors 1 2", "errors 1", False),
        ("error 7e-17", "error 3e-16", True),
    ],
)
def test_what_counts_as_stale(one, two, same):
    assert same_up_to_the_processor(one, two) is same
