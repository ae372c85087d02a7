"""Hooks that stand from the beginning, for presets without a second pass: what a step without a
closure learns the curvature from.

Counted are the calls whose backward passes left the gradients that the step finds: several backward
passes are micro-batches, and gradients that were cleared take their calls with them. Until a call's
gradient comes, its input hangs on the graph alone, so that a forward pass without a backward pass
keeps nothing.
"""

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor

from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.passes import Observed, input_of, keeping_hooks, refuse_reentrant
from kfqn_ref.optim.records import Record, refuse_differentiated, what_counts
from kfqn_ref.optim.rows import Rows


class Call:
    """One call of a layer.

    Args:
        number: the calls of all layers are counted.
        turn: how many backward passes had reached the layer before; calls of one turn are uses.
        a: the input, of the rows that count.
        fixed: whether it depends on no weight that is trained.
        samples, rows: those that count.   sizes: numbers of samples and of rows, of all.

    Attributes:
        version: that of the input; a change in place is seen by it.
        differentiated: whether its gradient was to be differentiated itself.
    """

    def __init__(
        self,
        number: int,
        turn: int,
        a: Tensor,
        fixed: bool,
        samples: int,
        rows: int,
        sizes: set[int],
    ) -> None:
        self.number = number
        self.turn = turn
        self.a: Tensor | None = a
        self.version = a._version
        self.fixed = fixed
        self.samples = samples
        self.rows = rows
        self.sizes = sizes
        self.differentiated = False


class Trail:
    """The calls of one layer that led to its present gradient.

    Attributes:
        turn: how many backward passes have reached the layer.
        arriving: the number of a backward pass, and the calls whose gradients it has computed.
        counted: the calls of the backward passes that left the gradient, by number.
        left: the gradient that the latest of them left, and its version.
    """

    def __init__(self) -> None:
        self.turn = 0
        self.arriving: tuple[int, list[Call]] = (-1, [])
        self.counted: dict[int, Call] = {}
        self.left: tuple[Tensor | None, int] = (None, 0)

    def is_stale(self, grad: Tensor | None) -> bool:
        """Return whether the gradient was cleared since the counted calls led to it.

        Where it was changed in place and is not added to yet, this reads the device.
        """
        if grad is None:
            return True
        before, version = self.left
        unchanged = grad is before and grad._version == version
        return not unchanged and not bool(grad.any())


class ForwardHook:
    """Hands the calls of a module to :class:`Standing` while that lives.

    A copy or a pickle of the module has a hook that does nothing: the optimizer that is copied with
    it sets up hooks of its own.
    """

    _torchdynamo_disable = True  # a compiled model calls it uncompiled

    def __init__(self, standing: "Standing | None" = None, number: int = 0) -> None:
        self.standing = None if standing is None else weakref.ref(standing)
        self.number = number

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, h: Tensor) -> Tensor | None:
        standing = self.standing() if self.standing is not None else None
        if standing is None or not standing.watches or not torch.is_grad_enabled():
            return None
        return standing.called(standing.layers[self.number], args, kwargs, h)

    def __reduce__(self) -> tuple[type["ForwardHook"], tuple[()]]:
        return ForwardHook, ()


def _reached(standing: "weakref.ref[Standing]", number: int, weight: Tensor) -> None:
    """Tell that a backward pass has left a gradient in a weight."""
    alive = standing()
    if alive is not None:
        alive.reached(alive.layers[number])


