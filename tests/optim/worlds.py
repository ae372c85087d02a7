"""What tests with several ranks share: where ranks meet, what they write, and how both end where
one of them fails.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kfqn_ref.optim import KFQN

from .. import warm
from .models import equal

Parts = Callable[[KFQN], list[Tensor]]


def meet(rank: int, world: int, meeting: Path, limit: timedelta | None = None) -> None:
    """Become a rank of a world that meets at a file."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(meeting), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=limit)


def leave() -> None:
    """End this rank: a thread of gloo that outlives its group would abort the interpreter's own way
    out.
    """
    dist.destroy_process_group()
    os._exit(0)


def written(folder: Path) -> Callable[[int], list[dict[Any, Any]]]:
    """Return what reads, by the size of a world, what its ranks wrote."""

    @cache
    def of_world(world: int) -> list[dict[Any, Any]]:
        outs = [folder / f"{world}-{rank}.pt" for rank in range(world)]
        return [torch.load(out, weights_only=True) for out in outs]

    return of_world


def in_process(work: Callable[[Path], None], folder: Path) -> None:
    """Run work that writes into a folder, in a process of its own."""
    code, told = warm.Process(work, folder).end()
    assert code == 0, told


def until_an_error(
    rank: int, folder: Path, call: int, opt: KFQN, closure: Callable[[], Tensor], parts: Parts
) -> None:
    """Take steps until the numbered call of the closure of rank 0 fails; write the error, and
    whether all parts are as before.
    """
    calls = 0

    def failing() -> Tensor:
        nonlocal calls
        calls += 1
        if rank == 0 and calls == call:
            raise RuntimeError("injected")
        return closure()

    found = {"error": "", "same": False}
    for _ in range(3):
        before = [x.clone() for x in parts(opt)]
        try:
            opt.step(failing)
        except RuntimeError as error:
            found = {"error": str(error), "same": equal(parts(opt), before)}
            break
    torch.save(found, folder / f"{call}-{rank}.pt")
    os._exit(0)


def assert_both_end_unmoved(
    work: Callable[[int, Path, int], None], folder: Path, call: int
) -> None:
    """Two ranks that run ``work``, which ends in :func:`until_an_error`: both end with an error."""
    processes = [warm.Process(work, rank, folder, call) for rank in range(2)]
    for process in processes:
        code, told = process.end()
        assert code == 0, told
    first, second = (torch.load(folder / f"{call}-{rank}.pt") for rank in range(2))
    assert first == {"error": "injected", "same": True}
    assert second["error"]
    assert second["same"]
