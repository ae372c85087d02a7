"""Which parameters are covered, what the others are, and what is refused."""

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kfqn_ref.optim.attention import SplitAttention
from kfqn_ref.optim.geometry import LinearGeometry
from kfqn_ref.optim.kinds import CONVOLUTIONS, geometry_of, kind_of, why_not
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.presets import Preset
from kfqn_ref.optim.sharded import plain_class

MEMORY_SHARE = 0.25
"""Share of the device's memory that the factors may take unless ``max_factor_bytes`` says more."""

SPLIT = "kfqn_ref.optim.split_attention(model) makes layers of it"
"""The way out for attention."""


@dataclass(frozen=True)
class Owned:
    """The parameters that one module owns itself, and what happens to them.

    Args:
        name: name of the module in the model.   kind: name of its class.
        weights: number of elements of its parameters.
        layer: the covered layer, or ``None``.
        reason: why it is not covered, or an empty string.
    """

    name: str
    kind: str
    weights: int
    layer: Layer | None
    reason: str


def survey(model: nn.Module, exclude: Collection[str]) -> list[Owned]:
    """Return every module that owns parameters, covered or not, in the order of the model.

    Raises:
        TypeError: ``exclude`` is one text.
        ValueError: a name in ``exclude`` is unknown, or a parameter is not initialised yet, or is
            complex.
    """
    if isinstance(exclude, str):
        raise TypeError(f"exclude must be a list of names, got a text: write [{exclude!r}]")
    unknown = sorted(set(exclude) - {name for name, _ in model.named_modules()})
    if unknown:
        raise ValueError(f"exclude must name modules of the model, got {unknown}")
    found = []
    seen = set[nn.Parameter]()
    inside = attention_parts(model)
    for name, module in model.named_modules():
        own = [p for p in module._parameters.values() if p is not None]
        _refuse_unusable(name, own)
        new = [p for p in own if p not in seen]
        seen.update(new)
        if own:
            layer, reason = _judge(name, module, exclude, inside)
            found += _owned(name, plain_class(module).__name__, new, layer, reason)
    return found


def _owned(
    name: str, kind: str, own: Sequence[nn.Parameter], layer: Layer | None, reason: str
) -> list[Owned]:
    """Return what a module owns; what a layer has besides weight and bias is not covered."""
    if layer is None:
        return [Owned(name, kind, sum(p.numel() for p in own), None, reason)]
    covered = {*layer.parameters}
    extra = sum(p.numel() for p in own if p not in covered)
    weights = sum(p.numel() for p in own if p in covered)
    found = [Owned(name, kind, weights, layer, "")]
    why = "a parameter besides weight and bias"
    return [*found, Owned(name, f"part of {kind}", extra, None, why)] if extra else found


def _judge(
    name: str, module: nn.Module, exclude: Collection[str], inside: Collection[nn.Module]
) -> tuple[Layer | None, str]:
    """Return the layer that a module makes, or ``None`` and the reason."""
    if name in exclude:
        return None, "excluded"
    if module in inside:
        return None, f"MultiheadAttention reads its weight without calling it; {SPLIT}"
    if isinstance(module, nn.MultiheadAttention):
        return None, f"its weights are packed; {SPLIT}"
    if isinstance(module, torch.jit.ScriptModule):
        return None, "scripted by torch.jit: make the optimizer for the module before, and call it"
    geometry = geometry_of(module)
    if geometry is not None:
        return Layer(name, module, geometry), ""
    if kind_of(module) is not None:
        return None, why_not(module)
    return None, "not a linear or convolution layer"


def attention_parts(model: nn.Module) -> set[nn.Module]:
    """Return the layers inside attention modules of torch, which never call them."""
    attention = (module for module in model.modules() if isinstance(module, nn.MultiheadAttention))
    return {part for module in attention for part in module.children()}


