"""What a step refuses before anything moves, and how a step that failed is undone."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.passes import Replay
from kfqn_ref.optim.presets import Preset
from kfqn_ref.optim.sharded import is_sharded, local


def refuse_changed_layers(model: nn.Module, layers: Sequence[Layer]) -> None:
    """Refuse layers whose weights are no longer those that the optimizer was made for.

    Raises:
        ValueError: a layer was replaced, parametrised, pruned or cast; the message names all.
    """
    changed = [f"{layer.name!r} {what}" for layer in layers if (what := _change(model, layer))]
    if changed:
        raise ValueError(
            f"the covered layers must be those that the optimizer was built for, but "
            f"{', '.join(changed)}: make a new optimizer"
        )


def refuse_new_parameters(model: nn.Module, known: Mapping[nn.Parameter, torch.dtype]) -> None:
    """Refuse parameters of the model that the optimizer does not train, or that were cast.

    Args:
        model: the model.   known: the optimizer's parameters, with the dtypes that they came with.

    Raises:
        ValueError: there is one; the message names all.
    """
    if all(known.get(p) is p.dtype for p in model.parameters() if p.requires_grad):
        return
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    new = [name for name, p in named if p not in known]
    if new:
        raise ValueError(
            f"the optimizer must have all parameters of the model that are trained, but {new} came "
            f"after it was made (a module was replaced or added): make a new optimizer, or give "
            f"them to add_param_group, or freeze them by requires_grad_(False)"
        )
    cast = [f"{name} from {known[p]} to {p.dtype}" for name, p in named if known[p] != p.dtype]
    raise ValueError(
        f"parameters must keep their dtype, but these were cast: {', '.join(cast)}: make a new "
        f"optimizer"
    )


def _change(model: nn.Module, layer: Layer) -> str:
    """Return what happened to a layer since the optimizer was made, or an empty string."""
    weight = layer.module._parameters.get("weight")
    if weight is None:
        return "has its weight computed from other parameters (pruning, weight norm)"
    if weight is not layer.built_for or layer.module._parameters.get("bias") is not layer.bias_for:
        return "has other parameters"
    if weight.dtype != layer.built_dtype:
        return f"was cast from {layer.built_dtype} to {weight.dtype}"
    module: Any = model
    path = layer.name.split(".") if layer.name else ()
    for part in path:
        module = module._modules.get(part)
        if module is None:
            break
    return "" if module is layer.module else "was replaced by another module"


def refuse_gradients(model: nn.Module, grads: Iterable[Tensor]) -> None:
    """Refuse gradients that the step cannot take.

    Args:
        model: what knows the names of the parameters.   grads: the gradients.

    Raises:
        ValueError: a gradient is sparse.
    """
    if any(grad.layout != torch.strided for grad in grads):
        named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
        sparse = [name for name, grad in named if grad.layout != torch.strided]
        raise ValueError(
            f"gradients must be dense, got sparse ones for {sparse}: make the embedding with "
            f"sparse=False"
        )


def refuse_skipped_closures() -> None:
    """Refuse the accumulation of Accelerate, which calls the last of several closures only.

    Raises:
        ValueError: Accelerate is loaded, and was told to accumulate.
    """
    accelerate = sys.modules.get("accelerate.state")
    if accelerate is not None and accelerate.GradientState().num_steps > 1:
        raise ValueError(
            f"gradient_accumulation_steps must be 1, got {accelerate.GradientState().num_steps}: "
            f"Accelerate never calls the closures of the other micro-batches; do all backward "
            f"passes of a step in one closure"
        )


def refuse_changed_damping(
    groups: Sequence[Mapping[str, Any]],
    group_of: Mapping[nn.Parameter, int],
    state: Mapping[Any, Mapping[str, Any]],
    layers: Iterable[Layer],
    preset: Preset,
) -> None:
    """Refuse a damping that was changed in a group whose layers have started with another.

    Raises:
        ValueError: there is one.
    """
    for layer in layers:
        kept = state.get(layer.weight, {})
        damping = groups[group_of[layer.weight]]["damping"]
        if "H_a" in kept:
            own = kept["lambda_a"], kept["lambda_g"]
            if own != preset.split(damping, kept["T"]):
                raise ValueError(
                    f"damping must stay what it was when {layer.name!r} started, as H_a and H_g "
                    f"were learned with it: λ_A, λ_G = {own}, but the group now says {damping:g}; "
                    f"make a new optimizer with that damping"
                )


class Stale:
    """Remembers the gradients from before a closure, to see whether it cleared them."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        kept = [(layer, layer.weight.grad) for layer in layers]
        self.kept = [(layer, grad, grad._version) for layer, grad in kept if grad is not None]

    def refuse(self, backwards: Mapping[Layer, int], versions: Mapping[Layer, int]) -> None:
        """Refuse gradients to which the closure has added.

        Each backward pass adds to a gradient once, which its version counts; whatever clears or
        changes it counts as well. FSDP adds to the shard, which the version does not count.

        Args:
            backwards: how many backward passes reached the weights of each layer.
            versions: those of the gradients after the latest of these passes.

        Raises:
            ValueError: there is one.
        """
        added = [
            layer.name
            for layer, grad, version in self.kept
            if layer.weight.grad is grad
            and layer in backwards
            and versions[layer] - version == (not is_sharded(grad)) * backwards[layer]
        ]
        if added:
            raise ValueError(
                f"the closure must clear the gradients of earlier passes, but those of {added} "
                f"were there before and were added to: call zero_grad() in the closure, before "
                f"backward(); to accumulate, do all backward passes in the closure"
            )


