"""What a step refuses before anything moves, and how a step that failed is undone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.passes import Replay
from kfqn_ref.optim.presets import Preset


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
    for part in layer.name.split(".") if layer.name else ():
        module = module._modules.get(part)
        if module is None:
            break
    return "" if module is layer.module else "was replaced by another module"


def refuse_gradients(named: Iterable[tuple[str, nn.Parameter]]) -> None:
    """Refuse gradients that the step cannot take.

    Raises:
        ValueError: a gradient is sparse.
    """
    sparse = [name for name, p in named if p.grad is not None and p.grad.layout != torch.strided]
    if sparse:
        raise ValueError(
            f"gradients must be dense, got sparse ones for {sparse}: make the embedding with "
            f"sparse=False"
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


def refuse_reduction(loss: Any, reduction: str, samples: Collection[int]) -> None:
    """Refuse a loss that is visibly reduced in another way than the option says.

    Visible is the last operation that made the loss: a loss function of torch, or ``sum()`` or
    ``mean()`` over an array whose first axis is the samples.

    Args:
        loss: what the closure returned.   reduction: the option.
        samples: the numbers of samples, and of rows, that the layers saw.

    Raises:
        ValueError: it is.
    """
    how = _reduction(_node(loss), samples)
    if how is not None and how != reduction:
        raise ValueError(
            f"the closure's loss must be a {reduction} over the samples (loss_reduction="
            f"{reduction!r}), got a {how}: return the {reduction} (what is weighted is divided "
            f"after the sum), or pass loss_reduction={how!r}"
        )


def _reduction(node: Any, samples: Collection[int]) -> str | None:
    """Return ``"mean"``, ``"sum"``, or nothing where the last operation does not show it."""
    if hasattr(node, "_saved_reduction"):
        return {1: "mean", 2: "sum"}.get(node._saved_reduction)
    sizes = getattr(node, "_saved_self_sym_sizes", ())
    if not sizes or sizes[0] < 2 or sizes[0] not in samples:  # of one sample they are the same
        return None
    return {"MeanBackward0": "mean", "SumBackward0": "sum"}.get(type(node).__name__)


def _node(loss: Any) -> Any:
    return loss.grad_fn if isinstance(loss, Tensor) else None


class Stale:
    """Remembers the gradients from before a closure, to see whether it cleared them."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        kept = [(layer, layer.weight.grad) for layer in layers]
        self.kept = [(layer, grad, grad._version) for layer, grad in kept if grad is not None]

    def refuse(self, backwards: Mapping[Layer, int]) -> None:
        """Refuse gradients to which the closure has added.

        Each backward pass adds to a gradient once, which its version counts; whatever clears or
        changes it counts as well.

        Args:
            backwards: how many backward passes reached the weights of each layer.

        Raises:
            ValueError: there is one.
        """
        added = [
            layer.name
            for layer, grad, version in self.kept
            if layer.weight.grad is grad
            and backwards.get(layer, 0) > 0
            and grad._version - version == backwards[layer]
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


class Snapshot:
    """What a step may change, as it was before it: an error brings it back bit for bit.

    Args:
        replay: the random state.   parameters: all that the optimizer moves.
        state: what it keeps of each.   updates: whether the curvature is updated.
    """

    def __init__(
        self, replay: Replay, parameters: Sequence[nn.Parameter], state: Any, updates: bool
    ) -> None:
        self.replay = replay
        self.state = state
        self.grads: list[tuple[nn.Parameter, Tensor | None, int]] = [
            (p, p.grad, 0 if p.grad is None else p.grad._version) for p in parameters
        ]
        names = IN_PLACE + IN_PLACE_UPDATES if updates else IN_PLACE
        self.kept: dict[Any, Any] = {p: _without_sharing(kept) for p, kept in state.items()}
        changing = [kept[name] for kept in state.values() for name in names if name in kept]
        self.live: list[Tensor] = [p.detach() for p in parameters]
        self.live += [*replay.model.buffers(), *leaves(changing)]
        self.copies: list[Tensor] = [torch.empty_like(x) for x in self.live]
        copy_(self.copies, self.live)

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back; gradients that were changed in place are cleared."""
        copy_(self.live, self.copies)
        self.state.clear()
        self.state.update(self.kept)
        for p, grad, version in self.grads:
            same = grad is None or grad._version == version
            p.grad = grad if same else None
        self.replay.rewind()


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
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [tensor for item in items for tensor in leaves(item)]


_latest: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""The number of the optimizer that moved a parameter last."""


def claim(parameter: nn.Parameter, owner: int) -> None:
    """Note that the optimizer of this number moves the parameter from now on."""
    _latest[parameter] = owner


def refuse_second_owner(parameter: nn.Parameter, owner: int) -> None:
    """Refuse to go on with weights that another KFQN has moved in between.

    Raises:
        ValueError: it has.
    """
    if _latest.get(parameter, owner) != owner:
        raise ValueError(
            "a model must have one KFQN at a time, but another one has moved these weights since "
            "the last step: the estimates belong to other weights; use one optimizer with groups"
        )
