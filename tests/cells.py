"""Run a notebook's cells as a kernel does, in this process: ``run(PATH, OUT)`` for a fork."""

import json
import os
from pathlib import Path

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output


class Silent(DisplayHook):
    """The value of a cell is shown beside what it prints, not printed."""

    def __call__(self, result: object = None) -> None:
        """Show nothing."""


class ZMQInteractiveShell(InteractiveShell):
    """IPython without terminal and windows; rich shows its bars as widgets to this name."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Open no window: inline figures need none."""


def run(path: Path, settings: Path, out: Path) -> None:
    """Run all code cells in the notebook's folder; write what each printed, as JSON.

    Raises:
        RuntimeError: a cell ended with an error; what it printed comes first.
    """
    os.environ["IPYTHONDIR"] = str(settings)  # no settings of the user
    os.chdir(path.parent)
    classes = {"displayhook_class": Silent, "display_pub_class": CapturingDisplayPublisher}
    shell = ZMQInteractiveShell.instance(**classes)
    shell.run_line_magic("matplotlib", "inline")
    printed = []
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        with capture_output(display=False) as captured:
            result = shell.run_cell(source, store_history=True)
        printed.append(captured.stdout + captured.stderr)
        if not result.success:
            raise RuntimeError(f"{printed[-1]}\nin the cell\n{source}")
    out.write_text(json.dumps(printed), encoding="utf-8")
