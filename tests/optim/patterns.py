"""The table of training patterns: what happens to each, and the test that shows it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

STORED = Path(__file__).parents[2] / "book/data/training_patterns.json"

TABLE: list[dict[str, str]] = []


def pattern(words: str, outcome: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Note that a test shows a pattern to be exact, refused, or named and given AdamW's step."""

    def note(test: Callable[..., Any]) -> Callable[..., Any]:
        module = test.__module__.rpartition(".")[2]
        TABLE.append(
            {
                "pattern": words,
                "outcome": outcome,
                "test": f"tests/optim/{module}.py::{test.__name__}",
            }
        )
        return test

    return note


def stored() -> list[dict[str, str]]:
    """The committed table."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def write(rows: list[dict[str, str]]) -> None:
    """Commit what the tests declare."""
    STORED.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
