"""Time a build that executes every cell, then one from the cache, for the status page."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

BOOK = Path(__file__).parent


def build() -> float:
    """Run `make book` and return its seconds."""
    start = time.perf_counter()
    subprocess.run(
        ["make", "--silent", "book"], cwd=BOOK.parent, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def main() -> int:
    """Build from nothing, build again, and write book/data/builds.json."""
    shutil.rmtree(BOOK / "_build", ignore_errors=True)
    times = {name: round(build(), 1) for name in ("all cells executed", "all cells from the cache")}
    load = os.getloadavg()[2]  # mean of a quarter of an hour: above the cores, others made it slow
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}"
    text = json.dumps(
        {"command": "make book-times", "machine": machine, "seconds": times}, indent=1
    )
    (BOOK / "data" / "builds.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
