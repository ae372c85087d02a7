"""Which room of the package imports which: read from the sources, for the page on architecture."""

import ast
from collections import defaultdict
from pathlib import Path

import kfqn_ref

PACKAGE = Path(kfqn_ref.__file__).parent
PACKAGES = ("method", "theory", "optim", "testing", "experiments", "course")
ALONE = ("algorithm", "bridge", "files", "cli", "_extras")  # modules that are a room of their own


def room_of(module: str) -> str:
    """Return the room of a module's name; all kernels and layers together are the reference."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in (*PACKAGES, *ALONE) else "reference"


def imports() -> dict[str, set[str]]:
    """Return for every room the other rooms that it imports, in functions or at the top."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "__init__.py":
            continue  # the front page names all rooms, and loads none
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        room = room_of(name.replace("kfqn_ref.__main__", "kfqn_ref.cli"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [str(node.module)]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            found[room] |= {room_of(m) for m in modules if m.split(".")[0] == "kfqn_ref"}
        found[room] -= {room}
    return dict(found)


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """Return the level of every room: 0 imports nothing, others are one above what they import.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    level: dict[str, int] = {}
    while len(level) < len(graph):
        ready = [room for room in graph if room not in level and graph[room] <= level.keys()]
        if not ready:
            raise ValueError(f"imports must go one way, got a circle in {graph.keys() - level}")
        for room in ready:
            level[room] = 1 + max((level[other] for other in graph[room]), default=-1)
    return level


def direct(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the imports (from, to) that no way over a third room implies."""
    over: dict[str, set[str]] = {}
    for room in sorted(graph, key=levels(graph).__getitem__):
        over[room] = graph[room].union(*(over[other] for other in graph[room]))
    return [
        (room, other)
        for room in graph
        for other in sorted(graph[room])
        if not any(other in over[third] for third in graph[room] - {other})
    ]
