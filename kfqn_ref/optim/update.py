"""One layer's share of an iteration: start, direction, input pair, output pair; the formulas are kernels.

``state`` is what the optimizer keeps for the layer's weight: ``M`` ``(groups, d_g, d_a)``, the tensors of
``H_a`` and ``H_g``, ``s_g`` and ``y_g`` ``(groups, d_g)``, ``A`` where a moving average is kept, λ_A, λ_G,
``T``, and ``counts`` ``(5, groups)``. ``ok`` is a mask without axes: the iteration is sound.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kfqn_ref.optim.capture import Record
from kfqn_ref.optim.inverse import Inverse, inverse_of
from kfqn_ref.optim.kernels import average_, damped_inverse, dot
from kfqn_ref.optim.presets import INPUT_STARTS, Preset

State = dict[str, Any]

UPDATES_A, SKIPPED_A, UPDATES_G, DAMPED_G, SKIPPED_G = range(5)
"""Rows of ``counts``."""


@dataclass(frozen=True)
class Method:
    """What is common to all layers: the preset and the hyper-parameters that no parameter group changes.

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

    def __post_init__(self) -> None:
        rules = (
            (0 <= self.pair_decay < 1, "pair_decay must be in [0, 1)", self.pair_decay),
            (0 < self.mu1 < 1, "mu1 must be in (0, 1)", self.mu1),
            (0 < self.gamma < float("inf"), "gamma must be positive", self.gamma),
            (self.memory >= 1, "memory must be at least 1", self.memory),
            (self.curvature_interval >= 1, "curvature_interval must be at least 1", self.curvature_interval),
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
        )
        for holds, rule, got in rules:
            if not holds:
                raise ValueError(f"{rule}, got {got!r}")


def start_(state: State, record: Record, method: Method, damping: float, A: Tensor, ok: Tensor) -> None:
    """Set λ_A, λ_G, T and the first ``H_a`` and ``H_g``; with ``A = 0`` where not ``ok``."""
    groups, d_g, _ = record.layer.shape
    lambda_a, lambda_g = method.preset.split(damping, record.T)
    H_a = INPUT_STARTS[method.input_factor](A, lambda_a, method.memory, ok)
    H_g = method.preset.output_start(A.new_full((groups,), method.gamma), d_g, method.memory)
    state.update(H_a=H_a.tensors, H_g=H_g.tensors, lambda_a=lambda_a, lambda_g=lambda_g, T=record.T)
    state.update(s_g=A.new_zeros(groups, d_g), y_g=A.new_zeros(groups, d_g))
    state["counts"] = torch.zeros(5, groups, dtype=torch.int64, device=A.device)
    if method.preset.averages_A:
        state["A"] = torch.where(ok, A, 0.0)


def direction(state: State) -> Tensor:
    """Return ``P = H_g M H_a``, ``(groups, d_g, d_a)``; ``M`` itself before the layer has started."""
    if "H_a" not in state:
        return state["M"]
    return inverse_of(state["H_a"]).right(inverse_of(state["H_g"]).left(state["M"]))


def update_input_(state: State, record: Record, method: Method, ok: Tensor, *, keep_A: bool) -> None:
    """Update ``H_a`` by the Hessian action (5.1) on the inputs of the first pass, or make it exact."""
    H_a = inverse_of(state["H_a"])
    if method.preset.convergent and method.input_factor == "dense":
        exact = damped_inverse(record.input_factor(), state["lambda_a"], ok)
        state["H_a"]["H"].copy_(torch.where(ok, exact, state["H_a"]["H"]))
        return _count(state, UPDATES_A, ok)
    if "A" in state and not keep_A:
        average_(state["A"], record.input_factor(), method.pair_decay, ok)
    a_mean = record.a_mean()
    s = H_a.apply(a_mean)
    As = (state["A"] @ s[..., None])[..., 0] if "A" in state else record.action(s)
    y = As + state["lambda_a"] * s
    accepted = H_a.update_(s, y, ok & _curved(s, y, a_mean, method.preset))
    _count(state, UPDATES_A, accepted)
    _count(state, SKIPPED_A, ok & ~accepted)


def update_output_(
    state: State, first: Record, second: Record, method: Method, ok: Tensor, scale: float
) -> None:
    """Average the output pair (5.2)-(5.3), damp it, and update ``H_g``."""
    s, y = second.h_mean() - first.h_mean(), second.Dh_mean(scale) - first.Dh_mean(scale)
    finite = ok & torch.isfinite(torch.cat((s, y), -1)).all(-1)
    for mean, new in ((state["s_g"], s), (state["y_g"], y)):
        average_(mean, new, method.pair_decay, finite[:, None])
    H_g = inverse_of(state["H_g"])
    s, y = state["s_g"].clone(), state["y_g"].clone()
    curved = finite & (y != 0).any(-1)
    theta = method.preset.damp(H_g, s, y, method.mu1, state["lambda_g"])
    curved &= _curved(s, y, first.Dh_mean(scale), method.preset)
    accepted = H_g.update_(s, y, curved)
    _count(state, UPDATES_G, accepted)
    _count(state, DAMPED_G, accepted & (theta < 1))
    _count(state, SKIPPED_G, ok & ~accepted)


def _curved(s: Tensor, y: Tensor, g: Tensor, preset: Preset) -> Tensor:
    """Return where ``sᵀy > skip_below ‖s‖² ‖ḡ‖``."""
    return dot(s, y) > preset.skip_below * dot(s, s) * torch.linalg.vector_norm(g, dim=-1)


def _count(state: State, event: int, where: Tensor) -> None:
    state["counts"][event] += where


def estimates(state: State) -> tuple[Inverse, Inverse]:
    """Return ``H_a`` and ``H_g`` of a layer that has started."""
    return inverse_of(state["H_a"]), inverse_of(state["H_g"])
