"""Write or remove what opens the notebooks at a code host: ``make launch PROJECT_URL=https://...``.

With an address, each read-along notebook gets badges for Colab and Binder and an install line that
works there, and ``.binder/requirements.txt`` is written. With an empty address all of it is removed,
so that nothing leads nowhere while the project has no address.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
BADGE = re.compile(r"(# )?\[!\[Open in Colab\].*\n(#)?\n")
INSTALL = re.compile(r"    (# )?%pip install .*\n    import kfqn_ref\n")
RAISE = "    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel\n"
COLAB = "https://colab.research.google.com"
BINDER = "https://mybinder.org"


def badges(url: str, name: str) -> str:
    """Return the line with both badges of a notebook; the repository is ``owner/name``."""
    repository = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)/?", url)
    if repository is None:
        raise SystemExit(f"PROJECT_URL must be https://github.com/OWNER/NAME, got {url!r}")
    path = f"notebooks/{name}.ipynb"
    colab = f"{COLAB}/github/{repository[1]}/blob/main/{path}"
    binder = f"{BINDER}/v2/gh/{repository[1]}/main?labpath={path.replace('/', '%2F')}"
    return (
        f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Binder]({BINDER}/badge_logo.svg)]({binder})"
    )


def launched(text: str, url: str, name: str, *, script: bool) -> str:
    """Return a cell's or a script's text with what opens it at this address, or without."""
    mark = "# " if script else ""
    text = BADGE.sub("", text, count=1)
    text = INSTALL.sub(RAISE, text, count=1)
    if not url:
        return text
    install = f"    {mark}%pip install -q git+{url}\n    import kfqn_ref\n"
    title = re.compile(rf"^({mark}# .*\n{mark.strip()}\n)", re.MULTILINE)
    text = title.sub(rf"\1{mark}{badges(url, name)}\n{mark.strip()}\n", text, count=1)
    return text.replace(RAISE, install)


def cell_launched(cell: dict, url: str, name: str) -> None:
    """Change the source of a cell of a notebook file in place."""
    text = launched("".join(cell["source"]), url, name, script=False)
    cell["source"] = text.splitlines(keepends=True)


def main(url: str, folder: Path = HERE) -> None:
    """Rewrite the notebooks of a folder, and Binder's file beside it."""
    for script in sorted(folder.glob("[0-9]*.py")):
        text = script.read_text(encoding="utf-8")
        script.write_text(launched(text, url, script.stem, script=True), encoding="utf-8")
        pair = script.with_suffix(".ipynb")
        notebook = json.loads(pair.read_text(encoding="utf-8"))
        for cell in notebook["cells"][:2]:
            cell_launched(cell, url, script.stem)
        written = json.dumps(notebook, indent=1, ensure_ascii=False)
        pair.write_text(written + "\n", encoding="utf-8")
    binder = folder.parent / ".binder" / "requirements.txt"
    if url:
        binder.parent.mkdir(exist_ok=True)
        binder.write_text(f"kfqn_ref[notebooks] @ git+{url}\n", encoding="utf-8")
    elif binder.is_file():
        binder.unlink()
        binder.parent.rmdir()


if __name__ == "__main__":
    main(sys.argv[1])
