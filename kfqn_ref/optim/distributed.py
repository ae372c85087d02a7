"""Data parallelism: what R ranks must agree on besides the gradient, reduced in one flat bucket a
time.

The ranks are those of DistributedDataParallel or of ``fully_shard`` (FSDP2).

The pairs are linear in what the ranks see: ``ā̄``, ``A s``, ``s`` and ``y`` are vectors of a layer
whose means over the ranks are those of the whole batch, if all ranks have equally many samples. So
O(d) numbers a layer travel, twice a curvature update, where methods that build A and G must reduce
O(d²). Nothing here has run on a GPU, or by any backend but gloo.
"""

import gc
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.optim.sharded import mesh_of, sharding_modules


class Reducer:
    """Means over the ranks that train one model; with one process it does nothing.

    Args:
        model: the model given to the optimizer; wrapped in DistributedDataParallel or given to
            ``fully_shard``, its ranks work together.

    Attributes:
        bytes: the size of all buckets so far that this rank took part in.
        shards: the modules whose parameters are sharded.

    Raises:
        ValueError: the parameters are cut in another way than ``fully_shard`` on one axis does.
    """

    def __init__(self, model: nn.Module) -> None:
        self.mesh: Any = mesh_of(model)
        self.shards: list[Any] = sharding_modules(model)
        self.wrapper = model if isinstance(model, DistributedDataParallel) else None
        self.bytes: int = 0
        self.looked: bool = False

    def find_wrapper(self, model: nn.Module) -> None:
        """Take part in the DistributedDataParallel that was put around the model later, if any.

        Trainers make it after the optimizer. It is looked for once, after the first pass.
        """
        if not self.active and not self.looked:
            self.looked = True
            self.wrapper = wrapper_of(model)

    @property
    def active(self) -> bool:
        """Whether there is anyone to agree with."""
        return self.sharded or self.wrapper is not None

    @property
    def sharded(self) -> bool:
        """Whether each rank has only a part of the parameters."""
        return self.mesh is not None

    @property
    def group(self) -> Any:
        """The group of the processes that train the model; there must be one."""
        if self.mesh is not None:
            return self.mesh.get_group()
        assert self.wrapper is not None
        return self.wrapper.process_group

    @property
    def rank(self) -> int:
        """The number of this process among those that train the model."""
        return dist.get_rank(self.group) if self.active else 0

    @property
    def world(self) -> int:
        """How many processes train the model."""
        return dist.get_world_size(self.group) if self.active else 1

    def everywhere(self, ok: Tensor) -> Tensor:
        """Return a mask without axes as it is on the rank where it holds least.

        Only gradients that are sharded can give ranks different ones.
        """
        if not self.sharded:
            return ok
        held = ok.to(torch.uint8)
        self.bytes += held.element_size()
        dist.all_reduce(held, dist.ReduceOp.MIN, group=self.group)
        return held.to(torch.bool)

    def mean_(self, tensors: Sequence[Tensor], *, to: int | None = None) -> None:
        """Replace every tensor by its mean over the ranks (13.1), in place, in one collective.

        With ``to`` the mean is left on that rank alone; what the others hold afterwards means
        nothing.
        """
        if not self.active or not tensors:
            return
        bucket = torch.cat([t.reshape(-1).to(tensors[-1].dtype) for t in tensors])
        self.bytes += bucket.numel() * bucket.element_size()
        if to is None:
            dist.all_reduce(bucket, group=self.group)
        else:
            dist.reduce(bucket, group_dst=to, group=self.group)
        bucket /= self.world
        for t, part in zip(tensors, bucket.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view(t.shape))

    def from_owners_(self, buckets: Mapping[int, Tensor]) -> None:
        """Replace every bucket by that of the rank it is named after; the broadcasts run side by
        side.
        """
        group = self.group
        self.bytes += sum(bucket.numel() * bucket.element_size() for bucket in buckets.values())
        works = [
            dist.broadcast(b, group_src=r, group=group, async_op=True) for r, b in buckets.items()
        ]
        for work in works:
            work.wait()  # type: ignore[union-attr]  # every rank is in the group

    def gathered(self, part: Any) -> list[Any] | None:
        """Return on rank 0 what every rank has handed in, ``None`` on the others."""
        parts: list[Any] | None = [None] * self.world if self.rank == 0 else None
        dist.gather_object(part, parts, group_dst=0, group=self.group)
        return parts

    def quiet(self) -> AbstractContextManager[None]:
        """Return the context of a pass that must not reduce gradients: the second one has none."""
        return nullcontext() if self.wrapper is None else self.wrapper.no_sync()


def wrapper_of(model: nn.Module) -> DistributedDataParallel | None:
    """Return the DistributedDataParallel that was put around a model later, if there is one.

    A trainer wraps the module that holds the model, where the model is only a part of it.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    for found in gc.get_objects():
        if issubclass(type(found), DistributedDataParallel) and _holds(found.module, model):
            return found
    return None


def _holds(module: nn.Module, model: nn.Module) -> bool:
    return any(part is model for part in module.modules())


def without_wrapper(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, or the model."""
    return model.module if isinstance(model, DistributedDataParallel) else model
