"""The ranks of the tests of FSDP2, and the batch alone: ``main(FOLDER)``.

Every rank writes what its runs left as ``FOLDER/WORLD-RANK.pt``. Worlds of 2 and 8 ranks also go on
from the checkpoint that 4 ranks have made, and all from that of one process.
"""

import multiprocessing
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from kfqn_ref.experiments.bench.measure import state_bytes
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.sharded import collected, cut, is_sharded, local

from . import distributed_checkpoints, worlds
from .ranks import batch, together

WORLDS = (4, 2, 8)
STEPS = 10
HALF = STEPS // 2
BATCH = 16
VARIANTS: dict[str, dict[str, Any]] = {
    "kfqn_cnn": {"weight_decay": 1e-2},
    "kfqn_cnn_l": {"memory": 4, "curvature_interval": 2, "input_inverse": "lbfgs"},
    "kfqn_input": {"decoupled": True, "weight_decay": 1e-2},
    "kfqn_adam": {"weight_decay": 1e-2},
    "convergent": {"curvature_interval": 3},
}
"""Options by preset."""
RUNS = {2: [*VARIANTS], 4: ["kfqn_cnn", "kfqn_cnn_l", "kfqn_input"], 8: []}
"""What runs from the start, by the number of ranks; layer by layer on 2 ranks, at once on 4."""
LATE = "kfqn_cnn_l"
"""The run whose first mini-batch is not finite, so that no layer starts there."""


def model_for() -> nn.Module:
    """Convolutions (one with groups, one transposed), a norm that is not covered, and a layer."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, stride=2, bias=False, groups=2),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 3, 2),
        nn.Flatten(),
        nn.Linear(27, 5),
    ).double()


def shard_(model: nn.Module, *, each: bool) -> None:
    """Give the model to ``fully_shard``: layer by layer before, or at once."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in model.children():
        if each and [*part.parameters()]:
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)


def optimizer_for(model: nn.Module, name: str, **more: Any) -> KFQN:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the norm is not covered
        return KFQN(model, name, lr=0.05, **VARIANTS[name], **more)


def last_bias(model: nn.Module) -> Any:
    """The bias of the last layer, whose first entry is in the shard of rank 0."""
    return [*model.parameters()][-1]


def train(
    model: nn.Module, opt: KFQN, name: str, steps: range, rank: int = 0, world: int = 1
) -> None:
    """Train on this rank's shard of every batch.

    ``kfqn_cnn`` has two micro-batches with clipped gradients, and an evaluation in between, which
    leaves the parameters of the root whole. In one iteration a number is not finite: the loss of
    one rank, or one entry of the gradient, which is in the shard of one rank.
    """
    each = BATCH // world
    parts = 1 + (name == "kfqn_cnn")
    bad_step = 0 if name == LATE else 5
    by_loss = parts > 1 or name == LATE
    for k in steps:
        shard = [part[rank * each : (rank + 1) * each] for part in batch(k)]
        bad = k == bad_step and by_loss and rank == world - 1
        bad_entry = k == bad_step and not by_loss and rank == 0

        def closure(
            shard: list[Tensor] = shard, bad: bool = bad, bad_entry: bool = bad_entry
        ) -> Tensor:
            model.zero_grad()
            total = torch.zeros((), dtype=torch.float64)
            for x, target in zip(*(part.chunk(parts) for part in shard), strict=True):
                loss = F.cross_entropy(model(x), target) / parts
                loss.backward()
                total += loss.detach()
            if parts > 1 and not opt.in_second_pass:
                clip_grad_norm_(model.parameters(), 0.5)
            if bad_entry and not opt.in_second_pass:
                local(last_bias(model).grad)[0] = torch.nan
            return total / 0 if bad else total

        if parts > 1:
            with torch.no_grad():
                model(shard[0])
        opt.step(closure)


def weights(model: nn.Module) -> list[Tensor]:
    return [collected(p.detach()).clone() for p in model.parameters()]


def run(name: str, rank: int, world: int, *, each: bool = True) -> dict[str, Any]:
    """Return what all steps leave, and a checkpoint from half-way."""
    model = model_for()
    if world > 1:
        shard_(model, each=each)
    opt = optimizer_for(model, name)
    train(model, opt, name, range(HALF), rank, world)
    half = deepcopy({"model": weights(model), "opt": opt.state_dict()})
    train(model, opt, name, range(HALF, STEPS), rank, world)
    return {
        "weights": weights(model),
        "half": half,
        "skipped": opt.skipped_steps,
        "started": len(opt.started),
        "owner": {layer.name: owner for layer, owner in opt._ownership.owner.items()},
    }


