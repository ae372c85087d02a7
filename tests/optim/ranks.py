"""The ranks of the tests of data parallelism, and the batch alone: ``main(FOLDER)``.

Every rank writes what its variants' runs left, as ``FOLDER/WORLD-RANK.pt``; runs go on from what
the batch alone wrote, too.
"""

import multiprocessing
from collections.abc import Sequence
from copy import deepcopy
from multiprocessing.connection import wait
from multiprocessing.context import ForkContext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.experiments.bench.measure import state_bytes
from kfqn_ref.optim import KFQN, PRESETS

from . import worlds

WORLDS = (1, 2, 4)
STEPS = 20
HALF = STEPS // 2
BATCH = 16
OWNABLE = [
    *((preset, "dense") for preset in PRESETS if not preset.endswith("2020")),
    ("kfqn_cnn", "lbfgs"),
]
PLAIN = [*((preset, "dense", False) for preset in PRESETS), ("kfqn_cnn", "lbfgs", False)]
OWNED = [(*each, True) for each in OWNABLE]
Variant = tuple[str, str, bool]


def model_for(preset: str) -> nn.Module:
    torch.manual_seed(1)
    if preset.endswith("2020"):
        return nn.Sequential(nn.Flatten(), nn.Linear(72, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    conv = nn.Conv2d(4, 4, 3, stride=2, bias=False, groups=2)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), conv, nn.Tanh(), nn.Flatten(), nn.Linear(16, 5)
    ).double()


def optimizer_for(model: nn.Module, variant: Variant) -> KFQN:
    preset, factor, owned = variant
    options: dict[str, Any] = {"lr": 0.1, "curvature_interval": 2, "memory": 5}
    return KFQN(model, preset, input_inverse=factor, factor_ownership=owned, **options)


