"""One iteration: the order in which passes, means, step and updates follow each other. No
formula.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.capture import Capture, Record
from kfqn_ref.optim.coverage import plain_arithmetic, warn_of_unseen
from kfqn_ref.optim.kernels import all_finite
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.move import Move
from kfqn_ref.optim.ownership import move_owned_
from kfqn_ref.optim.replay import Replay
from kfqn_ref.optim.update import Pairs, act, compare, start_

if TYPE_CHECKING:
    from kfqn_ref.optim.optimizer import KFQN

Closure = Callable[[], Any]


class Iteration:
    """Iteration ``k`` of an optimizer on the mini-batch of ``closure``; its methods come in this
    order.

    Attributes:
        updates: whether the curvature is updated.
        ok: mask without axes: loss and gradients are finite.
        pairs: what the curvature pairs are made of.
    """

    ok: Tensor
    pairs: dict[Layer, Pairs]

    def __init__(self, opt: "KFQN", closure: Closure, k: int) -> None:
        self.opt, self.closure, self.k = opt, closure, k
        self.method, self.layers, self.reducer = opt.method, opt.layers, opt.reducer
        self.ownership = opt.ownership
        eager = k < self.method.preset.eager_steps
        self.updates = eager or k % self.method.curvature_interval == 0
        self.replay = Replay(opt.model)

    def first_pass(self) -> Any:
        """Call the closure, and return its loss; agree with the other ranks, and start new layers.

        Raises:
            ValueError: the closure did not call ``backward`` or did not return the loss.
        """
        layers = [layer for layer in self.layers if layer.weight.requires_grad]
        self.first = Capture(layers, keep_input=self.updates)
        watched = self.updates or self.method.loss_reduction == "sum"
        with torch.enable_grad(), self.first.watching(watched):
            loss = self.closure()
        if not isinstance(loss, Tensor | float):
            raise ValueError(f"the closure must return the loss, got {type(loss).__name__}")
        if not self._moving() or (watched and not self.first.usable):
            raise ValueError("the closure must call backward, but no gradient was left by it")
        self.scale = 1 / max(self.first.N, 1) if self.method.loss_reduction == "sum" else 1.0
        with plain_arithmetic(self.layers):
            self._begin_pairs(loss)
        return loss

    def move_(self) -> None:
        """Average the gradients, move all parameters that have one, and let the inputs act and
        go.
        """
        with plain_arithmetic(self.layers):
            owned: list[tuple[Move, Layer]] = []
            for group in self.opt.param_groups:
                move = Move(group, self._alpha(group), self.scale, self.ok, self.method.preset)
                for p in group["params"]:
                    self._move_one_(move, p, owned)
            if self.ownership.active:
                move_owned_(self.ownership, owned, self.opt.state, self.pairs)
            for layer, pair in self.pairs.items():
                state = self.opt.state.get(layer.weight, {})  # nothing, where another rank keeps it
                act(state, pair, self.method, self.ok, keep_A=self.k == 0)

    def second_pass(self) -> None:
        """Call the closure at the new weights, and update every ``H_a`` and ``H_g``."""
        second = Capture([*self.pairs], keep_input=False)
        with torch.enable_grad(), self.reducer.quiet(), self.replay.again(), second.watching():
            self.closure()
        with plain_arithmetic(self.layers):
            compare([self.pairs[x.layer] for x in second.usable], second.usable, self.scale)
            pairs, preset = self.pairs.values(), self.method.preset
            self.reducer.mean_([x for pair in pairs for x in pair.to_reduce(preset)])
            kept = [layer for layer in self.pairs if self.ownership.keeps(layer)]
            states, pairs = [self.opt.state[x.weight] for x in kept], [self.pairs[x] for x in kept]
            self.opt.update_(states, pairs, self.method, self.ok)

    def _begin_pairs(self, loss: Tensor | float) -> None:
        """Set the mask and what the pairs begin with; start the layers that are new."""
        records = self.first.usable if self.updates else []
        means = [record.a_mean() for record in records]
        loss = self._own_copy(loss)
        self.reducer.mean_([loss, *means])
        self.ok = all_finite([loss, *(grad for _, grad in self._moving())])
        past = not self.method.preset.convergent  # there no batch has a say in its own step: A = 0
        for record in records:
            if record.layer not in self.opt.started:
                A = record.first_factor(self.method.form_of(record.layer))
                start(self.opt, record, A, self.ok & past)
        if self.k == 0:
            self._note_unseen()
        pairs = zip(records, means, strict=True)
        self.pairs = {r.layer: Pairs(r, a_mean, r.layer.output_mean(a_mean)) for r, a_mean in pairs}

    def _note_unseen(self) -> None:
        """Warn once of layers that got a gradient, but whose outputs no pass has shown."""
        for layer in self.layers:
            if layer.weight.grad is not None and layer not in self.opt.started:
                self.opt.unseen.append(layer)
        warn_of_unseen(self.opt.unseen, self.opt.other_step)

    def _own_copy(self, loss: Tensor | float) -> Tensor:
        if isinstance(loss, Tensor):
            return loss.detach().clone()
        layer = self.layers[0]
        return torch.tensor(loss, dtype=layer.dtype, device=layer.weight.device)

    def _move_one_(self, move: Move, p: nn.Parameter, owned: list[tuple[Move, Layer]]) -> None:
        """Move one parameter, or note its layer in ``owned``; the bias of a layer goes with its
        weight.
        """
        layer = self.opt.layer_of.get(p)
        if p.grad is None:
            return
        if layer is None or layer.weight.grad is None or layer not in self.opt.started:
            move.other_(p, self.opt.state[p])
        elif p is layer.weight and self.ownership.active:
            owned.append((move, layer))
        elif p is layer.weight:
            move.layer_(layer, self.opt.state[p], self.pairs.get(layer))

    def _alpha(self, group: dict[str, Any]) -> float:
        return group["lr"] * (self.k + 1) ** -group["step_decay"]

    def _moving(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return the parameters that have a gradient, with it."""
        parameters = (p for group in self.opt.param_groups for p in group["params"])
        return [(p, p.grad) for p in parameters if p.grad is not None]


def start(opt: "KFQN", record: Record, A: Tensor, ok: Tensor) -> None:
    """Let a layer begin, where it is kept, from the mean of the ranks' ``A``; damping is its
    group's.
    """
    layer, weight = record.layer, record.layer.weight
    opt.started.add(layer)
    for p in layer.parameters:
        opt.state.get(p, {}).pop("adamw", None)  # from the iterations before
    opt.reducer.mean_([A], to=opt.ownership.owner.get(layer))
    if opt.ownership.keeps(layer):
        damping = opt.param_groups[opt.group_of[weight]]["damping"]
        start_(opt.state[weight], record, opt.method, damping, A, ok)
