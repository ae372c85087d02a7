"""One rank of the test of data parallelism: ``python ranks.py RANK WORLD PORT OUT``; or the batch alone.

Writes the weights and the bytes reduced after every preset's run.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.optim import KFQN, PRESETS

STEPS, BATCH = 20, 16
VARIANTS = [*((preset, "dense") for preset in PRESETS), ("kfqn_cnn", "lbfgs")]


def model_for(preset: str) -> nn.Module:
    torch.manual_seed(1)
    if preset.endswith("2020"):
        return nn.Sequential(nn.Flatten(), nn.Linear(72, 6), nn.Tanh(), nn.Linear(6, 5)).double()
    conv = nn.Conv2d(4, 4, 3, stride=2, bias=False, groups=2)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), conv, nn.Tanh(), nn.Flatten(), nn.Linear(16, 5)
    ).double()


def batch(k: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(k)
    x = torch.randn(BATCH, 2, 6, 6, generator=rng, dtype=torch.float64)
    return x, torch.randint(0, 5, (BATCH,), generator=rng)


def run(preset: str, factor: str, rank: int, world: int) -> dict[str, object]:
    """Train on this rank's shard of every batch."""
    model = model_for(preset)
    wrapped = DistributedDataParallel(model) if world > 1 else model
    opt = KFQN(wrapped, preset, lr=0.1, curvature_interval=2, input_factor=factor, memory=5)
    each = BATCH // world
    for k in range(STEPS):
        x, target = (part[rank * each : (rank + 1) * each] for part in batch(k))
        bad = k == 5 and rank == world - 1  # one rank alone sees a loss that is not finite

        def closure(x: Tensor = x, target: Tensor = target, bad: bool = bad) -> Tensor:
            wrapped.zero_grad()
            loss = F.cross_entropy(wrapped(x), target)
            loss.backward()
            return loss / 0 if bad else loss

        opt.step(closure)
    return {
        "weights": [p.detach() for p in model.parameters()],
        "bytes": opt.reducer.bytes,
        "skipped": opt.skipped_steps,
        "keys": list(opt.state_dict()["kfqn"]["layers"]),
    }


def main() -> None:
    rank, world, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.save({v: run(*v, rank, world) for v in VARIANTS}, out)
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
