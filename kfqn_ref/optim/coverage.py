"""Which layers are covered, which parameters share a group, and what is refused."""

import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from kfqn_ref.optim.geometry import CONVOLUTIONS, geometry_of
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.presets import Preset


def covered_layers(model: nn.Module, preset: Preset, exclude: Collection[str]) -> list[Layer]:
    """Return the layers that get the method; warn once of the parameters that take the plain step.

    Raises:
        ValueError: no layer is covered, a name in ``exclude`` is unknown, the preset refuses a
            layer, or the weights of a layer belong to another module too.
    """
    unknown = sorted(set(exclude) - {name for name, _ in model.named_modules()})
    if unknown:
        raise ValueError(f"exclude must name modules of the model, got {unknown}")
    layers = []
    for name, module in model.named_modules():
        geometry = None if name in exclude else geometry_of(module)
        if geometry is not None and isinstance(module._parameters.get("weight"), nn.Parameter):
            layers.append(Layer(name, module, geometry))
    if not layers:
        raise ValueError(
            "the model must have a Linear or Conv layer that is not excluded, got none"
        )
    _refuse(model, layers, preset)
    _warn(model, layers, preset)
    return layers


def _refuse(model: nn.Module, layers: Sequence[Layer], preset: Preset) -> None:
    for layer in layers:
        if preset.linear_only and isinstance(layer.module, CONVOLUTIONS):
            raise ValueError(
                f"{preset.name} takes linear layers only, got {layer.name!r}; use kfqn_cnn"
            )
    owners = Counter(
        p for module in model.modules() for p in module._parameters.values() if p is not None
    )
    for layer in layers:
        if any(owners[p] > 1 for p in layer.parameters):
            raise ValueError(
                f"the weights of a covered layer must be its own, but those of {layer.name!r} are shared; "
                f"name it in exclude=[...] to give it the momentum step"
            )
    devices = {p.device for layer in layers for p in layer.parameters}
    if len(devices) > 1:
        raise ValueError(
            f"all covered layers must be on one device, got {sorted(map(str, devices))}"
        )


def _warn(model: nn.Module, layers: Sequence[Layer], preset: Preset) -> None:
    covered = {p for layer in layers for p in layer.parameters}
    others = [name for name, p in model.named_parameters() if p not in covered]
    if others:
        step = "Adam's" if preset.square_decay else "the momentum"
        warnings.warn(f"these parameters take {step} step: {', '.join(others)}", stacklevel=4)


@contextmanager
def plain_arithmetic(layers: Sequence[Layer]) -> Iterator[None]:
    """Compute inside without gradients and without autocast."""
    with torch.no_grad(), torch.autocast(layers[0].weight.device.type, enabled=False):
        yield
