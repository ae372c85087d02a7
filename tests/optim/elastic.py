"""Train under the agent of ``torchrun``, which starts the ranks anew when one of them is killed:
``main(FOLDER)``.
"""

import multiprocessing
import os
import signal
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import save as save_checkpoint
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kfqn_ref import files
from kfqn_ref.optim import KFQN

from .ranks import together
from .shards import model_for, optimizer_for, shard_, train, weights

WORLD = 2
STEPS = 6
DEATH = 4
"""The step after which a rank kills itself, before its checkpoint is there."""


def training(folder: Path, name: str, *, dies: bool) -> None:
    """Train from the latest distributed checkpoint on, with one after every step."""
    torch.set_num_threads(1)
    rank = dist.get_rank()
    model = model_for()
    shard_(model, each=True)
    opt = optimizer_for(model, "kfqn_cnn")
    latest = folder / f"{name}-latest.pt"
    if latest.exists():
        restore(model, opt, files.load(latest)["place"], rank)
    first = opt.state_dict()["kfqn"]["k"]
    for k in range(first, STEPS):
        train(model, opt, "kfqn_cnn", range(k, k + 1), rank, WORLD)
        if dies and first == 0 and k == DEATH and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        place = folder / f"{name}-{k}"
        saved = {"model": get_model_state_dict(model), "optim": opt.state_dict()}
        save_checkpoint(saved, storage_writer=FileSystemWriter(place, per_thread_copy_ahead=0))
        dist.barrier()
        if rank == 0:  # the checkpoint is whole: all ranks have written their parts
            files.save(latest, {"place": str(place)})
        dist.barrier()
    left = {"model": weights(model), "opt": opt.state_dict(), "first": first}
    if rank == 0:
        files.save(folder / f"{name}.pt", left)
    dist.barrier()


def restore(model: nn.Module, opt: KFQN, place: str, rank: int) -> None:
    """Load a distributed checkpoint, which every rank converts for itself."""
    file = f"{place}-{rank}.pt"
    dcp_to_torch_save(place, file)
    saved = torch.load(file, weights_only=True)
    whole = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, saved["model"], options=whole)
    opt.load_state_dict(saved["optim"])


def join(folder: Path, name: str, rank: int) -> None:
    """Form a group with the other ranks, which meet at a file."""
    meeting = dist.FileStore(str(folder / f"meeting-{name}"), WORLD)
    dist.init_process_group("gloo", store=meeting, rank=rank, world_size=WORLD)


def of_the_agent(folder: Path) -> None:
    """Train as a rank that the agent has started.

    Each start has a store of its own: in the agent's store a rank may find the address that
    another one had in its first life (pytorch/pytorch#135712), and wait for it.
    """
    join(folder, os.environ["TORCHELASTIC_RESTART_COUNT"], int(os.environ["RANK"]))
    training(folder, "restarted", dies=True)
    dist.destroy_process_group()


def without_agent(rank: int, folder: Path) -> None:
    """Train as a rank that nothing ends."""
    join(folder, "alone", rank)
    training(folder, "whole", dies=False)
    dist.destroy_process_group()
    # a thread of gloo that outlives its group would abort the interpreter's own way out
    os._exit(0)


def main(folder: Path) -> None:
    """Train once without an end in between, and once with one."""
    forked = multiprocessing.get_context("fork")
    KFQN(nn.Linear(2, 2))  # torch imports some of its modules now
    together(forked, [(without_agent, rank, folder) for rank in range(WORLD)])
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=WORLD,
        max_restarts=2,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        start_method="fork",
        monitor_interval=0.1,
    )
    elastic_launch(config, of_the_agent)(folder)
