"""Data parallelism: what R ranks must agree on besides the gradient, reduced in one flat bucket a time.

The pairs are linear in what the ranks see: ``ā̄``, ``A s``, ``s`` and ``y`` are vectors of a layer whose means
over the ranks are those of the whole batch, if all ranks have equally many samples. So O(d) numbers a layer
travel, twice a curvature update, where methods that build A and G must reduce O(d²).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Reducer:
    """Means over the ranks that train one model; with one process it does nothing.

    Args:
        model: the model given to the optimizer; wrapped in DistributedDataParallel, its ranks work together.

    Attributes:
        bytes: how many bytes this rank has handed over for reduction so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self.wrapper = model if isinstance(model, DistributedDataParallel) else None
        self.bytes = 0

    @property
    def active(self) -> bool:
        """Whether there is anyone to agree with."""
        return self.wrapper is not None

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the ranks, in place, in one collective."""
        if self.wrapper is None or not tensors:
            return
        bucket = torch.cat([t.reshape(-1).to(tensors[-1].dtype) for t in tensors])
        self.bytes += bucket.numel() * bucket.element_size()
        dist.all_reduce(bucket, group=self.wrapper.process_group)
        bucket /= dist.get_world_size(self.wrapper.process_group)
        for t, part in zip(tensors, bucket.split([t.numel() for t in tensors]), strict=True):
            t.copy_(part.view(t.shape))

    def quiet(self) -> AbstractContextManager[None]:
        """Return the context of a pass that must not reduce gradients: the second one has none."""
        return nullcontext() if self.wrapper is None else self.wrapper.no_sync()


def without_wrapper(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel, or the model."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def refuse_sharded(model: nn.Module) -> None:
    """Refuse parameters that are DTensors (FSDP2, tensor parallelism).

    Raises:
        ValueError: there is one. ``H_g M H_a`` needs the whole matrix; a rank holds a slice of it.
    """
    for name, p in model.named_parameters():
        if type(p.data).__name__ == "DTensor":
            raise ValueError(
                f"parameters must be whole on every rank, got the DTensor {name!r}: H_g M H_a multiplies "
                f"all rows and columns of a layer; use DistributedDataParallel"
            )
