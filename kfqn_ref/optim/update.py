"""What the layers do in an iteration: start, direction, input pair, output pair; the formulas are
kernels.

Start, direction and Hessian action are of one layer; the updates take several layers, their vectors
joined. ``state`` is what the optimizer keeps for the layer's weight: ``M`` ``(groups, d_g, d_a)``,
the tensors of ``H_a`` and ``H_g``, ``s_g`` and ``y_g`` ``(groups, d_g)``, ``A`` where a moving
average is kept, λ_A, λ_G, ``T``, and ``counts`` ``(5, groups)``. ``ok`` is a mask without axes: the
iteration is sound.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kfqn_ref.optim.capture import Record
from kfqn_ref.optim.inverses import Stack, Tensors, inverse_of, is_lean, numbers_of_inverse
from kfqn_ref.optim.joined import join, joinable, split
from kfqn_ref.optim.kernels import average_, damped_inverse, dot
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.presets import INPUT_STARTS, Preset, lbfgs_output

State = dict[str, Any]

UPDATES_A, SKIPPED_A, UPDATES_G, DAMPED_G, SKIPPED_G = range(5)
"""Rows of ``counts``."""


@dataclass(frozen=True)
class Method:
    """What is common to all layers: the preset and the hyper-parameters that no parameter group
    changes.

    Raises:
        ValueError: a value is outside its range.
    """

    preset: Preset
    pair_decay: float
    mu1: float
    memory: int
    curvature_interval: int
    loss_reduction: str
    input_factor: str
    gamma: float = 1.0
    lean_above: int = 0

    def __post_init__(self) -> None:
        named = " (AS.5 of the convergence theorem)" if self.preset.convergent else ""
        rules = (
            (0 <= self.pair_decay < 1, "pair_decay must be in [0, 1)", self.pair_decay),
            (0 < self.mu1 < 1, "mu1 must be in (0, 1)", self.mu1),
            (0 < self.gamma < float("inf"), f"gamma must be positive{named}", self.gamma),
            (self.memory >= 1, f"memory must be at least 1{named}", self.memory),
            (
                self.curvature_interval >= 1,
                "curvature_interval must be at least 1",
                self.curvature_interval,
            ),
            (
                self.loss_reduction in ("mean", "sum"),
                "loss_reduction must be 'mean' or 'sum'",
                self.loss_reduction,
            ),
            (
                self.input_factor in INPUT_STARTS,
                f"input_factor must be one of {[*INPUT_STARTS]}",
                self.input_factor,
            ),
            (self.lean_above >= 0, "lean_above must not be negative", self.lean_above),
            (
                self.input_factor == "lbfgs" or not self.lean_above,
                "lean_above must be 0 where input_factor is not 'lbfgs'",
                self.lean_above,
            ),
            (
                not (self.preset.convergent and self.lean_above),
                "lean_above must be 0 for the preset convergent",
                self.lean_above,
            ),
        )
        for holds, rule, got in rules:
            if not holds:
                raise ValueError(f"{rule}, got {got!r}")

    def form_of(self, layer: Layer) -> str:
        """Return ``input_factor`` for a layer of more than ``lean_above`` inputs, else
        ``"dense"``.
        """
        return self.input_factor if layer.shape[2] > self.lean_above else "dense"

    @property
    def renews_H_a(self) -> bool:
        """Whether ``H_a`` is the exact inverse of every mini-batch's ``A + λ_A I``."""
        return self.preset.convergent and self.input_factor == "dense"


def factor_bytes(layer: Layer, method: Method) -> int:
    """Return how many bytes ``H_a``, ``H_g`` and, where it is averaged, ``A`` of a layer take."""
    groups, d_g, d_a = layer.shape
    forms = (
        (d_a, method.form_of(layer) == "lbfgs"),
        (d_g, method.preset.output_start is lbfgs_output),
    )
    numbers = sum(numbers_of_inverse(d, method.memory if lean else None) for d, lean in forms)
    numbers += method.preset.averages_A * d_a**2
    return groups * numbers * layer.dtype.itemsize


