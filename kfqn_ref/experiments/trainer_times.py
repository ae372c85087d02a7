"""The time of a step in other people's loops, beside a plain loop.

Run ``python -m kfqn_ref.experiments.trainer_times book/data/trainer_times.json`` in the folder of
the repository, where Lightning, Accelerate, skorch and transformers are installed. Each loop trains
the reference CNN by ``KFQN`` on the same mini-batches. ``transformers.Trainer`` has no closure: it
takes ``kfqn_input``, and is compared with a plain loop that does. The processor time of few steps
is taken from that of many, so that what a trainer does before and after its loop does not enter.
The loops take turns, and the fastest of several turns counts.
"""

import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.experiments.bench.measure import reference_cnn
from kfqn_ref.experiments.versions import versions
from kfqn_ref.files import write_atomically
from kfqn_ref.optim import KFQN, closure

EXAMPLES = Path(__file__).parents[2] / "notebooks/trainers"
LOOPS = {
    "Lightning": ("lightning_trainer", "lightning"),
    "Accelerate": ("accelerate_loop", "accelerate"),
    "skorch": ("skorch_net", "skorch"),
    "transformers": ("transformers_trainer", "transformers"),
}
"""The example and the library of each trainer."""
PLAIN = "plain loop"
WITHOUT_CLOSURE = "plain loop without a closure"
COMPARED = {WITHOUT_CLOSURE: WITHOUT_CLOSURE, "transformers": WITHOUT_CLOSURE}
"""The plain loop that a loop is compared with, where it is not the one with a closure."""
BATCH = 128
FEW = 5
LR = 0.01

Batches = list[tuple[Tensor, Tensor]]
Train = Callable[..., Any]


def plain(net: nn.Module, batches: Batches, lr: float) -> None:
    """Train one epoch without a trainer."""
    opt = KFQN(net, lr=lr)
    for batch in batches:
        opt.step(closure(net, F.cross_entropy, batch))


def plain_without_closure(net: nn.Module, batches: Batches, lr: float) -> None:
    """Train one epoch without a trainer, by the preset that needs no closure."""
    opt = KFQN(net, "kfqn_input", lr=lr)
    for x, target in batches:
        opt.zero_grad()
        F.cross_entropy(net(x), target).backward()
        opt.step()


def loops() -> dict[str, Train]:
    """Return the plain loops, and that of every trainer.

    Raises:
        ImportError: a library is missing.
    """
    sys.path.insert(0, str(EXAMPLES))
    try:
        found = {name: importlib.import_module(module) for name, (module, _) in LOOPS.items()}
    finally:
        sys.path.remove(str(EXAMPLES))
    trains = {name: module.train for name, module in found.items()}
    return {PLAIN: plain, WITHOUT_CLOSURE: plain_without_closure, **trains}


def drawn(steps: int) -> Batches:
    """Return random mini-batches."""
    rng = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(BATCH, 1, 28, 28, generator=rng),
            torch.randint(10, (BATCH,), generator=rng),
        )
        for _ in range(steps)
    ]


def seconds(train: Train, steps: int) -> float:
    """Return the processor time of one training."""
    batches = drawn(steps)
    net = reference_cnn()
    start = time.process_time()
    train(net, batches, lr=LR)
    return time.process_time() - start


def measured(trains: dict[str, Train], *, steps: int, turns: int) -> list[dict[str, Any]]:
    """Return the milliseconds of a step of each loop, and how many times those of its plain loop.

    Args:
        trains: the loops by name, the plain ones among them.
        steps: of the long training, more than 5.
        turns: how often each loop is run.
    """
    few: dict[str, list[float]] = {name: [] for name in trains}
    many: dict[str, list[float]] = {name: [] for name in trains}
    for _ in range(turns):
        for name, train in trains.items():
            few[name].append(seconds(train, FEW))
            many[name].append(seconds(train, steps))
    each = {name: (min(many[name]) - min(few[name])) / (steps - FEW) for name in trains}
    rows: list[dict[str, Any]] = []
    for name, value in each.items():
        base = each[COMPARED.get(name, PLAIN)]
        rows.append({"loop": name, "milliseconds": 1e3 * value, "over_plain": value / base})
    return rows


def main(path: Path, *, steps: int = 35, turns: int = 5) -> None:
    """Write the table, with the versions and the load of the machine."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of the libraries, about their own parts
    before = os.getloadavg()[0]
    rows = measured(loops(), steps=steps, turns=turns)
    libraries = {name: version(name) for _, name in LOOPS.values()}
    table = {
        "command": "python -m kfqn_ref.experiments.trainer_times book/data/trainer_times.json",
        "versions": {**versions(), **libraries},
        "cores": os.cpu_count(),
        "load": {"before": before, "after": os.getloadavg()[0]},
        "batch": BATCH,
        "steps": steps,
        "turns": turns,
        "rows": rows,
    }
    write_atomically(path, (json.dumps(table, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
