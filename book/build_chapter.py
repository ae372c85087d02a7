"""Build one chapter into book/_build/chapters/NAME, cells executed and cached: for who writes
it.
"""

import subprocess
import sys
from pathlib import Path

import yaml

BOOK = Path(__file__).parent


def main(name: str) -> int:
    """Build the chapter with the book's configuration, without its neighbours."""
    folder = BOOK / "_build" / "chapters" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["local_extensions"] = {"api_members": str(BOOK)}
    config["execute"]["cache"] = str(BOOK / "_build" / ".jupyter_cache")
    toc = folder / "_toc.yml"
    toc.write_text(yaml.safe_dump({"format": "jb-book", "root": name}), encoding="utf-8")
    settings = folder / "_config.yml"
    settings.write_text(yaml.safe_dump(config), encoding="utf-8")
    flags = ["--toc", toc, "--config", settings, "--path-output", folder, "-n", "--keep-going"]
    return subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "build", BOOK, *flags]
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
