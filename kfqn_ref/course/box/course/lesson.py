"""What a notebook's own cells call in the box: ``laws``, ``raises``, ``untampered``.

The marked tests do not run here: the grader runs them outside. A cell of the student's own that
calls ``laws`` learns whether they hold, and nothing else.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..tools import _box


class LawBroken(AssertionError):
    """A law does not hold."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def laws(
    namespace: Mapping[str, Any], *names: str, examples: int = 40, seed: int | None = None
) -> None:
    """Ask the grader whether laws hold for the functions of this notebook.

    Raises:
        LawBroken: one does not; the feedback of the test says why.
    """
    if _box.line.ask("laws", names, int(examples), seed):
        print("✓ " + ", ".join(names))
    else:
        raise LawBroken(f"✗ {', '.join(names)}: does not hold; the page of the test says why.")


def raises(error: type[Exception], function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """State that a call is refused with this class of error."""
    try:
        function(*args, **kwargs)
    except error:
        return
    raise LawBroken(f"✗ the call must raise {error.__name__}")


def untampered() -> None:
    """Do nothing: whatever a notebook replaces here, the laws are held outside."""