class Standing:
    """The calls of the layers since the gradients were last cleared.

    Args:
        layers: the covered layers.   rows: those that count.

    Attributes:
        watches: whether calls are noted: not where the next step needs none.
        backwards: how many backward passes reached the weights since :meth:`forget`.
    """

    def __init__(self, layers: Sequence[Layer], rows: Rows) -> None:
        self.layers = layers
        self.rows = rows
        self.watches: bool = False
        self.backwards: dict[Layer, int] = {}
        self._trails: dict[Layer, Trail] = {layer: Trail() for layer in layers}
        self._numbers = {layer: i for i, layer in enumerate(layers)}
        self._calls = 0
        self._on_weights: set[Layer] = set()
        self._handles: list[Any] = []
        for number, layer in enumerate(layers):
            _remove_dead_hooks(layer.module)
            hook = ForwardHook(self, number)
            self._handles.append(layer.module.register_forward_hook(hook, with_kwargs=True))
        weakref.finalize(self, _remove, self._handles)

    def called(self, layer: Layer, args: tuple, kwargs: dict, h: Tensor) -> Tensor | None:
        """Note a call with gradients; return its output, which keeps its hook."""
        weight = layer.weight
        own = weight is layer.built_for and weight.requires_grad  # not so in functional_call
        if not own or not h.requires_grad or _is_transformed(h):
            return None
        if torch._C._current_graph_task_id() != -1:  # a part of the backward pass is recomputed
            refuse_reentrant(layer)
            return None
        self._stand_on_weight(layer)
        a = input_of(layer, args, kwargs)
        h = keeping_hooks(h)
        keep = self.rows.of(layer, h)
        fixed = not a.requires_grad
        a, samples, rows, sizes = what_counts(layer, a, h, keep)
        turn = self._trails[layer].turn
        call = Call(self._calls, turn, a, fixed, samples, rows, sizes)
        self._calls += 1
        h.register_hook(partial(self._arrived, layer, call))
        return h

    def _stand_on_weight(self, layer: Layer) -> None:
        """Hear of the gradients of a weight from its first call with gradients on."""
        if layer not in self._on_weights:
            self._on_weights.add(layer)
            reached = partial(_reached, weakref.ref(self), self._numbers[layer])
            self._handles.append(layer.weight.register_post_accumulate_grad_hook(reached))

    def _arrived(self, layer: Layer, call: Call, Dh: Tensor) -> None:
        """Note that a gradient has come to a call; whether it counts, the weight will show."""
        trail = self._trails[layer]
        task = torch._C._current_graph_task_id()
        if trail.arriving[0] != task:
            if trail.counted and trail.is_stale(layer.weight.grad):
                trail.counted = {}
            trail.arriving = (task, [])
        call.differentiated = call.differentiated or Dh.requires_grad
        trail.arriving[1].append(call)

    def reached(self, layer: Layer) -> None:
        """Count the calls of the backward pass that has just left a gradient in the weight."""
        trail = self._trails[layer]
        task, calls = trail.arriving
        if task == torch._C._current_graph_task_id():
            trail.counted |= {call.number: call for call in calls}
        trail.arriving = (-1, [])
        trail.turn += 1
        grad = layer.weight.grad
        assert grad is not None, "the hook stands behind the accumulation"
        trail.left = (grad, grad._version)
        self.backwards[layer] = self.backwards.get(layer, 0) + 1

    def forget(self) -> None:
        """Let go of all calls, and of their inputs."""
        for trail in self._trails.values():
            for call in [*trail.counted.values(), *trail.arriving[1]]:
                call.a = None  # a graph that the user keeps would keep it
            trail.counted = {}
            trail.arriving = (-1, [])
            trail.left = (None, 0)
        self.backwards = {}

    def observed(self, layers: Sequence[Layer], *, keep_input: bool) -> Observed:
        """Return the records of the calls that led to the present gradients.

        Args:
            layers: those that are trained.   keep_input: whether the inputs are wanted.

        Raises:
            NotImplementedError: a gradient was differentiated itself.
            ValueError: an input was let go by an earlier step, or uses before a backward pass have
                different numbers of samples.
        """
        found: dict[int, Record] = {}
        for layer in layers:
            calls = self._present(layer)
            if calls:
                found[calls[0].number] = _record(layer, calls, keep_input=keep_input)
        observed = Observed(layers)
        observed.records = {found[first].layer: found[first] for first in sorted(found)}
        observed.backwards = self.backwards
        observed.versions = {layer: self._trails[layer].left[1] for layer in self.backwards}
        return observed

    def _present(self, layer: Layer) -> list[Call]:
        """Return the calls that led to the present gradient of a layer, in their order."""
        trail = self._trails[layer]
        if layer.weight.grad is None:
            return []
        return [trail.counted[number] for number in sorted(trail.counted)]


def _record(layer: Layer, calls: Sequence[Call], *, keep_input: bool) -> Record:
    """Return what several calls of a layer leave."""
    record = Record(layer, set())
    turn = calls[0].turn
    for call in calls:
        if call.turn != turn:
            record.open = False  # a further micro-batch
            turn = call.turn
        if call.differentiated:
            refuse_differentiated(layer)
        if call.a is None:
            raise ValueError(
                f"the gradients of a step must come from calls made since the last step, but a "
                f"graph of {layer.name!r} from before it was used again: run the model again"
            )
        sizes = call.sizes
        record.add(call.a, call.version, call.samples, call.rows, sizes, keep_input=keep_input)
        record.fixed = record.fixed and call.fixed
    record.open = False
    return record


def _is_transformed(h: Tensor) -> bool:
    """Return whether an output belongs to a transform of torch.func, or to a trace or an export,
    which leave no gradient in the weights.
    """
    traced = torch._C._is_tracing() or torch.compiler.is_exporting()
    return traced or is_functorch_wrapped_tensor(h)


def _remove_dead_hooks(module: nn.Module) -> None:
    """Remove the hooks that came with a copy of the module."""
    for key, hook in [*module._forward_hooks.items()]:
        if isinstance(hook, ForwardHook) and hook.standing is None:
            del module._forward_hooks[key]
            module._forward_hooks_with_kwargs.pop(key, None)


def _remove(handles: Sequence[Any]) -> None:
    for handle in handles:
        handle.remove()