def resume(name: str, half: dict[str, Any], rank: int = 0, world: int = 1) -> list[Tensor]:
    """Return the weights after going on from a checkpoint."""
    model = model_for()
    if world > 1:
        shard_(model, each=True)
    with torch.no_grad():
        for p, saved in zip(model.parameters(), half["model"], strict=True):
            p.copy_(cut(saved, p) if is_sharded(p) else saved)
    opt = optimizer_for(model, name)
    opt.load_state_dict(half["opt"])
    train(model, opt, name, range(HALF, STEPS), rank, world)
    return weights(model)


def owned_and_late(rank: int, world: int, start: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return weights and checkpoints under DistributedDataParallel with owners, where no layer
    starts in the first iteration.

    Args:
        rank, world: of this process.   start: a checkpoint of one process after that iteration.

    Returns:
        ``first`` and ``half``, and under ``loaded`` how many parameters have the state of AdamW
        once ``start`` is loaded.
    """
    model = model_for()
    whole = DistributedDataParallel(model) if world > 1 else model
    opt = optimizer_for(whole, LATE, factor_ownership=world > 1)
    train(whole, opt, LATE, range(1), rank, world)
    first = deepcopy({"model": weights(model), "opt": opt.state_dict()})
    train(whole, opt, LATE, range(1, HALF), rank, world)
    half = deepcopy({"model": weights(model), "opt": opt.state_dict()})
    other = optimizer_for(whole, LATE, factor_ownership=world > 1)
    other.load_state_dict((start or first)["opt"])
    loaded = sum("other" in state for state in other.state.values())
    return {"first": first, "half": half, "loaded": loaded}


def memory(world: int) -> int:
    """Return the bytes of the state of this rank on a network of layers of one size."""
    torch.manual_seed(1)
    model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(8)), nn.Linear(32, 5)).double()
    if world > 1:
        shard_(model, each=True)
    opt = KFQN(model, lr=0.01)

    def closure() -> Tensor:
        model.zero_grad()
        loss = F.cross_entropy(model(torch.ones(4, 32).double()), torch.tensor([0, 1, 2, 3]))
        loss.backward()
        return loss

    opt.step(closure)
    return state_bytes(opt)


def warm(rank: int, world: int) -> dict[str, Tensor]:
    """Return the ``H_a`` that this rank begins with after a warm start on its shards."""
    model = model_for()
    each = BATCH // world
    if world > 1:
        shard_(model, each=False)
    opt = optimizer_for(model, "kfqn_cnn")
    opt.warm_start([batch(k)[0][rank * each : (rank + 1) * each] for k in range(3)])
    kept = [layer for layer in opt.layers if opt._ownership.keeps(layer)]
    return {layer.name: opt.curvature(layer.module).H_a for layer in kept}


def alone(folder: Path) -> None:
    """Run every variant on the whole batches, in one process."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {name: run(name, 0, 1) for name in VARIANTS}
    found |= {"memory": memory(1), "warm": warm(0, 1), "late": owned_and_late(0, 1)}
    torch.save(found, folder / "1-0.pt")


def one_of(rank: int, world: int, folder: Path) -> None:
    """Run every variant as one rank of a world, and go on from the checkpoints of others."""
    worlds.meet(rank, world, folder / f"meeting-{world}")
    start = torch.load(folder / "1-0.pt", weights_only=True)
    found: dict[str, Any] = {}
    found |= {name: run(name, rank, world, each=world == 2) for name in RUNS[world]}
    if world in distributed_checkpoints.SAVED:
        found["distributed"] = distributed_checkpoints.on_ranks(rank, world, folder)
    if world == 2:
        found |= {"memory": memory(world), "warm": warm(rank, world)}
        found["late"] = owned_and_late(rank, world, start["late"]["first"])
        found["from 1"] = resume("kfqn_adam", start["kfqn_adam"]["half"], rank, world)
    if world != 4:
        four = torch.load(folder / "4-0.pt", weights_only=True)
        found["from 4"] = resume("kfqn_cnn_l", four["kfqn_cnn_l"]["half"], rank, world)
    torch.save(found, folder / f"{world}-{rank}.pt")
    worlds.leave()


def main(folder: Path) -> None:
    """Run one process and worlds of several ranks, forked from here."""
    forked = multiprocessing.get_context("fork")
    KFQN(nn.Linear(2, 2))  # torch imports some of its modules now
    together(forked, [(alone, folder)])
    for world in WORLDS:
        together(forked, [(one_of, rank, world, folder) for rank in range(world)])
