"""The two passes of an iteration: what they leave for the curvature, and how the second one repeats
the first.

What a pass leaves is inputs, and sums of outputs and of their gradients. Forward hooks stand only
while a pass is watched. The outputs ``h`` and their gradients are summed where they appear and
never kept; the inputs ``a`` are kept until the Hessian action has used them. Every call of a layer
between two backward passes is a micro-batch; two calls before one backward are two uses of the same
weights, and refused. The second pass runs the same closure at the new weights, on the same random
numbers, and leaves no trace.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.geometry import total
from kfqn_ref.optim.layer import Layer


class Record:
    """What one layer leaves over the micro-batches of one pass; vectors are ``(groups, d)``."""

    def __init__(self, layer: Layer) -> None:
        self.layer, self.geometry, self.dtype = layer, layer.geometry, layer.dtype
        self.a: list[Tensor] = []
        self.batch_sums: list[tuple[Tensor, int]] = []  # sum of the inputs, rows in it
        self.Dh_sums: list[Tensor] = []  # each divided by the locations T of its call
        self.N, self.rows, self.T = 0, 0, 0
        self.waits = False  # a call was made whose gradient has not come yet

    def see(self, a: Tensor, h: Tensor, *, keep_input: bool) -> None:
        """Take note of one call."""
        a, (N, T) = a.detach(), self.geometry.counts(h)
        self.N, self.rows, self.T, self.waits = self.N + N, self.rows + N * T, self.T or T, True
        self.batch_sums.append((self.geometry.batch_sum(a, self.dtype), N * T))
        if keep_input:
            self.a.append(a)

    def see_gradient(self, Dh: Tensor) -> None:
        """Take note of the gradient with respect to the output of the latest call."""
        _, T = self.geometry.counts(Dh)
        self.waits = False
        Dh_sum = self.geometry.output_sum(Dh.detach())
        self.Dh_sums.append(Dh_sum / T if T > 1 else Dh_sum)

    def Dh_mean(self, scale: float) -> Tensor:
        """Return the mean of ``Dh`` in wide arithmetic; ``scale`` is 1 for a mean loss, 1/N for a
        sum.
        """
        return total(self.Dh_sums) if scale == 1 else total(self.Dh_sums) * scale

    def a_mean(self) -> Tensor:
        """Return ``ā̄``, ``(groups, d_a)``."""
        return total([self.geometry.input_sum(*each) for each in self.batch_sums]) / max(
            self.rows, 1
        )

    def factor(self) -> Tensor:
        """Return ``A`` of the mini-batch (4.5), ``(groups, d_a, d_a)``."""
        return total([self.geometry.factor_sum(a, self.dtype) for a in self.a]) / max(self.N, 1)

    def diagonal(self) -> Tensor:
        """Return the diagonal of ``A``, ``(groups, d_a)``, from one pass over the squared input."""
        sums = [self.geometry.batch_sum(a.to(self.dtype).square(), self.dtype) for a in self.a]
        calls = zip(sums, self.batch_sums, strict=True)
        return total([self.geometry.input_sum(each, rows) for each, (_, rows) in calls]) / max(
            self.N, 1
        )

    def first_factor(self, form: str) -> Tensor:
        """Return what ``H_a`` starts from: ``A``, or only its diagonal for the lean form."""
        return self.diagonal() if form == "lbfgs" else self.factor()

    def action(self, v: Tensor) -> Tensor:
        """Return ``A v`` without forming ``A``, ``(groups, d_a)``."""
        if not self.rows:  # an empty batch has no A
            return torch.zeros_like(v)
        return total([self.geometry.action(a, v) for a in self.a]) / max(self.N, 1)


class _Root(torch.autograd.Function):
    """The identity whose output needs a gradient: where a pass over frozen weights begins to be
    followed.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(h)  # the very same tensor, so that an in-place activation may follow
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None]:
        return None, None


class Capture:
    """The records of one pass, in the order in which the layers were first called."""

    def __init__(self, layers: Sequence[Layer], *, keep_input: bool) -> None:
        self.layers, self.keep_input = layers, keep_input
        self.records: dict[Layer, Record] = {}

    @property
    def usable(self) -> list[Record]:
        """The records of the layers that a gradient reached."""
        return [record for record in self.records.values() if record.Dh_sums]

    @property
    def N(self) -> int:
        """The number of samples of the pass, as its first layer saw them."""
        return next((record.N for record in self.records.values()), 0)

    @contextmanager
    def watching(self, watched: bool = True) -> Iterator[None]:
        """Record the forward and backward passes made inside, if ``watched``."""
        handles = [
            layer.module.register_forward_hook(partial(self._called, layer), with_kwargs=True)
            for layer in self.layers
            if watched
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _called(
        self, layer: Layer, module: Any, args: tuple, kwargs: dict, h: Tensor
    ) -> Tensor | None:
        """Record a call, unless it is without gradients or recomputes a part of the backward
        pass.
        """
        if not torch.is_grad_enabled():
            return None
        rooted = h if h.requires_grad else _Root.apply(h, h.new_zeros((), requires_grad=True))
        if torch._C._current_graph_task_id() == -1:  # not inside a backward pass
            record = self.records.setdefault(layer, Record(layer))
            if record.waits:
                raise ValueError(
                    f"a layer must be used once a forward pass, but {layer.name!r} was called "
                    f"twice before a backward pass; exclude=[{layer.name!r}] gives it AdamW's step"
                )
            record.see(args[0] if args else kwargs["input"], rooted, keep_input=self.keep_input)
            rooted.register_hook(record.see_gradient)
        return rooted


class Replay:
    """Remembers the random state at the first pass, and lets one run a pass again from it.

    The generators of the CPU and of the CUDA devices that hold the model are those that are
    remembered.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        devices = (
            {p.device for p in model.parameters() if p.is_cuda}
            if torch.cuda.is_available()
            else set()
        )
        self.random = torch.get_rng_state()
        self.cuda_random = {device: torch.cuda.get_rng_state(device) for device in devices}

    def rewind(self) -> None:
        """Put the random state back."""
        torch.set_rng_state(self.random)
        for device, state in self.cuda_random.items():
            torch.cuda.set_rng_state(state, device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Run inside with the remembered random state and frozen weights; put buffers, gradients
        back after.

        Frozen weights cost no weight gradients; the pass begins to be differentiated at the first
        watched layer.
        """
        parameters = list(self.model.parameters())
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
