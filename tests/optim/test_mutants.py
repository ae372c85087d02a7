"""Every known mistake, made on the torch side, is seen: by the trajectories, or by a named test."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from kfqn_ref.optim import (
    geometry,
    inverses,
    iteration,
    kernels,
    move,
    passes,
    presets,
    records,
    update,
)
from kfqn_ref.optim.layer import Layer

from ..trajectories import side_by_side
from . import test_step

STEPS = 4
OPTIONS: dict[str, Any] = {"lr": 0.1, "damping": 0.1, "curvature_interval": 1}


def wrong_sign(s: Tensor, y: Tensor, Hy: Tensor, *, mu1: float) -> Tensor:
    theta = kernels.powell_damp_(s.clone(), y, Hy, mu1=mu1)
    s.mul_(theta[:, None]).sub_(Hy * (1 - theta)[:, None])
    return theta


def swapped_threshold(s: Tensor, y: Tensor, Hy: Tensor, *, mu1: float) -> Tensor:
    sy, yHy = kernels.dot(s, y), kernels.dot(y, Hy)
    theta = torch.where(sy >= mu1 * yHy, 1.0, mu1 * yHy / (yHy - sy))
    s.mul_(theta[:, None]).add_(Hy * (1 - theta)[:, None])
    return theta


def rebinding(Hs: list[Tensor], s: Tensor, y: Tensor, Hy: Tensor, accept: Tensor) -> Tensor:
    Hs = [H.clone() for H in Hs]
    return kernels.bfgs_inverse_update_(Hs, s, y, Hy, accept)


def skipping(Hs: list[Tensor], s: Tensor, y: Tensor, Hy: Tensor, accept: Tensor) -> Tensor:
    return accept & False


def skipping_good_pairs(
    Hs: list[Tensor], s: Tensor, y: Tensor, Hy: Tensor, accept: Tensor
) -> Tensor:
    return kernels.bfgs_inverse_update_(Hs, s, y, Hy, accept & (kernels.dot(s, y) <= 0))


def transposed(s: Tensor, y: Tensor, Hy: Tensor) -> tuple[Tensor, Tensor]:
    return KEPT["bfgs_rank_two"](y, s, Hy)


def dropping_the_newest(
    S: Tensor, Y: Tensor, R: Tensor, s: Tensor, y: Tensor, accept: Tensor
) -> Tensor:
    full = S[:, 0].abs().sum(-1) > 0
    return kernels.lbfgs_push_(S, Y, R, s, y, accept & ~full)


def reversed_loops(S: Tensor, Y: Tensor, R: Tensor, q: Tensor, *, gamma: Tensor | float) -> Tensor:
    used = (S.abs().sum((0, 2)) > 0).nonzero()[:, 0]
    order = torch.cat((torch.arange(len(S[0]) - len(used)), used.flip(0)))
    S, Y = S[:, order], Y[:, order]
    return kernels.lbfgs_apply(S, Y, (S @ Y.mT).triu(), q, gamma=gamma)


def swapped_weights(mean: Tensor, new: Tensor, decay: float, accept: Tensor) -> None:
    KEPT["average_"](mean, new, 1 - decay, accept)


def s_from_gradients(pairs: Any, seconds: Any, scale: float) -> list:
    return [pair._replace(s=pair.y) for pair in KEPT["compare"](pairs, seconds, scale)]


def decay_in_y(pairs: Any, seconds: Any, scale: float) -> list:
    found = KEPT["compare"](pairs, seconds, scale)
    return [pair._replace(y=pair.y + 1e-3 * pair.s) for pair in found]


def mean_in_place_of_one(self: Any, batch_sum: Tensor, rows: int) -> Tensor:
    total = KEPT["conv_input_sum"](self, batch_sum, rows)
    if self.bias:
        total[:, -1] = total[:, :-1].mean(-1)
    return total


def gradient_not_divided_by_T(self: Any, Dh: Tensor, keep: Tensor | None) -> None:
    self.open = False
    self.Dh_sums.append(self.geometry.output_sum(Dh))


def A_divided_by_T(self: Any, v: Tensor) -> Tensor:
    return KEPT["action"](self, v) / self.T


def gradient_not_times_N(self: Any, scale: float) -> Tensor:
    return KEPT["Dh_mean"](self, scale) / self.N


def bias_first(self: Layer, matrix: Tensor) -> list[Tensor]:
    if not self.geometry.bias:
        return KEPT["parts"](self, matrix)
    return [matrix[..., 1:].view(self.weight.shape), matrix[..., 0].view(-1)]


def without_H_g(state: dict[str, Any], X: Tensor, pairs: Any) -> tuple:
    H = state["H_g"]["H"]
    state["H_g"]["H"] = torch.eye(H.shape[-1], dtype=H.dtype).expand_as(H)
    P = KEPT["direction"](state, X, pairs)
    state["H_g"]["H"] = H
    return P


def H_a_squared(state: dict[str, Any], X: Tensor, pairs: Any) -> tuple:
    P, s_a = KEPT["direction"](state, X, pairs)
    return inverses.inverse_of(state["H_a"]).right(P), s_a


def no_squares(M: Tensor, V: Tensor, t: Tensor, U: Tensor, **decays: Any) -> Tensor:
    return KEPT["scaled_"](M, torch.zeros_like(V), t, U, **decays)


def whole_lambda(lam: float, T: int) -> tuple[float, float]:
    return lam, lam


def old_weights(W: Tensor, P: Tensor, alpha: Tensor) -> None:
    """The step after the second pass: the pass sees the weights of the first."""
    DELAYED.append(partial(KEPT["descend_"], W, P.clone(), alpha))


def second_pass_then_step(pairs: Any, second: Any, scale: float) -> list:
    found = KEPT["compare"](pairs, second, scale)
    while DELAYED:
        DELAYED.pop()()
    return found


DELAYED: list[Callable[[], None]] = []
KEPT: dict[str, Any] = {
    "bfgs_rank_two": kernels.bfgs_rank_two,
    "average_": kernels.average_,
    "compare": update.compare,
    "conv_input_sum": geometry.ConvGeometry.input_sum,
    "action": records.Record.action,
    "Dh_mean": records.Record.Dh_mean,
    "parts": Layer.parts,
    "direction": update.direction,
    "descend_": kernels.descend_,
    "scaled_": kernels.scaled_,
}

Patch = tuple[Any, str, Any]
MUTANTS: dict[str, tuple[str, list[Patch]]] = {
    "sign of Powell's damping": ("kfqn_cnn", [(presets, "powell_damp_", wrong_sign)]),
    "mu1 and 1 - mu1 swapped": ("kfqn_cnn", [(presets, "powell_damp_", swapped_threshold)]),
    "update that rebinds H": ("kfqn_cnn", [(inverses, "bfgs_inverse_update_", rebinding)]),
    "silent skip": ("kfqn_cnn", [(inverses, "bfgs_inverse_update_", skipping)]),
    "skip when sᵀy > 0": ("kfqn_cnn", [(inverses, "bfgs_inverse_update_", skipping_good_pairs)]),
    "s and y changed about in the update": ("kfqn_cnn", [(kernels, "bfgs_rank_two", transposed)]),
    "L-BFGS drops the newest": ("kfqn_cnn_l", [(inverses, "lbfgs_push_", dropping_the_newest)]),
    "two loops in the other order": ("kfqn_cnn_l", [(inverses, "lbfgs_apply", reversed_loops)]),
    "weights of the moving pair swapped": ("kfqn_cnn", [(update, "average_", swapped_weights)]),
    "weights of the moving gradient swapped": (
        "kfqn_cnn",
        [(kernels, "average_", swapped_weights)],
    ),
    "s from gradients": ("kfqn_cnn", [(iteration, "compare", s_from_gradients)]),
    "weight decay inside y": ("kfqn_cnn", [(iteration, "compare", decay_in_y)]),
    "mean in place of the bias entry": (
        "kfqn_cnn",
        [(geometry.ConvGeometry, "input_sum", mean_in_place_of_one)],
    ),
    "1/T missing in y": ("kfqn_cnn", [(records.Record, "see_gradient", gradient_not_divided_by_T)]),
    "1/T in A": ("kfqn_cnn", [(records.Record, "action", A_divided_by_T)]),
    "Dh not times N": ("kfqn_cnn", [(records.Record, "Dh_mean", gradient_not_times_N)]),
    "bias column first": ("kfqn_cnn", [(Layer, "parts", bias_first)]),
    "H_g left out": ("kfqn_cnn", [(move, "direction", without_H_g)]),
    "H_a twice": ("kfqn_cnn", [(move, "direction", H_a_squared)]),
    "λ in place of √λ": ("kfqn_cnn", [(presets, "sqrt_split", whole_lambda)]),
    "squares of directions not averaged": ("kfqn_adam", [(move, "scaled_", no_squares)]),
    "weights of the moving directions swapped": (
        "kfqn_adam",
        [(kernels, "average_", swapped_weights)],
    ),
    "second pass at the old weights": (
        "kfqn_cnn",
        [(move, "descend_", old_weights), (iteration, "compare", second_pass_then_step)],
    ),
}


def rejected(preset: str) -> bool:
    """Whether the trajectory leaves the reference's, or the run breaks."""
    try:
        return any(
            not max(moment.deviation) < 1e-9
            for moment in side_by_side(preset, STEPS, memory=3, **OPTIONS)
        )
    except (RuntimeError, ValueError):
        return True


@pytest.mark.parametrize("name", MUTANTS)
def test_a_known_mistake_leaves_the_trajectory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    preset, patches = MUTANTS[name]
    for target, attribute, mutant in patches:
        monkeypatch.setattr(target, attribute, mutant)
    if name == "λ in place of √λ":  # the preset keeps the function as a value
        original = presets.PRESETS[preset]
        changed = type(original)(**{**vars(original), "split": whole_lambda})
        monkeypatch.setitem(presets.PRESETS, preset, changed)
    assert rejected(preset)


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_cnn_l"])
def test_without_a_mistake_the_same_steps_agree(preset: str) -> None:
    assert not rejected(preset)


@pytest.mark.parametrize(
    ("attribute", "mutant", "test"),
    [
        ("rewind", lambda self: None, test_step.test_the_second_pass_draws_the_same_dropout_masks),
        (
            "_put_back",
            lambda buffers: None,
            test_step.test_batchnorm_statistics_are_updated_once_a_step,
        ),
    ],
)
def test_a_second_pass_that_leaves_a_trace_is_seen(
    attribute: str, mutant: Callable, test: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes if attribute.startswith("_") else passes.Replay, attribute, mutant)
    with pytest.raises(AssertionError):
        test()
