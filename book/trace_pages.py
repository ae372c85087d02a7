"""Links from formulas to functions, laws and mutants, and back, put in while Sphinx reads."""

from pathlib import Path
from typing import Any

from kfqn_ref.experiments.book import trace

FOLDER = Path(__file__).parent
PLACE = "% The list of all laws is put here while the book is built."


def _read(app: Any, docname: str, source: list[str]) -> None:
    text = trace.with_links(source[0], trace.formulas(FOLDER))
    if docname == "laws":
        text = text.replace(PLACE, trace.laws_page(FOLDER))
    source[0] = text


def _docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:  # the signature is autodoc's
    trace.link_docstring(name, lines, trace.formulas(FOLDER))


def _outdated(app: Any, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
    return ["laws"]  # it changes with the package, not with its own file


def setup(app: Any) -> dict[str, bool]:
    """Connect to the reading of pages and of docstrings."""
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _outdated)
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True}
