"""Inside the box: run cells as Jupyter runs them, by IPython itself.

The notebook runs in a kernel, and a second time here. Both leave it to IPython what a line that
begins with ``%`` or ``!`` means: a magic where Jupyter takes it for one, a remainder or ``!=``
inside an expression.
"""

from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class _Shell(InteractiveShell):
    """IPython without a terminal and without a reader of its output."""

    def init_profile_dir(self, profile_dir: Any) -> None:
        """Have no profile: the box keeps no files of IPython's."""
        self.profile_dir = None

    def enable_gui(self, gui: Any = None) -> None:
        """Accept ``%matplotlib inline``: there is no event loop to start."""

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Show nothing: errors are returned."""

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        """Show nothing: errors are returned."""

    def ask_exit(self) -> None:
        """Stay: the worker ends when its questions end."""


class Cells:
    """One namespace in which cell after cell runs; a failing cell does not stop the next."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False  # the box keeps no history
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.autocall = 0
        self._shell = _Shell(config=config)
        self.namespace: dict[str, Any] = self._shell.user_ns

    def run(self, source: str) -> str:
        """Run one cell; return its error in one line, or nothing."""
        try:
            result = self._shell.run_cell(source, store_history=False)
        except SystemExit as stop:
            return f"SystemExit: {stop}"
        error = result.error_before_exec or result.error_in_exec
        return "" if error is None else in_one_line(error)


def in_one_line(error: BaseException) -> str:
    """The class of an error and its text; the line of a syntax error too."""
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(str(text).split())[:500]}{where}"
