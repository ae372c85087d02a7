"""Where a race keeps its points: one JSON line a point, so that a killed race goes on."""

import json
import os
from pathlib import Path
from typing import Any

from kfqn_ref.files import write_atomically


class Store:
    """The lines of a file, by their key. A line that a killed process left incomplete is dropped.

    Args:
        path: the file; it and its folder are made when the first line is added.

    Raises:
        ValueError: a line other than the last is not a JSON object with a key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        text = path.read_text("utf-8") if path.exists() else ""
        whole, _, rest = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), 1):
            record = _parsed(line)
            if record is None:
                raise ValueError(
                    f"{path}:{number} must be a JSON object with a key, got {line[:60]!r}"
                )
            self.records[record["key"]] = record
        if rest:
            complete = whole + "\n" if whole else ""
            write_atomically(path, complete.encode())

    def add(self, record: dict[str, Any]) -> None:
        """Append a record: one write and one fsync, after which it is there whatever happens."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line.encode())
            os.fsync(file)
        finally:
            os.close(file)
        self.records[record["key"]] = record

    def __contains__(self, key: str) -> bool:
        return key in self.records

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self.records[key]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and "key" in record else None
