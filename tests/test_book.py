"""What a build of the book does not notice: chapters silently not run, tables of contents that
differ.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(path for path in BOOK.glob("*.md") if path.name != "README.md")


def front_matter(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1]) if text.startswith("---\n") else {}


def names(tree: Any) -> list[str]:
    """Every file named in a table of contents, without its ending."""
    if isinstance(tree, list):
        return [name for each in tree for name in names(each)]
    if isinstance(tree, dict):
        own = [tree[key].removesuffix(".md") for key in ("root", "file") if key in tree]
        return own + [
            name
            for key in ("parts", "chapters", "children", "toc")
            for name in names(tree.get(key, []))
        ]
    return []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_with_cells_says_that_it_is_a_notebook(path: Path) -> None:
    if "{code-cell}" in path.read_text(encoding="utf-8"):
        header = front_matter(path)
        assert header["jupytext"]["text_representation"]["format_name"] == "myst"
        assert header["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_cells_stand_at_top_level(path: Path) -> None:
    # of fences longer than three characters, and of lists: there a cell would be shown, not run
    depth = 0
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"(````+|::::*)", line):
            depth = 1 - depth
        if "{code-cell}" in line:
            assert line.startswith("```{code-cell}"), line
            assert depth == 0, line


def test_both_tables_of_contents_name_the_same_chapters() -> None:
    one = names(yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8")))
    two = names(yaml.safe_load((BOOK / "myst.yml").read_text(encoding="utf-8"))["project"]["toc"])
    assert set(one) == {path.stem for path in CHAPTERS}
    only_sphinx = ("api", "genindex", "status")
    assert [name for name in one if name not in only_sphinx] == two


def test_an_equation_has_one_home() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in CHAPTERS)
    targets = Counter(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))
    assert [name for name, count in targets.items() if count > 1] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_exercise_has_one_solution(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r":label: (ex-[\w-]+)", text) == re.findall(r"\{solution\} (ex-[\w-]+)", text)
