"""One rank of the tests of data parallelism, or the batch alone: arguments
``RANK WORLD PORT OUT START``.

Writes what every variant's run left. ``START`` is what the batch alone wrote: runs go on from it,
too.
"""

import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.experiments.bench.measure import state_bytes
from kfqn_ref.optim import KFQN, PRESETS

STEPS, BATCH = 20, 16
HALF = STEPS // 2
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
    return KFQN(model, preset, input_factor=factor, factor_ownership=owned, **options)


def batch(k: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(k)
    x = torch.randn(BATCH, 2, 6, 6, generator=rng, dtype=torch.float64)
    return x, torch.randint(0, 5, (BATCH,), generator=rng)


def train(model: nn.Module, opt: KFQN, steps: range, rank: int = 0, world: int = 1) -> None:
    """Train on this rank's shard of every batch."""
    each = BATCH // world
    for k in steps:
        x, target = (part[rank * each : (rank + 1) * each] for part in batch(k))
        bad = k == 5 and rank == world - 1  # one rank alone sees a loss that is not finite

        def closure(x: Tensor = x, target: Tensor = target, bad: bool = bad) -> Tensor:
            model.zero_grad()
            loss = F.cross_entropy(model(x), target)
            loss.backward()
            return loss / 0 if bad else loss

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
        "bytes": opt.reducer.bytes,
        "skipped": opt.skipped_steps,
        "keys": list(opt.state_dict()["kfqn"]["layers"]),
        "state_bytes": state_bytes(opt),
        "shown": sorted({name.split("/")[0] for name in opt.diagnostics() if "/" in name}),
        "refused": {
            layer.name: refusal(lambda x=layer: opt.curvature(x.module)) for layer in opt.layers
        },
        "own checkpoint refused": refusal(lambda: opt.load_state_dict(half["opt"])),
        "owner": {layer.name: owner for layer, owner in opt.ownership.owner.items()},
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
    kept = [layer for layer in opt.layers if opt.ownership.keeps(layer)]
    return {layer.name: opt.curvature(layer.module).H_a for layer in kept}


def main() -> None:
    rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    if world == 1:
        torch.save({**{v: run(v, rank, world) for v in PLAIN}, "warm": warm(0, 1)}, out)
        return
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    alone = torch.load(sys.argv[5], weights_only=True)
    found: dict[Any, Any] = {v: run(v, rank, world) for v in (*PLAIN, *OWNED)}
    found["resumed"] = {v: resume(v, alone[(*v[:2], False)]["half"], rank, world) for v in OWNED}
    torch.save({**found, "warm": warm(rank, world)}, out)
    dist.destroy_process_group()
    os._exit(
        0
    )  # a thread of gloo that outlives its group would abort the interpreter's own way out


if __name__ == "__main__":
    main()
