"""A line at the top of every page for browsers without JavaScript: what is missing, and where the
rest is.
"""

from typing import Any

NOTE = (
    '<noscript><p class="kfqn-noscript">This browser runs no JavaScript. Formulas are shown as '
    "LaTeX source, sliders stay at their start, the search does not work, and solutions are not "
    "folded. Text, code, tables and figures are complete.</p></noscript>\n"
)


def _add(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = NOTE + context["body"]


def setup(app: Any) -> dict[str, bool]:
    """Connect to the writing of pages."""
    app.connect("html-page-context", _add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