def start_(
    state: State, record: Record, method: Method, damping: float, A: Tensor, ok: Tensor
) -> None:
    """Set λ_A, λ_G, T and the first ``H_a`` and ``H_g``; with ``A = 0`` where not ``ok``."""
    groups, d_g, _ = record.layer.shape
    lambda_a, lambda_g = method.preset.split(damping, record.T)
    H_a = INPUT_STARTS[method.form_of(record.layer)](A, lambda_a, method.memory, ok)
    H_g = method.preset.output_start(A.new_full((groups,), method.gamma), d_g, method.memory)
    state.update(H_a=H_a.tensors, H_g=H_g.tensors, lambda_a=lambda_a, lambda_g=lambda_g, T=record.T)
    state.update(s_g=A.new_zeros(groups, d_g), y_g=A.new_zeros(groups, d_g))
    state["counts"] = torch.zeros(5, groups, dtype=torch.int64, device=A.device)
    if method.preset.averages_A:
        state["A"] = torch.where(ok & torch.isfinite(A).all(), A, 0.0)


@dataclass
class Pairs:
    """What one layer gathers for its two curvature pairs in the course of an iteration,
    ``(groups, d)`` each.

    Args:
        record: what the first pass left.
        a_mean: ``ā̄`` of the first pass.   h_mean: mean of ``h`` at the old weights.
        s_a: ``H_a ā̄``.   As: ``A s_a``, or the matrix ``A`` where ``H_a`` is to be exact.
        s, y: changes of the means of ``h`` and ``Dh`` (5.2).   g: mean of ``Dh`` of the first pass.
        theta, damped: weight that damping gave to ``s``, and the damped pair.
        compared: whether the second pass has reached the layer, so that there are ``s``, ``y`` and
            ``g``.
        renewed: whether ``H_a`` is made exact, so that there is no input pair.
    """

    record: Record
    a_mean: Tensor
    h_mean: Tensor
    s_a: Tensor = field(init=False)
    As: Tensor = field(init=False)
    s: Tensor = field(init=False)
    y: Tensor = field(init=False)
    g: Tensor = field(init=False)
    theta: Tensor = field(init=False)
    damped: tuple[Tensor, Tensor] = field(init=False)
    compared: bool = False
    renewed: bool = False

    def to_reduce(self, preset: Preset) -> list[Tensor]:
        """Return what must be averaged over the ranks before the updates."""
        output = [self.s, self.y] if self.compared else []
        return [self.As, *output, *([self.g] if output and preset.skip_below else [])]


def direction(state: State, X: Tensor, pairs: Pairs | None) -> Tensor:
    """Return ``H_g X H_a``, ``(groups, d_g, d_a)``; ``X`` itself before the layer has started.

    ``H_a`` is read once: ``s_a`` of the pairs comes out of the same product.
    """
    if "H_a" not in state:
        return X
    H_a, rows = inverse_of(state["H_a"]), inverse_of(state["H_g"]).left(X)
    if pairs is None:
        return H_a.right(rows)
    product = H_a.right(torch.cat((rows, pairs.a_mean[:, None]), 1))  # (groups, d_g + 1, d_a)
    pairs.s_a = product[:, -1]
    return product[:, :-1]


def act(state: State, pairs: Pairs, method: Method, ok: Tensor, *, keep_A: bool) -> None:
    """Do the Hessian action on the inputs of the first pass (5.1), and let go of them."""
    record = pairs.record
    if method.renews_H_a:
        pairs.As, pairs.renewed = record.input_factor(), True
    elif "A" in state:
        if not keep_A:
            A = record.input_factor()  # it may overflow though the gradient is finite
            average_(state["A"], A, method.pair_decay, ok & torch.isfinite(A).all())
        pairs.As = (state["A"] @ pairs.s_a[..., None])[..., 0]
    else:
        pairs.As = record.action(pairs.s_a)
    record.a.clear()


def compare(pairs: Sequence[Pairs], seconds: Sequence[Record], scale: float) -> None:
    """Set the output pairs (5.2) of several layers from the two passes."""
    firsts = [pair.record.Dh_mean(scale) for pair in pairs]
    h_means = [second.layer.output_mean(second.a_mean()) for second in seconds]
    for some in joinable(h_means, [pair.a_mean.dtype for pair in pairs]):
        chosen, dtype = [pairs[i] for i in some], pairs[some[0]].a_mean.dtype
        g = join([firsts[i] for i in some])
        s = join([h_means[i] for i in some]) - join([pair.h_mean for pair in chosen])
        y = join([seconds[i].Dh_mean(scale) for i in some]) - g
        parts = (split(x.to(dtype), [pair.h_mean for pair in chosen]) for x in (s, y, g))
        for pair, *compared in zip(chosen, *parts, strict=True):
            pair.s, pair.y, pair.g = compared
            pair.compared = True


