"""The two passes of an iteration: what they leave for the curvature, and how the second one repeats
the first.

What a pass leaves is inputs, and sums of outputs and of their gradients. Forward hooks stand only
while a pass is watched. The outputs ``h`` and their gradients are summed where they appear and
never kept; the inputs ``a`` are kept until the Hessian action has used them.

A gradient counts only if the same backward pass leaves a gradient in the weights: what
``autograd.grad`` computes for a log does not. Calls of a layer before one backward pass are uses of
the same weights on the same samples: their locations are counted together (the expand form of
weight sharing, eschenhagen2023kfac). A call after a backward pass is a further micro-batch. The
second pass runs the same closure at the new weights, on the same random numbers, and leaves no
trace.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.records import Record
from kfqn_ref.optim.rows import Rows


class _Root(torch.autograd.Function):
    """The identity whose output needs a gradient: where a pass over frozen weights begins to be
    followed.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(h)  # the very same tensor, so that an in-place activation may follow
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], grads[0].new_zeros(())  # what reaches the anchor shows a full backward


class Observed:
    """The records of one pass, in the order in which the layers were first called.

    Args:
        layers: the layers that are watched.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.records: dict[Layer, Record] = {}
        self.backwards: dict[Layer, int] = {}  # how many of them reached the weights
        self.versions: dict[Layer, int] = {}  # of their gradients, after the latest one

    @property
    def usable(self) -> list[Record]:
        """The records of the layers that a gradient reached."""
        return [*self.records.values()]

    def sizes(self) -> set[int]:
        """Return the numbers of samples, and of rows (samples times locations), of all layers."""
        return {size for record in self.records.values() for size in record.sizes}

    def samples(self) -> int:
        """Return the number of samples of the pass.

        Raises:
            ValueError: the layers saw different numbers.
        """
        seen: dict[int, str] = {}
        for record in self.records.values():
            seen.setdefault(record.N, record.layer.name)
        if len(seen) > 1:
            raise ValueError(
                f"with loss_reduction='sum' all layers must see the same number of samples, got "
                f"{seen}; return a mean loss, and leave loss_reduction at 'mean'"
            )
        return next(iter(seen), 0)


class CaptureHook:
    """Hands the calls of one layer to a :class:`Capture`.

    Args:
        capture: what takes note of them.   layer: the layer.
    """

    _torchdynamo_disable = True  # a compiled model calls it uncompiled

    def __init__(self, capture: "Capture", layer: Layer) -> None:
        self.capture = capture
        self.layer = layer

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, h: Tensor) -> Tensor | None:
        return self.capture.called(self.layer, args, kwargs, h)


class Capture(Observed):
    """A pass whose forward hooks stand only while it is watched.

    In the first pass a backward pass counts for a layer if it leaves a gradient in its weight. In
    the second one weights are frozen; there it counts if it reaches an anchor.

    Args:
        layers: the layers to watch.   rows: those that count.
        keep_input: whether the inputs are kept.
        frozen: whether this is a pass over frozen weights.
    """

    def __init__(
        self, layers: Sequence[Layer], rows: Rows, *, keep_input: bool, frozen: bool = False
    ) -> None:
        super().__init__(layers)
        self.rows = rows
        self.keep_input = keep_input
        self.frozen = frozen
        self.anchored: set[int] = set()  # the backward passes that reached an anchor

    @property
    def usable(self) -> list[Record]:
        for record in self.records.values():
            record.settle()
        return [record for record in self.records.values() if record.Dh_sums]

    @contextmanager
    def watching(self, watched: bool = True) -> Iterator[None]:
        """Record the forward and backward passes made inside, if ``watched``."""
        handles = []
        wanted = self.layers if watched else ()
        for layer in wanted:
            hook = CaptureHook(self, layer)
            handles.append(layer.module.register_forward_hook(hook, with_kwargs=True))
            if layer.weight.requires_grad:
                reached = partial(self._reached, layer)
                handles.append(layer.weight.register_post_accumulate_grad_hook(reached))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def called(self, layer: Layer, args: tuple, kwargs: dict, h: Tensor) -> Tensor | None:
        """Record a call, unless it is without gradients or recomputes a part of the backward
        pass.
        """
        if not torch.is_grad_enabled():
            return None
        a = input_of(layer, args, kwargs)
        h = self._rooted(h)
        if torch._C._current_graph_task_id() == -1:  # not inside a backward pass
            if layer not in self.records:
                counting = self.anchored if self.frozen else set()
                self.records[layer] = Record(layer, counting)
            record = self.records[layer]
            keep = self.rows.of(layer, h)
            record.see(a, h, keep, keep_input=self.keep_input)
            h.register_hook(partial(record.see_gradient, keep=keep))
        else:
            refuse_reentrant(layer)
        return h

    def _rooted(self, h: Tensor) -> Tensor:
        """Return an output that needs a gradient and keeps its hook; the first one of a pass over
        frozen weights has an anchor.
        """
        h = keeping_hooks(h)
        if h.requires_grad and (self.records or not self.frozen):
            return h
        anchor = h.new_zeros((), requires_grad=True)
        anchor.register_post_accumulate_grad_hook(self._anchor_reached)
        return _Root.apply(h, anchor)

    def _anchor_reached(self, anchor: Tensor) -> None:
        self.anchored.add(torch._C._current_graph_task_id())

    def _reached(self, layer: Layer, weight: Tensor) -> None:
        self.backwards[layer] = self.backwards.get(layer, 0) + 1
        assert weight.grad is not None, "the hook is called when a gradient is there"
        self.versions[layer] = weight.grad._version
        if layer in self.records:
            record = self.records[layer]
            record.counting.add(torch._C._current_graph_task_id())
            record.settle()


def input_of(layer: Layer, args: tuple, kwargs: dict) -> Tensor:
    """Return the input of a call.

    Raises:
        ValueError: the call has more than its input.
    """
    if len(args) > 1 or kwargs.get("output_size") is not None:
        raise ValueError(
            f"a covered layer must be called with its input alone, but {layer.name!r} got more "
            f"(output_size): set output_padding in the layer, or exclude=[{layer.name!r}]"
        )
    return args[0] if args else kwargs["input"]


def keeping_hooks(h: Tensor) -> Tensor:
    """Return an output whose hook an in-place operation does not drop, as it does for a view."""
    return torch.ops.aten._unsafe_view(h, h.shape) if h._is_view() else h


def refuse_reentrant(layer: Layer) -> None:
    """Refuse a call from the backward pass in a block of torch's reentrant checkpointing.

    Raises:
        ValueError: it is one.
    """
    node = torch._C._current_autograd_node()
    if type(node).__name__ == "CheckpointFunctionBackward":
        raise ValueError(
            f"layers must not be checkpointed with use_reentrant=True, but {layer.name!r} is: "
            f"its outputs have no gradient there; use_reentrant=False is exact"
        )


def refuse_unreduced(first: Observed) -> None:
    """Refuse backward passes that left no gradient in sharded weights.

    Raises:
        ValueError: there is one. Its output gradients would be missing in the pairs, though FSDP
            adds its weight gradients to those of a later pass.
    """
    for record in first.records.values():
        record.settle()
    waiting = [record.layer.name for record in first.records.values() if record.pending]
    if waiting:
        raise ValueError(
            f"every backward pass of the closure must reduce its gradients where parameters are "
            f"sharded, but one through {waiting} left none in the weights: call "
            f"set_requires_gradient_sync(True), and no autograd.grad in the closure"
        )


def refuse_other_pass(first: Observed, second: Observed, expected: Sequence[Layer]) -> None:
    """Refuse a second pass that differs from the first one in more than the weights.

    Inputs that depend on no trained weight must be the same; they are compared on a CPU only, as
    reading another device would make the step wait.

    Raises:
        ValueError: it does.
    """
    missing = [layer.name for layer in expected if layer not in {x.layer for x in second.usable}]
    if missing:
        raise ValueError(f"the second pass of the closure must reach all layers, not so {missing}")
    for layer in expected:
        one = first.records[layer]
        other = second.records[layer]
        if one.fixed and layer.weight.device.type == "cpu" and not _same_inputs(one, other):
            raise ValueError(
                f"both passes of the closure must have the same inputs, but {layer.name!r} saw "
                f"others in the second: another mini-batch, or random numbers of a generator of "
                f"its own, were drawn; draw them before the step"
            )


def _same_inputs(one: Record, other: Record) -> bool:
    if len(one.batch_sums) != len(other.batch_sums):
        return False
    pairs = zip(one.batch_sums, other.batch_sums, strict=True)
    return all(torch.equal(a, b) or bool(a.isnan().any()) for (a, _), (b, _) in pairs)


class Replay:
    """Remembers the random state at the first pass, and lets one run a pass again from it.

    Remembered are torch's generators of the CPU and of the CUDA devices that hold the model, and
    the global generators of Python and, where it is loaded, NumPy.

    Args:
        model: the model.   parameters: those that an optimizer trains, in the model or not.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter] = ()) -> None:
        self.model = model
        self.parameters = parameters
        devices = (
            {p.device for p in model.parameters() if p.is_cuda}
            if torch.cuda.is_available()
            else set()
        )
        self.random: Tensor = torch.get_rng_state()
        self.python_random: tuple[Any, ...] = random.getstate()
        self.numpy: Any = sys.modules.get("numpy")
        self.numpy_random: Any = None if self.numpy is None else self.numpy.random.get_state()
        self.cuda_random: dict[torch.device, Tensor] = {
            device: torch.cuda.get_rng_state(device) for device in devices
        }

    def rewind(self) -> None:
        """Put the random state back."""
        torch.set_rng_state(self.random)
        random.setstate(self.python_random)
        if self.numpy is not None:
            self.numpy.random.set_state(self.numpy_random)
        for device, state in self.cuda_random.items():
            torch.cuda.set_rng_state(state, device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Run inside with the remembered random state and frozen weights; put buffers, gradients
        back after.

        Frozen weights cost no weight gradients; the pass begins to be differentiated at the first
        watched layer.
        """
        parameters = dict.fromkeys([*self.model.parameters(), *self.parameters])
        kept = [(p, p.requires_grad, p.grad) for p in parameters]
        buffers = _buffers(self.model)
        self.rewind()
        torch.clear_autocast_cache()  # it may hold casts of the old weights
        try:
            for p in parameters:
                p.requires_grad_(False)
                p.grad = None
            yield
        finally:
            for p, needs_grad, grad in kept:
                p.requires_grad_(needs_grad)
                p.grad = grad
            _put_back(buffers)


Kept = list[tuple[nn.Module, str, Tensor, Tensor]]


def _buffers(model: nn.Module) -> Kept:
    """Return every buffer with its owner, its name, and a copy."""
    return [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]


def _put_back(buffers: Kept) -> None:
    with torch.no_grad():
        for module, name, buffer, copy in buffers:
            buffer.copy_(copy)
            module._buffers[name] = buffer