def batch(k: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(k)
    x = torch.randn(BATCH, 2, 6, 6, generator=rng, dtype=torch.float64)
    return x, torch.randint(0, 5, (BATCH,), generator=rng)


def train(model: nn.Module, opt: KFQN, steps: range, rank: int = 0, world: int = 1) -> None:
    """Train on this rank's shard of every batch; now and then without a closure, where that is
    enough.
    """
    each = BATCH // world
    for k in steps:
        x, target = (part[rank * each : (rank + 1) * each] for part in batch(k))
        bad = k == 5 and rank == world - 1  # one rank alone sees a loss that is not finite

        def closure(x: Tensor = x, target: Tensor = target, bad: bool = bad) -> Tensor:
            model.zero_grad()
            loss = F.cross_entropy(model(x), target)
            loss.backward()
            return loss / 0 if bad else loss

        if k % 3 and not bad and not opt.method.preset.learns_output:
            closure()
            opt.step()
        else:
            opt.step(closure)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def wrapped(model: nn.Module, world: int) -> nn.Module:
    return DistributedDataParallel(model) if world > 1 else model


def run(variant: Variant, rank: int, world: int) -> dict[str, object]:
    """Return what all steps leave, and a checkpoint from half-way."""
    model = model_for(variant[0])
    whole = wrapped(model, world)
    opt = optimizer_for(whole, variant)
    train(whole, opt, range(HALF), rank, world)
    half = deepcopy({"model": weights(model), "opt": opt.state_dict()})
    train(whole, opt, range(HALF, STEPS), rank, world)
    return {
        "weights": weights(model),
        "half": half,
        "bytes": opt._reducer.bytes,
        "skipped": opt.skipped_steps,
        "keys": list(opt.state_dict()["kfqn"]["layers"]),
        "state_bytes": state_bytes(opt),
        "shown": sorted({name.split("/")[0] for name in opt.diagnostics() if "/" in name}),
        "refused": {
            layer.name: refusal(lambda x=layer: opt.curvature(x.module)) for layer in opt.layers
        },
        "own checkpoint refused": refusal(lambda: opt.load_state_dict(half["opt"])),
        "owner": {layer.name: owner for layer, owner in opt._ownership.owner.items()},
    }


def resume(variant: Variant, half: dict[str, Any], rank: int = 0, world: int = 1) -> list[Tensor]:
    """Return the weights after going on from a checkpoint."""
    model = model_for(variant[0])
    with torch.no_grad():
        for p, saved in zip(model.parameters(), half["model"], strict=True):
            p.copy_(saved)
    whole = wrapped(model, world)
    opt = optimizer_for(whole, variant)
    opt.load_state_dict(half["opt"])
    train(whole, opt, range(HALF, STEPS), rank, world)
    return weights(model)


def late(rank: int, world: int) -> dict[str, list[Tensor]]:
    """Return the weights where the model, or a module that holds it, is wrapped after the optimizer
    was made.
    """
    found = {}
    for place in ("model", "holder"):
        model = model_for("kfqn_cnn")
        opt = optimizer_for(model, ("kfqn_cnn", "dense", False))
        whole = nn.Sequential(model) if place == "holder" else model
        train(wrapped(whole, world), opt, range(HALF), rank, world)
        found[place] = weights(model)
    return found


def refusal(action: Any) -> str:
    try:
        action()
    except ValueError as error:
        return str(error)
    return ""


def warm(rank: int, world: int) -> dict[str, Tensor]:
    """Return the ``H_a`` that this rank begins with after a warm start on its shards."""
    model, each = model_for("kfqn_cnn"), BATCH // world
    opt = optimizer_for(wrapped(model, world), ("kfqn_cnn", "dense", world > 1))
    opt.warm_start([batch(k)[0][rank * each : (rank + 1) * each] for k in range(3)])
    kept = [layer for layer in opt.layers if opt._ownership.keeps(layer)]
    return {layer.name: opt.curvature(layer.module).H_a for layer in kept}


def alone(out: Path) -> None:
    """Run every variant on the whole batches, in one process."""
    torch.set_num_threads(1)
    found: dict[Any, Any] = {variant: run(variant, 0, 1) for variant in PLAIN}
    torch.save({**found, "warm": warm(0, 1), "late": late(0, 1)}, out)


def one_of(rank: int, world: int, folder: Path) -> None:
    """Run every variant as one rank of a world, and go on from the checkpoints of one process."""
    worlds.meet(rank, world, folder / f"meeting-{world}")
    start = torch.load(folder / "1-0.pt", weights_only=True)
    found: dict[Any, Any] = {v: run(v, rank, world) for v in (*PLAIN, *OWNED)}
    found["resumed"] = {v: resume(v, start[(*v[:2], False)]["half"], rank, world) for v in OWNED}
    found |= {"warm": warm(rank, world), "late": late(rank, world)}
    torch.save(found, folder / f"{world}-{rank}.pt")
    worlds.leave()


def together(forked: ForkContext, works: Sequence[tuple[Any, ...]]) -> None:
    """Run each work, a function and its arguments, in a process of its own.

    Raises:
        RuntimeError: one of them failed; the others are ended.
    """
    processes = [forked.Process(target=work, args=args) for work, *args in works]
    for process in processes:
        process.start()
    waiting = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in wait([*waiting]):
            ended = waiting.pop(sentinel)
            ended.join()
            if ended.exitcode:
                for process in waiting.values():
                    process.kill()
                raise RuntimeError(f"a rank ended with {ended.exitcode}")


def main(folder: Path) -> None:
    """Run worlds of one, two and four ranks, forked from here: what is imported is imported once.

    The folder must have a short life: ranks meet at files in it.
    """
    forked = multiprocessing.get_context("fork")
    KFQN(model_for("kfqn_cnn"))  # torch imports some of its modules now
    together(forked, [(alone, folder / "1-0.pt")])
    for world in WORLDS[1:]:
        together(forked, [(one_of, rank, world, folder) for rank in range(world)])
