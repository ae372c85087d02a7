"""The chapters of the book as their reader meets them: parts in one order, terms linked where they
are first used, and none longer than 20 minutes.

Reading time is counted by one rule: 200 words a minute, one minute for each formula that stands on
its own, one second for each line of code that is shown. The sentences of claims count as words.
Folded cells, outputs and the folded solutions of exercises do not count.
"""

import ast
import re
from pathlib import Path

import pytest
import yaml

from kfqn_ref.experiments.book.claims import sentences

BOOK = Path(__file__).parents[1] / "book"
WORDS_A_MINUTE = 200
LINES_A_MINUTE = 60
MOST_MINUTES = 20

# Part of a chapter, and what its first line looks like.
PARTS = {
    "question": r"^\*\*Question\.\*\* ",
    "prerequisites": r"^\*You need ",
    "why it matters": r"^\*\*Why it matters\.\*\* ",
    "smallest example": r"^## The smallest example$",
    "formula": r"^\(eq-[\d-]+\)=$",
    "function": r"^```\{literalinclude\} ",
    "test box": r"^:tags: \[test-box",
    "claim": r"^:tags: \[claim\]$",
    "what it does not show": r"^(\*\*|## )What this does not (show|say)",
    "break it": r"^## Break it",
    "exercises": r"^## Exercises$",
    "summary": r"^## Summary$",
}

# Parts that a chapter does not have, or has elsewhere, and why.
EXCEPT = {
    "newton": {"smallest example"},  # its first formula is the example
    "kfqn": {"formula"},  # the equations of its algorithm have their home in the chapters before
    # The last three chapters are about tests and measurements, not about a formula.
    "testing": {
        "question",
        "prerequisites",
        "why it matters",
        "smallest example",
        "formula",
        "what it does not show",
        "summary",
    },
    "races": {
        "prerequisites",
        "why it matters",
        "smallest example",
        "formula",
        "what it does not show",
        "exercises",
    },
    "scale": {"why it matters", "smallest example"},
}

# Words of everyday language that the glossary also has; a chapter need not link them.
EVERYDAY = {"check", "lean"}


def numbered() -> list[str]:
    """The names of the numbered chapters, in their order."""
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    (chapters,) = [part["chapters"] for part in parts if part.get("numbered")]
    return [chapter["file"] for chapter in chapters]


CHAPTERS = numbered()


def body(chapter: str) -> str:
    """The text of a chapter behind its front matter."""
    text = (BOOK / f"{chapter}.md").read_text(encoding="utf-8")
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def without(text: str, *directives: str) -> str:
    """A text without the blocks of some directives."""
    block = rf"^(`{{3,}})\{{(?:{'|'.join(directives)})\}}.*?^\1$"
    return re.sub(block, "", text, flags=re.DOTALL | re.MULTILINE)


def out_of_order(text: str, skipped: set[str]) -> list[str]:
    """The parts that do not follow the part before them."""
    missing = []
    position = 0
    for part, pattern in PARTS.items():
        if part in skipped:
            continue
        found = re.compile(pattern, re.MULTILINE).search(text, position)
        if found is None:
            missing.append(part)
        else:
            position = found.end()
    return missing


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_parts_of_a_chapter_stand_in_one_order(chapter: str) -> None:
    assert out_of_order(body(chapter), EXCEPT.get(chapter, set())) == []


