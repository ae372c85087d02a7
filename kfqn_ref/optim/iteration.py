"""One iteration: the order in which passes, means, step and updates follow each other. No
formula.

The steps have the numbers of the algorithm (``kfqn_ref/algorithm.py``, and the book): 1 first pass,
2 momentum, 3 step, 4.1 input pair, 4.2 second pass, 4.3 output pair, 4.4 damping, 4.5 update.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.coverage import plain_arithmetic, warn_of_unseen
from kfqn_ref.optim.distributed import Reducer
from kfqn_ref.optim.guards import Stale, refuse_gradients
from kfqn_ref.optim.kernels import all_finite
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.move import Move
from kfqn_ref.optim.options import Method
from kfqn_ref.optim.ownership import Ownership, move_owned_
from kfqn_ref.optim.passes import (
    Capture,
    Observed,
    Replay,
    refuse_other_pass,
    refuse_unreduced,
)
from kfqn_ref.optim.records import Record
from kfqn_ref.optim.reduction import refuse_reduction
from kfqn_ref.optim.rows import Rows
from kfqn_ref.optim.sharded import local, resharding
from kfqn_ref.optim.standing import Standing
from kfqn_ref.optim.update import InputPair, Means, Seen, act, compare, start_, to_reduce

Closure = Callable[[], Any]

SECOND_PASS_ERRORS = ("NoneType", "does not require grad", "nested_tensorlist")
"""What errors say that come from weights without gradients; the last one is clip_grad_value_'s."""


@dataclass(frozen=True)
class Core:
    """What an iteration of one optimizer works on.

    Args:
        model: the model.   method: preset and hyper-parameters.   layers: the covered layers.
        layer_of: the layer of each covered parameter.
        groups: the parameter groups.   group_of: the number of each parameter's group.
        state: what the optimizer keeps of each parameter.
        started: the layers that have factors.
        unseen: the layers that the first iteration did not see.
        rows: the rows of a mini-batch that count.
        standing: the calls since the last step, where hooks stand from the beginning.
        reducer, ownership: the ranks, and which of them keeps which layer.
        update_: the update of the factors, compiled or not.
        other_step: name of the step that other parameters take.
    """

    model: nn.Module
    method: Method
    layers: Sequence[Layer]
    layer_of: Mapping[nn.Parameter, Layer]
    groups: Sequence[dict[str, Any]]
    group_of: Mapping[nn.Parameter, int]
    state: MutableMapping[Any, dict[str, Any]]
    started: set[Layer]
    unseen: list[Layer]
    rows: Rows
    standing: Standing | None
    reducer: Reducer
    ownership: Ownership
    update_: Callable[..., Any]
    other_step: str


@dataclass(frozen=True)
class Scaled:
    """What an enabled ``torch.amp.GradScaler`` says of the gradients.

    Args:
        scale: what they were multiplied by, or None where they are divided by it already.
        found_inf: not zero where one of them is not finite.
    """

    scale: Tensor | None
    found_inf: Tensor


def updates_curvature(core: Core, k: int) -> bool:
    """Return whether iteration ``k`` updates the curvature.

    It does where no layer has factors yet: a bad first batch has started nothing.
    """
    eager = k < core.method.preset.eager_steps
    due = k % core.method.curvature_interval == 0
    return eager or due or not core.started


