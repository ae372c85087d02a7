"""Parameters that ``torch.distributed.fsdp.fully_shard`` (FSDP2) has cut into one shard a rank.

A rank moves its own shard. What needs a whole layer (the direction ``H_g M H_a``, the mean output
``W ā̄``) is computed from tensors that are collected for it, one layer at a time. Nothing here has
run on a GPU, or by any backend but gloo.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(x: Tensor) -> bool:
    """Return whether a tensor is a DTensor, of which each rank has a part."""
    module = sys.modules.get("torch.distributed.tensor")  # without it there is no DTensor
    return module is not None and isinstance(x, module.DTensor)


def local(x: Tensor) -> Tensor:
    """Return this rank's part of a DTensor, in the same memory; any other tensor as it is."""
    if not is_sharded(x):
        return x
    part: Any = x.detach()
    return part.to_local()


def collected(x: Tensor) -> Tensor:
    """Return the whole of a DTensor, for which all ranks must call; any other tensor as it is."""
    if not is_sharded(x):
        return x
    part: Any = x.detach()
    return part.full_tensor()


def cut(full: Tensor, like: Any) -> Any:
    """Return a whole tensor as a DTensor that is cut as ``like`` is; without messages."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def own_part(full: Tensor, p: Tensor) -> Tensor:
    """Return what this rank's part of ``p`` has of a tensor with the shape of ``p``."""
    if is_sharded(p) and not is_sharded(full):
        full = cut(full, p)
    return local(full)


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a module had before ``fully_shard`` gave it a subclass."""
    classes: Iterable[Any] = type(module).__mro__
    return next(kind for kind in classes if not _shards(kind))


def _shards(kind: type) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")  # without it nothing is sharded
    return fsdp is not None and issubclass(kind, fsdp.FSDPModule)


def sharding_modules(model: nn.Module) -> list[Any]:
    """Return the modules of a model that were given to ``fully_shard``."""
    return [module for module in model.modules() if _shards(type(module))]


def reshard_(modules: Iterable[Any]) -> None:
    """Put the shards back where a pass has left whole parameters, as one without backward does."""
    for module in modules:
        module.reshard()


def resharding(modules: Iterable[Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``call``, after which all modules have their shards again."""

    def called(*args: Any) -> Any:
        try:
            return call(*args)
        finally:
            reshard_(modules)

    return called


def mesh_of(model: nn.Module) -> Any:
    """Return the mesh of ranks over which ``fully_shard`` has cut a model, ``None`` if it has not.

    Raises:
        ValueError: the model is cut in another way: by tensor parallelism, by hybrid sharding, by
            FullyShardedDataParallel, over several meshes, or only in part.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None and any(
        isinstance(module, fsdp.FullyShardedDataParallel) for module in model.modules()
    ):
        raise ValueError(
            "FullyShardedDataParallel (FSDP1) is not taken, as it makes vectors of the weights of "
            "several layers: use torch.distributed.fsdp.fully_shard"
        )
    named = [*model.named_parameters()]
    cut_ones: list[tuple[str, Any]] = [(name, p) for name, p in named if is_sharded(p)]
    if not cut_ones:
        return None
    for name, p in cut_ones:
        _refuse_placements(name, p, bool(sharding_modules(model)))
    plain = [name for name, p in named if not is_sharded(p)]
    if plain:
        raise ValueError(
            f"all parameters must be sharded, got whole ones {plain}, whose gradients FSDP does "
            f"not average: give the model itself to fully_shard, too, after its parts"
        )
    mesh = cut_ones[0][1].device_mesh
    other = [name for name, p in cut_ones if p.device_mesh != mesh]
    if other:
        raise ValueError(f"all parameters must be sharded over one mesh, got others for {other}")
    return mesh


def _refuse_placements(name: str, p: Any, sharded: bool) -> None:
    """Refuse a DTensor that is not cut along one axis by ``fully_shard``."""
    way_out = "use torch.distributed.fsdp.fully_shard on a mesh of one axis"
    where = f"got the DTensor {name!r} with {p.placements} on {p.device_mesh}"
    if sharded and p.device_mesh.ndim > 1 and p.placements[0].is_replicate():
        raise ValueError(f"hybrid sharding (HSDP) is not taken, {where}: {way_out}")
    if not sharded or p.device_mesh.ndim > 1:
        raise ValueError(
            f"tensor parallelism (ColwiseParallel, RowwiseParallel) is not taken, {where}, as the "
            f"inputs of a layer must be whole on every rank: {way_out}"
        )


def sharded_states(state: dict[str, Any], p: Tensor) -> dict[str, Any]:
    """Return the state of a parameter with what has its shape cut as it is."""
    if not is_sharded(p) or "other" not in state:
        return state
    moments = {
        name: cut(value, p) for name, value in state["other"].items() if value.shape == p.shape
    }
    return {**state, "other": {**state["other"], **moments}}


def whole_module(module: nn.Module, *, with_weights: bool) -> nn.Module:
    """Return a module with the collected gradients of weight and bias, and their values if asked.

    Without them the parameters have only their shapes, in the memory of one number.
    """
    stand_in = nn.Module()
    for name in ("weight", "bias"):
        stand_in.register_parameter(name, _whole(getattr(module, name, None), with_weights))
    return stand_in


def _whole(p: nn.Parameter | None, with_weights: bool) -> nn.Parameter | None:
    if p is None:
        return None
    if with_weights:
        values = collected(p)
    else:
        values = torch.zeros((), dtype=p.dtype, device=p.device).expand(p.shape)
    whole = nn.Parameter(values, requires_grad=False)
    if p.grad is not None:
        whole.grad = collected(p.grad)
    return whole