@pytest.mark.parametrize("chapter", [name for name in CHAPTERS if name not in EXCEPT])
def test_a_chapter_begins_and_ends_alike(chapter: str) -> None:
    paragraphs = body(chapter).strip().split("\n\n")
    begin = ("# ", "**Question.** ", "*You need ", "**Why it matters.** ")
    for paragraph, start in zip(paragraphs, begin, strict=False):
        assert paragraph.startswith(start)
    prose = without(body(chapter), "code-cell")
    headings = re.findall(r"^## (.*)$", prose, flags=re.MULTILINE)
    assert headings[-3:] == ["Break it", "Exercises", "Summary"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_left_out_is_noticed(part: str) -> None:
    text = body("convolutions")
    assert out_of_order(text, set()) == []
    broken = re.sub(PARTS[part], "", text, flags=re.MULTILINE)
    assert part in out_of_order(broken, set())


def shown_lines(text: str) -> int:
    """Lines of the cells that are not folded, and of the functions that are included."""
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    shown = [cell for cell in cells if not re.match(r":tags: \[.*(hide-input|claim)", cell)]
    lines = sum(bool(line.strip()) for cell in shown for line in cell.splitlines())
    include = r"^```\{literalinclude\} (\S+)\n(.*?)^```$"
    for path, options in re.findall(include, text, re.DOTALL | re.MULTILINE):
        lines += included_lines((BOOK / path).read_text(encoding="utf-8"), options)
    return lines


def included_lines(source: str, options: str) -> int:
    """Lines of the object or of the part of a file that an inclusion shows."""
    named = re.search(r":pyobject: (\S+)", options)
    if named is None:
        begin = re.search(r":start-at: (.*)", options)
        end = re.search(r":end-before: (.*)", options)
        assert begin is not None
        assert end is not None
        start = source.index(begin[1])
        return source[start : source.index(end[1], start)].count("\n")
    scope: ast.AST = ast.parse(source)
    for name in named[1].split("."):
        inside = [node for node in ast.iter_child_nodes(scope) if getattr(node, "name", "") == name]
        (scope,) = inside
    assert isinstance(scope, ast.FunctionDef | ast.ClassDef)
    assert scope.end_lineno is not None
    return scope.end_lineno - scope.lineno + 1


FORMULA = re.compile(r"\$\$.*?\$\$|\\begin\{(equation|align)\*\}.*?\\end\{\1\*\}", flags=re.DOTALL)


def minutes(chapter: str) -> float:
    """The time that a chapter takes to read, by the rule of this file."""
    text = without(body(chapter), "solution")
    claims = " ".join(sentences(BOOK / f"{chapter}.md"))
    prose = without(text, "code-cell", "literalinclude")
    formulas = FORMULA.findall(prose)
    prose = FORMULA.sub("", prose)
    prose = re.sub(r"\$[^$]*\$", "symbol", prose)
    words = len(prose.split()) + len(claims.split())
    return words / WORDS_A_MINUTE + len(formulas) + shown_lines(text) / LINES_A_MINUTE


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_read_in_twenty_minutes(chapter: str) -> None:
    assert minutes(chapter) <= MOST_MINUTES


def terms() -> list[str]:
    """The words of the glossary."""
    entries = body("glossary").split("```{glossary}\n")[1].split("```")[0]
    return re.findall(r"^(\S.*)$", entries, flags=re.MULTILINE)


def unlinked(text: str) -> list[str]:
    """Words of the glossary that a text uses before it links them. A link to a chapter will do."""
    prose = without(text, "code-cell", "literalinclude", "solution")
    prose = re.sub(r"^#.*$|\[[^\]]*\]\([^)]*\)", "", prose, flags=re.MULTILINE)
    late = []
    for term in terms():
        used = re.search(rf"(?<![\w`-]){re.escape(term)}(?:s|es)?(?![\w-])", prose)
        link = re.search(rf"\{{term\}}`(?:[^`]*<)?{re.escape(term)}>?`", prose)
        if used is None or term in EVERYDAY:
            continue
        if link is None or used.start() < link.start():
            late.append(term)
    return late


@pytest.mark.parametrize("chapter", CHAPTERS[:10])
def test_a_chapter_links_a_term_where_it_first_uses_it(chapter: str) -> None:
    assert unlinked(body(chapter)) == []


def test_a_term_without_its_link_is_noticed() -> None:
    assert unlinked("A mutant. A {term}`mutant` is linked.") == ["mutant"]
    assert unlinked("{term}`Mutants <mutant>` are linked, then a mutant is not.") == []