def update_(states: Sequence[State], pairs: Sequence[Pairs], method: Method, ok: Tensor) -> None:
    """Update both factors of several layers: one function, for ``torch.compile`` to fuse its
    kernels.
    """
    inputs, outputs = range(len(states)), [i for i, pair in enumerate(pairs) if pair.compared]
    for some in _together(inputs, [pair.a_mean for pair in pairs], [x["H_a"] for x in states]):
        update_input_([states[i] for i in some], [pairs[i] for i in some], method, ok)
    for some in _together(outputs, [x["s_g"] for x in states], [x["H_g"] for x in states]):
        update_output_([states[i] for i in some], [pairs[i] for i in some], method, ok)


def _together(
    among: Sequence[int], like: Sequence[Tensor], Hs: Sequence[Tensors]
) -> list[list[int]]:
    """Return which layers ``among`` all are updated by the same kernels."""
    joined = joinable([like[i] for i in among], [is_lean(Hs[i]) for i in among])
    return [[among[j] for j in some] for some in joined]


def update_input_(
    states: Sequence[State], pairs: Sequence[Pairs], method: Method, ok: Tensor
) -> None:
    """Update every ``H_a`` from its pair (5.1), or make it exact."""
    if method.renews_H_a:
        return _renew_(states, pairs, ok)
    H_a = Stack([state["H_a"] for state in states], [pair.a_mean for pair in pairs])
    s = join([pair.s_a for pair in pairs])
    y = torch.addcmul(join([pair.As for pair in pairs]), s, _column(states, "lambda_a", H_a.like))
    g = join(H_a.like) if method.preset.skip_below else s
    accepted = H_a.update_(s, y, _curved(s, y, g, method.preset, ok.expand(len(s))))
    _count(states, UPDATES_A, accepted, ok & ~accepted)


def _renew_(states: Sequence[State], pairs: Sequence[Pairs], ok: Tensor) -> None:
    for state, pair in zip(states, pairs, strict=True):
        H = state["H_a"]["H"]
        H.copy_(torch.where(ok, damped_inverse(pair.As, state["lambda_a"], ok), H))
        _count([state], UPDATES_A, ok.expand(len(H)))


def update_output_(
    states: Sequence[State], pairs: Sequence[Pairs], method: Method, ok: Tensor
) -> None:
    """Average every output pair (5.3), damp it, and update ``H_g``."""
    H_g = Stack([state["H_g"] for state in states], [state["s_g"] for state in states])
    new = [join([pair.s for pair in pairs]), join([pair.y for pair in pairs])]
    finite = ok & (torch.cat(new, -1).abs().amax(-1) < torch.inf)
    means = [join([state[name] for state in states]) for name in ("s_g", "y_g")]
    for name, mean, latest in zip(("s_g", "y_g"), means, new, strict=True):
        average_(mean, latest, method.pair_decay, finite[:, None])
        for state, part in zip(states, split(mean, H_g.like), strict=True):
            state[name] = part
    s, y = (mean.clone() for mean in means)
    curved = finite & (y != 0).any(-1)
    theta = method.preset.damp(H_g, s, y, method.mu1, _column(states, "lambda_g", H_g.like))
    g = join([pair.g for pair in pairs]) if method.preset.skip_below else s
    accepted = H_g.update_(s, y, _curved(s, y, g, method.preset, curved))
    for pair, *damped in zip(pairs, *(split(x, H_g.like) for x in (theta, s, y)), strict=True):
        pair.theta, pair.damped = damped[0], (damped[1], damped[2])
    _count(states, UPDATES_G, accepted, accepted & (theta < 1), ok & ~accepted)


def _column(states: Sequence[State], name: str, like: Sequence[Tensor]) -> Tensor:
    """Return a number of each layer, one a row of the joined vectors, ``(groups, 1)``."""
    return torch.cat(
        [v.new_full((len(v), 1), state[name]) for state, v in zip(states, like, strict=True)]
    )


def _curved(s: Tensor, y: Tensor, g: Tensor, preset: Preset, among: Tensor) -> Tensor:
    """Return where, ``among`` the groups, ``sᵀy > skip_below ‖s‖² ‖ḡ‖``; the update itself asks for
    > 0.
    """
    if not preset.skip_below:
        return among
    return among & (dot(s, y) > preset.skip_below * dot(s, s) * torch.linalg.vector_norm(g, dim=-1))


def _count(states: Sequence[State], first: int, *events: Tensor) -> None:
    """Add events to rows of ``counts`` that follow each other, the groups where each happened."""
    counts = torch.cat([state["counts"] for state in states], 1)
    counts[first : first + len(events)] += torch.stack(events)
    for state, part in zip(
        states, counts.split([state["counts"].shape[1] for state in states], 1), strict=True
    ):
        state["counts"] = part
