"""What the API pages leave out: the fields of a named tuple, which its class's docstring
describes.
"""

from typing import Any


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return True if type(obj).__name__ == "_tuplegetter" else None  # None: as without this extension


def setup(app: Any) -> dict[str, bool]:
    """Connect to autodoc."""
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}