def _refuse_unusable(name: str, parameters: Sequence[nn.Parameter]) -> None:
    if any(isinstance(p, nn.UninitializedParameter) for p in parameters):
        raise ValueError(
            f"parameters must be initialised, but those of {name!r} are not: run the model once "
            f"on a mini-batch before making the optimizer"
        )
    if any(p.is_complex() for p in parameters):
        raise ValueError(f"parameters must be real, but those of {name!r} are complex")


def covered_layers(found: Sequence[Owned], model: nn.Module, preset: Preset) -> list[Layer]:
    """Return the layers that get the method.

    Raises:
        ValueError: no layer is covered, the preset refuses a layer, the weights of a layer belong
            to another module too, or the layers are on several devices.
    """
    layers = [owned.layer for owned in found if owned.layer is not None]
    if not layers:
        raise ValueError(f"the model must have a layer that is covered, got {_reasons(found)}")
    wrong = [x.name for x in layers if isinstance(x.module, CONVOLUTIONS)]
    if preset.linear_only and wrong:
        raise ValueError(f"{preset.name} takes linear layers only, got {wrong}; use kfqn_cnn")
    _refuse_shared(model, layers)
    devices = {p.device for layer in layers for p in layer.parameters}
    if len(devices) > 1:
        raise ValueError(
            f"all covered layers must be on one device, got {sorted(map(str, devices))}"
        )
    return layers


