"""Run cells as Jupyter runs them, by IPython itself, and keep what they show.

IPython says what a line that begins with ``%`` or ``!`` means: a magic where Jupyter takes it for
one, a remainder or ``!=`` inside an expression. Of what is shown, text and PNG pictures are kept.
"""

import io
import linecache
import traceback
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

LONGEST = 20_000  # characters of one text that are worth reading
MOST = 200  # outputs of one cell
KEPT = "text/plain", "image/png"


class Shown:
    """What one cell shows: texts, pictures, and the kinds that are left out."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def text(self, text: str) -> None:
        """Keep printed text: one output for all that comes without another between."""
        last = self.outputs[-1] if self.outputs else {}
        if last.get("kind") != "stream":
            last = {"kind": "stream", "text": "", "length": 0}
            self._keep(last)
        last["length"] += len(text)
        last["text"] = (last["text"] + text)[:LONGEST]

    def display(self, kind: str, data: Any) -> None:
        """Keep the text and the picture of something displayed."""
        kept = {mime: self._as_text(data[mime]) for mime in KEPT if mime in data}
        dropped = sorted(str(mime) for mime in set(data) - set(KEPT))[:20]
        self._keep({"kind": kind, "data": kept, "dropped": dropped})

    def error(self, error: BaseException) -> None:
        """Keep an error, with the student's own lines of its traceback."""
        name = type(error).__name__
        text = str(error)[:LONGEST]
        lines = own_traceback(error)[-LONGEST:]
        self._keep({"kind": "error", "ename": name, "evalue": text, "traceback": lines})

    def _keep(self, output: dict[str, Any]) -> None:
        if len(self.outputs) < MOST:
            self.outputs.append(output)

    def _as_text(self, value: Any) -> str:
        if isinstance(value, bytes):  # a picture that IPython leaves as it is
            return _base64(value)
        return str(value)


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def own_traceback(error: BaseException) -> str:
    """The traceback from the first line of the cell on."""
    trace = error.__traceback__
    while trace is not None and "ipython" not in trace.tb_frame.f_code.co_filename.lower():
        trace = trace.tb_next
    while trace is not None and trace.tb_frame.f_globals.get("__name__") != "__main__":
        trace = trace.tb_next
    linecache.checkcache()
    return "".join(traceback.format_exception(type(error), error, trace, limit=20))


class _Writer(io.TextIOBase):
    """Standard output and error of the cells."""

    def __init__(self, shell: Any):
        self._shell = shell

    def write(self, text: str) -> int:
        self._shell.shown.text(str(text))
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False


class _Hook(DisplayHook):
    """Keeps the value of a cell's last line."""

    shell: Any

    def __call__(self, result: Any = None) -> None:
        if result is not None and not self.quiet():
            data, _ = self.shell.display_formatter.format(result)
            self.shell.shown.display("execute_result", data)
            self.update_user_ns(result)


class _Publisher(DisplayPublisher):
    """Keeps what is displayed."""

    shell: Any

    def publish(self, data: Any, metadata: Any = None, *args: Any, **kwargs: Any) -> None:
        self.shell.shown.display("display_data", data)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.shown.outputs.clear()


class _Shell(InteractiveShell):
    """IPython without a terminal: what it shows is kept."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)
    shown = Shown()

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
        # the one that get_ipython() and matplotlib find
        self._shell = _Shell.instance(config=config)
        self.namespace: dict[str, Any] = self._shell.user_ns

    def run(self, source: str) -> str:
        """Run one cell; return its error in one line, or nothing."""
        self._shell.shown = Shown()
        writer = _Writer(self._shell)
        try:
            with redirect_stdout(writer), redirect_stderr(writer):
                result = self._shell.run_cell(source, store_history=False)
            error = result.error_before_exec or result.error_in_exec
        except SystemExit as stop:
            error = stop
        if error is None:
            return ""
        self._shell.shown.error(error)
        return in_one_line(error)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """What the latest cell showed."""
        return self._shell.shown.outputs


def in_one_line(error: BaseException) -> str:
    """The class of an error and its text; the line of a syntax error too."""
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, ModuleNotFoundError):
        where = " (the grader has the libraries that the assignment allows, and no others)"
    return f"{type(error).__name__}: {' '.join(str(text).split())[:500]}{where}"
