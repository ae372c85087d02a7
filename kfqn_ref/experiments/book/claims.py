"""Sentences of the book with their numbers filled in from data, each asserted where it is shown.

A cell with the tag ``claim`` ends in a call of `claim`. The cell fails if the data do not support
the sentence, and also if the sentence would still be asserted with data that should refute it.
``python -m kfqn_ref.experiments.book.claims`` lists all claims of the chapters.
"""

import argparse
import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Claim:
    """A sentence that holds, as a notebook shows it."""

    sentence: str

    def _repr_markdown_(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return self.sentence


def claim(
    sentence: str,
    holds: Callable[..., bool],
    data: Mapping[str, Any],
    broken: Mapping[str, Any],
) -> Claim:
    """Fill the numbers of the data into the sentence and assert it.

    ``holds(**data)`` must be true, and false for each entry of ``broken`` put in the place of the
    datum of that name: a sentence that no data refute says nothing. Every datum must have such an
    entry. Raises AssertionError with the sentence, ValueError if ``broken`` is incomplete.
    """
    if set(broken) != set(data):
        raise ValueError(f"broken must name the data {sorted(data)}, got {sorted(broken)}")
    text = sentence.format(**data)
    assert holds(**data), f"the data do not support this sentence: {text}"
    for name, value in broken.items():
        refuted = not holds(**{**data, name: value})
        assert refuted, f"this sentence is asserted with {name} = {value!r} as well: {text}"
    return Claim(text)


def sentences(chapter: Path) -> list[str]:
    """Templates of the claims of a chapter, in order."""
    cells = re.findall(
        r"^```\{code-cell\} python\n(.*?)^```", chapter.read_text("utf-8"), flags=re.M | re.S
    )
    found = []
    for cell in cells:
        code = re.sub(r"^:tags:.*$", "", cell, flags=re.M)
        # calls in the order of their lines; ast.walk goes by depth
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: node.lineno):
            if isinstance(call.func, ast.Name) and call.func.id == "claim":
                found.append(ast.literal_eval(call.args[0]))
    return found


def main() -> None:
    """Print the claims of all chapters of a folder, with the chapter that computes them."""
    parser = argparse.ArgumentParser(description="List the claims of the book's chapters.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("book"))
    folder = parser.parse_args().folder
    for chapter in sorted(folder.glob("*.md")):
        for sentence in sentences(chapter):
            print(f"{chapter.name}: {sentence}")


if __name__ == "__main__":
    main()
