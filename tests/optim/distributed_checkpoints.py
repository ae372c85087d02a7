"""Checkpoints through ``torch.distributed.checkpoint``, on the ranks of :mod:`shards`."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_checkpoint
from torch.distributed.checkpoint.state_dict_saver import save as save_checkpoint
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.optim import KFQN

from . import shards

PRESET = "kfqn_cnn"
FULL = StateDictOptions(full_state_dict=True)
CASES = (
    ("shards", "numbers", "filled"),
    ("shards", "names", "filled"),
    ("shards", "names", "file"),
    ("copies", "names", "file"),
    ("owners", "numbers", "filled"),
)
"""What two ranks are (``fully_shard``, or DistributedDataParallel), what the states hang on, and
whether an optimizer that has begun is filled, or a new one loads a file.
"""
BOTH = ("numbers", "names")
SAVED: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"shards": BOTH, "copies": ("names",), "owners": ("numbers",)},
    4: {"shards": BOTH},
}
"""The checkpoints that are saved, by the number of ranks."""


def built(kind: str) -> tuple[nn.Module, nn.Module, KFQN]:
    """Return a model, what trains it, and its optimizer."""
    model = shards.model_for()
    whole = model
    if kind == "shards":
        shards.shard_(model, each=True)
    elif kind in ("copies", "owners"):
        whole = DistributedDataParallel(model)
    owners = kind == "owners"
    return model, whole, shards.optimizer_for(whole, PRESET, factor_ownership=owners)


def states(whole: nn.Module, opt: KFQN, keys: str) -> dict[str, Any]:
    """Return what is saved, or filled."""
    named = keys == "names"
    optim: Any = get_optimizer_state_dict(whole, opt) if named else opt.state_dict()
    return {"model": get_model_state_dict(whole), "optim": optim}


def put(whole: nn.Module, opt: KFQN, saved: dict[str, Any], keys: str, way: str) -> None:
    """Take over what was saved."""
    options = FULL if way == "file" else None
    set_model_state_dict(whole, saved["model"], options=options)
    if keys == "names":
        set_optimizer_state_dict(whole, opt, saved["optim"])
    else:
        opt.load_state_dict(saved["optim"])


def save(folder: Path, kind: str, rank: int, world: int) -> None:
    """Train half of the way, and save the checkpoints."""
    _, whole, opt = built(kind)
    shards.train(whole, opt, PRESET, range(shards.HALF), rank, world)
    for keys in SAVED[world][kind]:
        # the usual writer asks the device for streams, which that of another test has not
        writer = FileSystemWriter(folder / f"{kind}-{world}-{keys}", per_thread_copy_ahead=0)
        save_checkpoint(states(whole, opt, keys), storage_writer=writer)


def resume(
    place: Path, kind: str, keys: str, way: str, rank: int = 0, world: int = 1
) -> list[Tensor]:
    """Return the weights after going on from a checkpoint."""
    model, whole, opt = built(kind)
    if way == "filled":
        shards.train(whole, opt, PRESET, range(2), rank, world)
        saved = states(whole, opt, keys)
        load_checkpoint(saved, checkpoint_id=place)
    else:
        file = place.with_name(f"{place.name}-{world}-{rank}.pt")
        dcp_to_torch_save(place, file)
        saved = torch.load(file, weights_only=True)
    put(whole, opt, saved, keys, way)
    shards.train(whole, opt, PRESET, range(shards.HALF, shards.STEPS), rank, world)
    return shards.weights(model)


def on_ranks(rank: int, world: int, folder: Path) -> dict[str, list[Tensor]]:
    """Save checkpoints; return the weights after going on from them, on 2 ranks."""
    for kind in SAVED[world]:
        save(folder, kind, rank, world)
    dist.barrier()
    if world != 2:
        return {}
    found = {}
    for kind, keys, way in CASES:
        place = folder / f"{kind}-2-{keys}"
        found[f"{kind} {keys} {way}"] = resume(place, kind, keys, way, rank, world)
    for keys in BOTH:
        place = folder / f"shards-4-{keys}"
        found[f"from 4 {keys}"] = resume(place, "shards", keys, "file", rank, world)
    return found