IN_PLACE = ("M", "V", "t", "other")
"""What every step of a parameter changes in place."""
IN_PLACE_UPDATES = ("H_a", "H_g", "A")
"""What a curvature update changes in place."""


class Room:
    """Memory for copies that one step makes and the next one needs again.

    New memory for large factors in every step would cost as much as copying them.
    """

    def __init__(self) -> None:
        self.copies: list[Tensor] = []

    def like(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return a tensor of the shape, dtype and device of each, with any values: the same ones
        as before if these fit.
        """
        if len(self.copies) != len(tensors) or not all(map(_alike, self.copies, tensors)):
            self.copies = [torch.empty_like(x) for x in tensors]
        return self.copies


def _alike(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype and x.device == y.device


class Snapshot:
    """What a step may change, as it was before it: an error brings it back bit for bit.

    Args:
        replay: the random state.   parameters: all that the optimizer moves.
        state: what it keeps of each.   updates: whether the curvature is updated.
        room: memory for the copies.
    """

    def __init__(
        self,
        replay: Replay,
        parameters: Sequence[nn.Parameter],
        state: Any,
        updates: bool,
        room: Room,
    ) -> None:
        self.replay = replay
        self.state = state
        self.grads: list[tuple[nn.Parameter, Tensor | None]] = [
            (p, _without_indices(p.grad)) for p in parameters
        ]
        names = IN_PLACE + IN_PLACE_UPDATES if updates else IN_PLACE
        self.kept: dict[Any, Any] = {p: _without_sharing(kept) for p, kept in state.items()}
        changing = [kept[name] for kept in state.values() for name in names if name in kept]
        self.live: list[Tensor] = [local(p.detach()) for p in parameters]
        self.live += [*replay.model.buffers(), *map(local, leaves(changing))]
        self.live += [
            local(grad.detach())
            for _, grad in self.grads
            if grad is not None and grad.layout == torch.strided
        ]
        self.copies: list[Tensor] = room.like(self.live)
        copy_(self.copies, self.live)

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, and gradients that were changed in place, too."""
        copy_(self.live, self.copies)
        self.state.clear()
        self.state.update(self.kept)
        for p, grad in self.grads:
            p.grad = grad
        self.replay.rewind()


def _without_indices(grad: Tensor | None) -> Tensor | None:
    """Return a gradient that one kernel can copy, or, of a sparse one, a copy."""
    return grad if grad is None or grad.layout == torch.strided else grad.clone()


def copy_(to: Sequence[Tensor], of: Sequence[Tensor]) -> None:
    """Copy tensors into others, by one kernel for all that are on one device."""
    if to:
        torch._foreach_copy_(to, of)  # type: ignore[reportPrivateImportUsage]  # torch.optim's own way


def _without_sharing(value: Any) -> Any:
    """Return nested dictionaries that hold the very same tensors."""
    if isinstance(value, dict):
        return {key: _without_sharing(item) for key, item in value.items()}
    return value


def leaves(value: Any) -> list[Tensor]:
    """Return all tensors of nested lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    items = [*value.values()] if isinstance(value, dict) else value
    if not isinstance(items, list):
        return []
    return [tensor for item in items for tensor in leaves(item)]


class Owners:
    """Remembers which optimizer moved a parameter last.

    Attributes:
        claims: how often an optimizer began to move parameters; the others look again then.
    """

    def __init__(self) -> None:
        self.claims = 0
        self._latest: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def claim(self, parameters: Iterable[nn.Parameter], owner: int) -> None:
        """Note that the optimizer of this number moves these parameters from now on."""
        self.claims += 1
        for p in parameters:
            if p.requires_grad:
                self._latest[p] = owner

    def refuse_second(self, named: Iterable[tuple[str, nn.Parameter]], owner: int) -> None:
        """Refuse to go on with weights that another KFQN has moved in between.

        Raises:
            ValueError: it has; the message names the weights.
        """
        moved = [name for name, p in named if self._latest.get(p, owner) != owner]
        if moved:
            raise ValueError(
                f"a model must have one KFQN at a time, but another one has moved {moved} since "
                f"the last step: the estimates belong to other weights; use one optimizer with "
                f"groups"
            )


OWNERS = Owners()
"""The owners of all parameters in this process."""