class Iteration:
    """Iteration ``k``; its methods come in this order.

    Args:
        core: what it works on.   k: its number.
        closure: runs its mini-batch, or None where the gradients are there already.
        scaled: what a gradient scaler says of them, or None without one.

    Attributes:
        updates: whether the curvature is updated.
        compares: whether it is updated from a second pass.
        ok: mask without axes: loss and gradients are finite.
        inputs: the input pair of every layer that a first pass has shown.
        seen: all pairs of these layers, after the updates.
    """

    ok: Tensor
    first: Observed
    means: dict[Layer, Means]
    inputs: dict[Layer, InputPair]
    seen: dict[Layer, Seen]

    def __init__(
        self, core: Core, closure: Closure | None, k: int, scaled: Scaled | None = None
    ) -> None:
        self.core = core
        self.closure: Closure | None = closure
        if closure is not None and core.reducer.sharded:
            self.closure = resharding(core.reducer.shards, closure)
        self.k = k
        self.scaled = scaled
        self.updates: bool = updates_curvature(core, k)
        self.compares: bool = self.updates and core.method.preset.learns_output
        self.begun: set[Layer] = set()  # the layers that start in this iteration
        parameters = [p for group in core.groups for p in group["params"]]
        self.replay: Replay = Replay(core.model, parameters)

    def first_pass(self) -> Any:
        """Step 1: call the closure, agree with the other ranks, start new layers; return the loss.

        Without a closure that pass was made already, and the loss is not known.

        Raises:
            ValueError: the closure did not call ``backward`` or did not return the loss, or left
                gradients that the step cannot take.
        """
        core = self.core
        reduction = self.core.method.loss_reduction
        layers = [layer for layer in core.layers if layer.weight.requires_grad]
        stale = Stale(layers)
        watched = self.updates or reduction == "sum"
        loss, self.first = self._observe(layers, watched)
        if reduction == "sum" and not layers:
            raise ValueError(
                "with loss_reduction='sum' the weight of a covered layer must be trained, as the "
                "number of samples is read there; return a mean loss"
            )
        self._refuse_missing(watched and bool(layers))
        core.reducer.find_wrapper(core.model)
        if core.reducer.sharded:
            refuse_unreduced(self.first)
        if self.closure is not None:
            stale.refuse(self.first.backwards, self.first.versions)
        for record in self.first.usable:
            record.refuse_changed_inputs()
        refuse_reduction(loss, reduction, self.first.sizes())
        refuse_gradients(core.model, [grad for _, grad in self._moving()])
        self.scale: float | Tensor = self._scale()
        with plain_arithmetic(core.layers):
            self._begin(loss)
        return loss

    def _observe(self, layers: Sequence[Layer], watched: bool) -> tuple[Any, Observed]:
        """Call the closure, if there is one; return its loss, and what was seen of the layers."""
        core = self.core
        standing = core.standing
        if standing is None:
            first = Capture(layers, core.rows, keep_input=self.updates)
            with first.watching(watched):
                loss = self._call()
            return loss, first
        if self.closure is not None:
            standing.forget()
        loss = self._call()
        trained = [layer for layer in core.layers if layer.weight.requires_grad]  # now, not before
        return loss, standing.observed(trained, keep_input=self.updates)

    def _call(self) -> Any:
        """Return the loss of the closure, 0 without one.

        Raises:
            ValueError: it did not return one number.
        """
        if self.closure is None:
            return 0.0
        with torch.enable_grad():
            loss = self.closure()
        if not isinstance(loss, Tensor | float):
            raise ValueError(
                f"the closure must return the loss, got {type(loss).__name__}; a step that needs "
                f"no closure is step(), without one that does nothing"
            )
        if isinstance(loss, Tensor) and loss.numel() != 1:
            raise ValueError(
                f"the closure must return the loss as one number, got the shape "
                f"{tuple(loss.shape)}: return its mean"
            )
        return loss

    def _refuse_missing(self, needed: bool) -> None:
        """Refuse a step without gradients, or without the inputs that are ``needed``.

        Raises:
            ValueError: there are none.
        """
        moving = bool(self._moving())
        if moving and not (needed and not self.first.usable):
            return
        if moving and self.closure is None:
            raise ValueError(
                "the gradients of a step without a closure must come from calls of the model "
                "since the last step and since the optimizer was made, but no input was seen: run "
                "the model, call loss.backward(), then step()"
            )
        if moving:
            raise ValueError(
                "the closure must call backward on the outputs of the covered layers, but none "
                "was seen: it called no backward and the gradients are old, or it ran another "
                "model (a copy, or one that torch.jit traced)"
            )
        raise ValueError(
            "the closure must call backward, but no gradient was left by it; without a "
            "closure, call loss.backward() before step()"
        )

    def _scale(self) -> float | Tensor:
        """Return the factor that makes the gradients those of a mean loss."""
        is_sum = self.core.method.loss_reduction == "sum"
        scale = 1 / max(self.first.samples(), 1) if is_sum else 1.0
        if self.scaled is None or self.scaled.scale is None:
            return scale
        return scale / self.scaled.scale

    def move_(self) -> None:
        """Steps 2 and 3 for all parameters, and step 4.1: the input pairs are formed."""
        core = self.core
        a_means = {layer: mean.a_mean for layer, mean in self.means.items()}
        with plain_arithmetic(core.layers):
            owned: list[tuple[Move, Layer]] = []
            s_a: dict[Layer, Tensor] = {}
            for group in core.groups:
                move = Move(group, self._alpha(group), self.scale, self.ok, core.method.preset)
                for p in group["params"]:
                    s_a |= self._move_one_(move, p, a_means, owned)
            if core.ownership.active:
                s_a |= move_owned_(core.ownership, owned, core.state, a_means)
            self.inputs = {
                layer: self._act(layer, mean, s_a[layer]) for layer, mean in self.means.items()
            }

    def update_inputs_(self) -> None:
        """Step 4.5 of the input side alone, where no second pass belongs to the preset."""
        with plain_arithmetic(self.core.layers):
            self._update_({})

    def second_pass(self) -> None:
        """Step 4.2: call the closure at the new weights; then steps 4.3 to 4.5, all updates."""
        core = self.core
        self.seen = {}
        if not self.means:  # the first mini-batch was not finite, and no layer has begun
            return
        second = Capture([*self.means], core.rows, keep_input=False, frozen=True)
        with torch.enable_grad(), core.reducer.quiet(), self.replay.again(), second.watching():
            self._call_again()
        refuse_other_pass(self.first, second, [*self.means])
        with plain_arithmetic(core.layers):
            records = second.usable
            firsts = [self.means[record.layer] for record in records]
            assert isinstance(self.scale, float), "a scaled gradient has no second pass"
            pairs = compare(firsts, records, self.scale)
            outputs = {r.layer: pair for r, pair in zip(records, pairs, strict=True)}
            self._update_(outputs)

    def _call_again(self) -> None:
        """Call the closure; say what the second pass asks of it where it fails for that reason.

        Raises:
            ValueError: it used gradients, of which the second pass has none.
        """
        assert self.closure is not None, "without one no second pass is due"
        try:
            self.closure()
        except (AttributeError, RuntimeError) as error:
            if any(words in str(error) for words in SECOND_PASS_ERRORS):
                raise ValueError(
                    f"the closure must run a second time at the new weights, where the weights are "
                    f"frozen and their gradients are None, but it ended with: {error}. Do what "
                    f"needs gradients only `if not opt.in_second_pass`"
                ) from error
            raise

    def _update_(self, outputs: Mapping[Layer, Any]) -> None:
        core = self.core
        preset = self.core.method.preset
        travelling = [to_reduce(pair, outputs.get(x), preset) for x, pair in self.inputs.items()]
        core.reducer.mean_([part for parts in travelling for part in parts])
        kept = [layer for layer in self.inputs if core.ownership.keeps(layer)]
        damped = core.update_(
            [core.state[layer.weight] for layer in kept],
            [self.inputs[layer] for layer in kept],
            [outputs.get(layer) for layer in kept],
            core.method,
            self.ok,
        )
        self.seen = {
            layer: Seen(self.inputs[layer], outputs.get(layer), pair)
            for layer, pair in zip(kept, damped, strict=True)
        }

    def _begin(self, loss: Tensor | float) -> None:
        """Set the mask and what the pairs begin with; start the layers that are new."""
        core = self.core
        records = self.first.usable if self.updates else []
        a_means = [record.a_mean() for record in records]
        loss = self._own_copy(loss)
        core.reducer.mean_([loss, *a_means])
        grads = [local(grad) for _, grad in self._moving()]
        ok = all_finite([loss, *grads])
        if self.scaled is not None:
            ok = ok & (self.scaled.found_inf == 0).to(ok.device)
        self.ok = core.reducer.everywhere(ok)
        if self._is_empty_start(records):
            self.ok = torch.zeros_like(self.ok)
        past = not core.method.preset.convergent  # there no batch has a say in its own step: A = 0
        new = [record for record in records if record.layer not in core.started]
        if new and is_sound(self.ok):  # a bad batch starts nothing
            for record in new:
                A = record.first_factor(core.method.form_of(record.layer))
                start(core, record, A, self.ok & past)
            self.begun = {record.layer for record in new}
            self._note_unseen()
        self.means = {
            record.layer: Means(record, a_mean, record.layer.output_mean(a_mean))
            for record, a_mean in zip(records, a_means, strict=True)
            if record.layer in core.started
        }

    def _is_empty_start(self, records: Sequence[Record]) -> bool:
        """Return whether no layer has begun and the mini-batch has no rows to begin from.

        Ranks have equally many samples each, so none of them asks.
        """
        waiting = not self.core.started and not self.core.reducer.active
        return waiting and bool(self.first.layers) and not any(record.rows for record in records)

    def _note_unseen(self) -> None:
        """Warn once of layers that got a gradient, but whose outputs the first pass of a run has
        not shown.
        """
        if self.core.unseen or self.begun != self.core.started:
            return
        for layer in self.core.layers:
            if layer.weight.grad is not None and layer not in self.core.started:
                self.core.unseen.append(layer)
        warn_of_unseen(self.core.unseen, self.core.other_step)

    def _own_copy(self, loss: Tensor | float) -> Tensor:
        if isinstance(loss, Tensor):
            return loss.detach().clone()
        layer = self.core.layers[0]
        return torch.tensor(loss, dtype=layer.dtype, device=layer.weight.device)

    def _move_one_(
        self,
        move: Move,
        p: nn.Parameter,
        a_means: Mapping[Layer, Tensor],
        owned: list[tuple[Move, Layer]],
    ) -> dict[Layer, Tensor]:
        """Move one parameter, or note its layer in ``owned``; return ``s_a`` of its layer, if any.

        The bias of a layer goes with its weight.
        """
        core = self.core
        layer = self.core.layer_of.get(p)
        if p.grad is None:
            return {}
        if layer is None or layer.weight.grad is None or layer not in core.started:
            move.other_(p, core.state[p])
        elif p is layer.weight and core.ownership.active:
            owned.append((move, layer))
        elif p is layer.weight:
            s_a = move.layer_(layer, core.state[p], a_means.get(layer))
            return {} if s_a is None else {layer: s_a}
        return {}

    def _act(self, layer: Layer, means: Means, s_a: Tensor) -> InputPair:
        state = self.core.state.get(layer.weight, {})  # nothing, where another rank keeps it
        keep_A = self.k == 0 or layer in self.begun
        return act(state, means, s_a, self.core.method, self.ok, keep_A=keep_A)

    def _alpha(self, group: dict[str, Any]) -> float:
        return group["lr"] * (self.k + 1) ** -group["step_decay"]

    def _moving(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return the parameters that have a gradient, with it."""
        parameters = (p for group in self.core.groups for p in group["params"])
        return [(p, p.grad) for p in parameters if p.grad is not None]


def is_sound(ok: Tensor) -> bool:
    """Read a mask from the device: done when layers start, and at no other time."""
    return bool(ok)


def start(core: Core, record: Record, A: Tensor, ok: Tensor) -> None:
    """Initialise a layer from the mean of the ranks' ``A``, on the rank that stores it.

    The damping is that of its parameter group.
    """
    layer = record.layer
    weight = record.layer.weight
    core.started.add(layer)
    for p in layer.parameters:
        core.state.get(p, {}).pop("other", None)  # from the iterations before
    core.reducer.mean_([A], to=core.ownership.owner.get(layer))
    if core.ownership.keeps(layer):
        damping = core.groups[core.group_of[weight]]["damping"]
        start_(core.state[weight], record, core.method, damping, A, ok)
