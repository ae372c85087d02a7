"""What a build of the book does not notice: chapters silently not run, tables of contents that
differ.
"""

import re
import tokenize
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
    only_sphinx = ("laws", "api", "genindex", "status")
    assert [name for name in one if name not in only_sphinx] == two


def test_an_equation_has_one_home() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in CHAPTERS)
    targets = Counter(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))
    assert [name for name, count in targets.items() if count > 1] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_exercise_has_one_solution(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r":label: (ex-[\w-]+)", text) == re.findall(r"\{solution\} (ex-[\w-]+)", text)


def numbered_chapters() -> dict[str, int]:
    """The number of each chapter of the part that is numbered, by file name."""
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    (numbered,) = [part for part in parts if part.get("numbered")]
    return {chapter["file"]: n for n, chapter in enumerate(numbered["chapters"], 1)}


def tags_of(chapter: str) -> list[tuple[int, int]]:
    """The numbers (chapter, equation) of the displayed equations of a chapter, in their order."""
    text = (BOOK / f"{chapter}.md").read_text(encoding="utf-8")
    return [(int(c), int(n)) for c, n in re.findall(r"\\tag\{(\d+)\.(\d+)\}", text)]


EQUATIONS = {
    tag for chapter, n in numbered_chapters().items() for tag in tags_of(chapter) if tag[0] == n
}


@pytest.mark.parametrize("chapter", numbered_chapters())
def test_equations_are_numbered_by_chapter_in_their_order(chapter: str) -> None:
    """An equation that is shown a second time keeps its number."""
    number = numbered_chapters()[chapter]
    tags = tags_of(chapter)
    own = [n for c, n in tags if c == number]
    assert own == list(range(1, len(own) + 1))
    assert set(tags) <= EQUATIONS


@pytest.mark.parametrize("chapter", numbered_chapters())
def test_targets_of_equations_have_the_number_of_their_equation(chapter: str) -> None:
    text = (BOOK / f"{chapter}.md").read_text(encoding="utf-8")
    for match in re.finditer(r"^\(eq-(\d+)-(\d+)\)=$", text, re.MULTILINE):
        shown = re.search(r"\\tag\{(\d+\.\d+)\}", text[match.end() :])
        assert shown is not None
        assert shown[1] == f"{match[1]}.{match[2]}"


NUMBER = re.compile(r"(?<![\w.\])])\((\d{1,2})\.(\d{1,2})\)")


def words_of(path: Path) -> str:
    """Comments and strings of a Python file: what is written in it for a reader."""
    with path.open("rb") as file:
        found = list(tokenize.tokenize(file.readline))
    kept = {tokenize.COMMENT, tokenize.STRING}
    return "\n".join(token.string for token in found if token.type in kept)


def cited(text: str) -> set[tuple[int, int]]:
    """The numbers of equations that a text names."""
    return {(int(c), int(n)) for c, n in NUMBER.findall(text)}


CODE = [path for path in BOOK.parent.glob("kfqn_ref/**/*.py")]


def test_every_equation_that_code_names_is_in_the_book() -> None:
    unknown = {str(path): cited(words_of(path)) - EQUATIONS for path in CODE}
    assert {path: numbers for path, numbers in unknown.items() if numbers} == {}
    assert len(set().union(*(cited(words_of(path)) for path in CODE))) > 15


def test_no_theorem_is_named_by_a_number_that_the_book_does_not_have() -> None:
    named = re.compile(r"\b(theorem|lemma|law)s? \d", re.IGNORECASE)
    assert [str(path) for path in CODE if named.search(words_of(path))] == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_equation_that_a_chapter_names_is_in_the_book(path: Path) -> None:
    prose = re.sub(r"```\{code-cell\}.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\[\((\d+)\.(\d+)\)\]\(#eq-(\d+)-(\d+)\)", prose)
    assert [link for link in links if link[:2] != link[2:]] == []
    assert cited(prose) <= EQUATIONS


@pytest.mark.parametrize("chapter", list(numbered_chapters())[:9])
def test_the_running_example_is_drawn_in_each_chapter_that_works_it(chapter: str) -> None:
    text = (BOOK / f"{chapter}.md").read_text(encoding="utf-8")
    assert text.count("\nin_numbers(") == 1
