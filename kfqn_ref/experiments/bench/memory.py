"""Memory over many steps: objects, traced bytes and the process, at chosen steps.

Run ``python -m kfqn_ref.experiments.bench.memory book/data/memory.json`` for the stored table.
"""

import gc
import json
import sys
import tracemalloc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

MARKS = (100, 1_000, 10_000)
PRESET = "kfqn_cnn"
PAGE = 4096
"""Bytes of a page of /proc/self/statm."""


def measure(preset: str, marks: Sequence[int]) -> list[dict[str, Any]]:
    """Return, at each step in ``marks``, what the training of a small network holds.

    ``tensors`` and ``objects`` are counted by the garbage collector, ``traced_bytes`` by
    tracemalloc where it is on, and ``resident_bytes`` is the process's, where the system tells.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the norm, which takes AdamW's step
        opt = KFQN(model, preset, lr=0.01, memory=5)
    rng = torch.Generator().manual_seed(0)
    found = []
    for k in range(max(marks)):
        x = torch.randn(8, 8, generator=rng)
        target = torch.randint(0, 3, (8,), generator=rng)

        def closure(x: Tensor = x, target: Tensor = target) -> Tensor:
            opt.zero_grad()
            loss = F.cross_entropy(model(x), target)
            loss.backward()
            return loss

        opt.step(closure)
        if k + 1 in marks:
            found.append({"preset": preset, "step": k + 1, **_held()})
    return found


def _held() -> dict[str, Any]:
    gc.collect()
    objects = gc.get_objects()
    return {
        "tensors": sum(issubclass(type(each), Tensor) for each in objects),
        "objects": len(objects),
        "traced_bytes": tracemalloc.get_traced_memory()[0],
        "resident_bytes": _resident(),
    }


def _resident() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return None


def main(path: Path) -> None:
    """Write the table."""
    torch.set_num_threads(1)
    tracemalloc.start()
    rows = measure(PRESET, MARKS)
    command = "python -m kfqn_ref.experiments.bench.memory book/data/memory.json"
    table = {"command": command, "torch": torch.__version__, "rows": rows}
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
