"""Factor ownership: each rank keeps, updates and applies ``H_a`` and ``H_g`` of its own layers
only.

A layer's owner computes ``P = H_g M H_a`` and hands it on, one broadcast an owner; all ranks then
take the same step. So a rank's state shrinks with the number of ranks. The price is one message of
the size of the gradient. Source: pauloski2021kaisa (there for KFAC, as MEM-OPT).

Where the parameters are sharded (FSDP2), layers always have owners. The gradient of a layer is
collected for its owner, and each rank moves its own shard along ``P``.

Why broadcasts: of ``n`` numbers each rank receives those it lacks, ``n`` at most, however unevenly
they are owned. An all-reduce of a buffer padded with zeros moves ``2 n``; an all-gather pads shares
to the largest.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from kfqn_ref.optim.distributed import Reducer
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.move import Move
from kfqn_ref.optim.presets import Preset
from kfqn_ref.optim.sharded import is_sharded, whole_module


class Ownership:
    """Which rank keeps the factors of which layer; without ownership every rank keeps all.

    Args:
        reducer: the ranks.
        layers: all covered layers.
        wanted: whether layers have owners at all; they always have where parameters are sharded.
        preset: the method.

    Raises:
        ValueError: there are no ranks to share among, or the preset keeps a matrix ``A`` on every
            rank.
    """

    def __init__(
        self, reducer: Reducer, layers: Sequence[Layer], wanted: bool, preset: Preset
    ) -> None:
        if wanted and not reducer.active:
            raise ValueError(
                "factor_ownership needs a model in DistributedDataParallel, got one without ranks"
            )
        if reducer.sharded and preset.averages_A:
            raise ValueError(
                f"the preset must not be {preset.name} where parameters are sharded: each rank "
                f"would keep a moving average of its own A, as large as H_a, for every layer; use "
                f"kfqn_cnn"
            )
        wanted = wanted or reducer.sharded
        if wanted and preset.averages_A:
            raise ValueError(
                f"factor_ownership must be False for {preset.name}: each rank keeps a moving "
                f"average of its own A, as large as H_a, for every layer"
            )
        self.reducer = reducer
        owners = balanced([cost(layer.shape) for layer in layers], reducer.world) if wanted else []
        self.owner: dict[Layer, int] = dict(zip(layers, owners, strict=False))

    @property
    def active(self) -> bool:
        """Whether layers have owners."""
        return bool(self.owner)

    def keeps(self, layer: Layer | None) -> bool:
        """Return whether this rank keeps the state of the layer; what no layer covers, every rank
        keeps.
        """
        return layer is None or self.owner.get(layer, self.reducer.rank) == self.reducer.rank

    def refuse_foreign(self, layer: Layer) -> None:
        """Refuse to show a layer whose state is on another rank.

        Raises:
            ValueError: it is.
        """
        if not self.keeps(layer):
            owner = self.owner[layer]
            rank = self.reducer.rank
            raise ValueError(f"{layer.name!r} must be asked for on rank {owner}, got {rank}")

    def share(
        self, owned: Mapping[Layer, list[Tensor]], shapes: Mapping[Layer, list[Sequence[int]]]
    ) -> dict[Layer, list[Tensor]]:
        """Return every layer's tensors, as its owner has them.

        Args:
            owned: the tensors of the layers that this rank keeps.
            shapes: the shapes of the tensors of all layers that have any, in the same order on all
                ranks.
        """
        shared = {}
        buckets = {}
        for rank in sorted({self.owner[layer] for layer in shapes}):
            layers = [layer for layer in shapes if self.owner[layer] == rank]
            sizes = [torch.Size(shape).numel() for layer in layers for shape in shapes[layer]]
            dtype = reduce(torch.promote_types, (layer.dtype for layer in layers))
            device = layers[0].weight.device
            buckets[rank] = torch.empty(sum(sizes), dtype=dtype, device=device)
            parts = iter(buckets[rank].split(sizes))
            for layer in layers:
                shared[layer] = [next(parts).view(torch.Size(shape)) for shape in shapes[layer]]
        for layer, tensors in owned.items():
            for part, tensor in zip(shared[layer], tensors, strict=True):
                part.copy_(tensor)
        self.reducer.from_owners_(buckets)
        return shared


def move_owned_(
    ownership: Ownership,
    moves: Sequence[tuple[Move, Layer]],
    state: Mapping[Any, dict[str, Any]],
    a_means: Mapping[Layer, Tensor],
) -> dict[Layer, Tensor]:
    """Move all layers along the directions of their owners; return every ``s_a = H_a ā̄``."""
    owned: dict[Layer, list[Tensor]] = {}
    for move, layer in moves:
        whole = collected_layer(layer, with_weights=move.tau != 0)
        if ownership.keeps(layer):
            found = move.direction_(whole, state[layer.weight], a_means.get(layer))
            owned[layer] = [part for part in found if part is not None]
    shapes: dict[Layer, list[Sequence[int]]] = {}
    for _, layer in moves:
        mean = a_means.get(layer)
        shapes[layer] = [layer.shape] if mean is None else [layer.shape, mean.shape]
    shared = ownership.share(owned, shapes)
    s_a = {}
    for move, layer in moves:
        P, *rest = shared.pop(layer)
        move.along_(layer, P.to(layer.dtype))
        if rest:
            s_a[layer] = rest[0].clone()  # the pair outlives the bucket
    return s_a


def collected_layer(layer: Layer, *, with_weights: bool) -> Layer:
    """Return a layer with whole gradients, and whole weights if asked; all ranks must call."""
    if not is_sharded(layer.weight):
        return layer
    module = whole_module(layer.module, with_weights=with_weights)
    return Layer(layer.name, module, layer.geometry)


def cost(shape: tuple[int, int, int]) -> int:
    """Return the multiply-adds of ``H_g M H_a`` and the entries of both factors;
    ``(groups, d_g, d_a)``.
    """
    groups, d_g, d_a = shape
    return groups * (d_g * d_g * d_a + d_g * d_a * d_a + d_g * d_g + d_a * d_a)


def balanced(costs: Sequence[int], ranks: int) -> list[int]:
    """Return an owner for each cost: the dearest first, each to the rank that has least so far.

    No rank has more than 4/3 of what the best assignment gives it. Source: graham1969.
    """
    loads = [0] * ranks
    owners = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        owners[i] = min(range(ranks), key=loads.__getitem__)
        loads[owners[i]] += costs[i]
    return owners