TIME_FIRST = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Modules of torch whose inputs are (T, N, d), unless they are made with ``batch_first=True``."""


def _time_first(model: nn.Module) -> dict[str, int]:
    """Return the names of Transformer layers and attention that have the samples on axis 1."""
    axes = {}
    for name, module in model.named_modules():
        attention: Any = module.self_attn if isinstance(module, TIME_FIRST) else module
        if isinstance(module, (*TIME_FIRST, SplitAttention)) and not attention.batch_first:
            axes[name] = 1
    return axes


def set_sample_axes(model: nn.Module, layers: Sequence[Layer], axes: Mapping[str, int]) -> None:
    """Note the axis of the samples of the linear layers inside modules that are named, and inside
    torch's Transformer layers, which know it themselves.

    Raises:
        TypeError: ``axes`` is no mapping.
        ValueError: a name is unknown, an axis is negative or not an integer, or a module has no
            linear layer.
    """
    if not isinstance(axes, Mapping):
        raise TypeError(f"sample_axis must be {{name: axis}} with names of modules, got {axes!r}")
    for name, axis in axes.items():
        if name not in dict(model.named_modules()):
            raise ValueError(f"sample_axis must name modules of the model, got {name!r}")
        if not isinstance(axis, int) or axis < 0:
            raise ValueError(f"an axis of samples must be an integer from 0 on, got {axis!r}")
        if not _linear_in(layers, name):
            raise ValueError(
                f"sample_axis is for linear layers that are covered, but {name!r} has none"
            )
    for name, axis in {**_time_first(model), **axes}.items():
        for geometry in _linear_in(layers, name):
            geometry.sample_axis = axis


def _linear_in(layers: Sequence[Layer], module: str) -> list[LinearGeometry]:
    """Return the geometries of the linear layers inside a module."""
    inside = [
        layer.geometry
        for layer in layers
        if not module or layer.name == module or layer.name.startswith(f"{module}.")
    ]
    return [each for each in inside if isinstance(each, LinearGeometry)]


def _reasons(found: Sequence[Owned]) -> str:
    """Return what the model has instead of covered layers."""
    kinds = {owned.kind: owned.reason for owned in found}
    return "; ".join(f"{kind}: {reason}" for kind, reason in kinds.items()) or "no parameters"


def _refuse_shared(model: nn.Module, layers: Sequence[Layer]) -> None:
    owners = Counter(
        p for module in model.modules() for p in module._parameters.values() if p is not None
    )
    shared = [layer.name for layer in layers if any(owners[p] > 1 for p in layer.parameters)]
    if shared:
        raise ValueError(
            f"the weights of a covered layer must be its own, but those of {shared} are shared; "
            f"exclude={shared} gives them AdamW's step"
        )


def summary(found: Sequence[Owned]) -> str:
    """Return one line: how many layers and which share of the weights is covered, and the rest."""
    total = sum(owned.weights for owned in found)
    covered = [owned for owned in found if owned.layer is not None]
    rest = Counter(owned.kind for owned in found if owned.layer is None)
    share = sum(owned.weights for owned in covered) / max(total, 1)
    kinds = ", ".join(f"{count} {kind}" for kind, count in rest.most_common())
    line = f"covered: {len(covered)} layers, {share:.0%} of the weights"
    return f"{line}; other parameters: {1 - share:.0%} ({kinds})" if rest else line


def table(
    found: Sequence[Owned], sizes: dict[Layer, int], unseen: Collection[Layer], other: str
) -> str:
    """Return a line for each module with parameters.

    Args:
        found: the modules.   sizes: bytes of the factors of each covered layer.
        unseen: covered layers that the first iteration did not call.
        other: name of the step that the other parameters take.
    """
    lines = [f"{'module':32} {'kind':18} {'weights':>10} {'factors':>10}  step"]
    for owned in found:
        layer = owned.layer
        size = ""
        step = f"{other}: {owned.reason}"
        if layer in unseen:
            step = f"{other}: its output was not seen in the first iteration"
        elif layer is not None:
            size = readable(sizes[layer])
            step = "Kronecker factors"
        name = owned.name or "(the model itself)"
        lines.append(f"{name:32} {owned.kind:18} {owned.weights:>10,} {size:>10}  {step}")
    total = readable(sum(sizes.values()))
    return "\n".join([*lines, f"{summary(found)}; factors: {total}"])


def warn_of_others(found: Sequence[Owned], other: str) -> None:
    """Warn in one line of the parameters that no layer covers, if there are any."""
    if any(owned.layer is None for owned in found):
        warnings.warn(f"{summary(found)}; these take {other}'s step, see describe()", stacklevel=3)


def warn_of_unseen(unseen: Sequence[Layer], other: str) -> None:
    """Warn of covered layers that got a gradient in the first iteration but were not seen."""
    if unseen:
        warnings.warn(
            f"these layers got a gradient, but their outputs were not seen: "
            f"{[layer.name for layer in unseen]}; their weights are read without calling them, or "
            f"their outputs are changed in place. They take {other}'s step until they are seen",
            stacklevel=4,
        )


def refuse_large_factors(sizes: dict[Layer, int], limit: int | None) -> None:
    """Refuse factors that take more memory than ``limit``, before they are made.

    Args:
        sizes: bytes of each layer's factors.
        limit: bytes; ``None`` is a share of the device's memory, where that is known.

    Raises:
        ValueError: they do.
    """
    layers = sorted(sizes, key=lambda layer: -sizes[layer])
    most = memory_limit(layers[0].weight.device) if limit is None else limit
    total = sum(sizes.values())
    if most is not None and total > most:
        largest = ", ".join(f"{x.name!r} {readable(sizes[x])}" for x in layers[:3])
        raise ValueError(
            f"the factors must take at most {readable(most)}, got {readable(total)}, the largest "
            f"in {largest}; input_inverse='lbfgs' with lean_above=2048 keeps pairs in place of "
            f"matrices, and max_factor_bytes={total} allows them"
        )


def memory_limit(device: torch.device) -> int | None:
    """Return how many bytes the factors may take on a device, ``None`` where that is unknown."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "cpu" and hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return None
    return int(MEMORY_SHARE * total)


def readable(size: int) -> str:
    """Return a number of bytes with a unit."""
    for unit, below in (("B", 1e3), ("kB", 1e6), ("MB", 1e9)):
        if size < below:
            return f"{size * 1e3 / below:.3g} {unit}"
    return f"{size / 1e9:.3g} GB"


@contextmanager
def plain_arithmetic(layers: Sequence[Layer]) -> Iterator[None]:
    """Compute inside without gradients and without autocast."""
    with torch.no_grad(), torch.autocast(layers[0].weight.device.type, enabled=False):
        yield
