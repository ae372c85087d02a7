"""Mistakes in an optimizer's iteration: the reference, run with one of its functions replaced."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

import kfqn_ref as ref
from kfqn_ref import InverseEstimate, Pair
from kfqn_ref.bfgs import DenseInverse
from kfqn_ref.lbfgs import LBFGSInverse
from kfqn_ref.method import guards, options, step
from kfqn_ref.method.state import State, Step
from kfqn_ref.method.step import KFQN
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.mutants import factors
from kfqn_ref.testing.mutants.lbfgs import drops_newest
from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray


def _patched(name: str, mistake: str, where: Any, attribute: str, replacement: Any) -> None:
    def optimizer_steps(*args: Any, **options: Any) -> Any:
        with patch.object(where, attribute, replacement):
            return reference.optimizer_steps(*args, **options)

    optimizer_steps.__name__ = name
    mutant("optimizer_steps", mistake)(optimizer_steps)


def _with_options(
    name: str, mistake: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    def optimizer_steps(*args: Any, **options: Any) -> Any:
        return reference.optimizer_steps(*args, **(options | change(options)))

    optimizer_steps.__name__ = name
    mutant("optimizer_steps", mistake)(optimizer_steps)


# the methods as they are
_direction = KFQN.direction
_step = KFQN.step
_start = KFQN._start
_update_input = KFQN.update_input
_update_output = KFQN.update_output
_updated = guards.updated


def _swapped_momentum(self: KFQN, params: Any, state: State, grads: Any) -> Any:
    beta = 1 - self.momentum if self.momentum else 0.0
    return _direction(replace(self, momentum=beta), params, state, grads)


def _without_decay(self: KFQN, params: Any, state: State, grads: Any) -> Any:
    return _direction(replace(self, weight_decay=0.0), params, state, grads)


def _one_sided(self: KFQN, params: Any, state: State, grads: Any) -> Any:
    _, moved = _direction(self, params, state, grads)
    return tuple(block.H_g @ block.M for block in moved.blocks), moved


def _dense(H: InverseEstimate | None) -> Array:
    assert H is not None, "the first step set it"
    return H.dense()


def _inverted(self: KFQN, params: Any, state: State, grads: Any) -> Any:
    _, moved = _direction(self, params, state, grads)
    return tuple(np.linalg.inv(b.H_g.dense()) @ b.M @ _dense(b.H_a) for b in moved.blocks), moved


def _swapped_sides(self: KFQN, params: Any, state: State, grads: Any) -> Any:
    _, moved = _direction(self, params, state, grads)
    P = []
    for block in moved.blocks:
        left = block.H_g.dense()
        right = _dense(block.H_a)
        if block.M.shape[0] == block.M.shape[1]:
            left, right = right, left
        P.append(left @ block.M @ right)
    return tuple(P), moved


def _decay_in_pair(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    """Weight decay enters y: τ (h⁺ − h) is what an L2 term in the loss would add."""
    real = step.output_pair

    def pair(first: Any, second: Any) -> Pair:
        s, y = real(first, second)
        return Pair(s, y + self.weight_decay * s)

    with patch.object(step, "output_pair", pair):
        return _step(self, network, params, state, x, target)


def _other_batch(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    real = step.forward_backward
    calls = []

    def passes(network: Any, params: Any, x: Array, target: Array) -> Any:
        calls.append(1)
        seen = x[::-1] * 0.5 if len(calls) == 2 else x
        return real(network, params, seen, target)

    with patch.object(step, "forward_backward", passes):
        return _step(self, network, params, state, x, target)


def _second_at_old(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    """The second pass halfway, before the step is complete."""
    real = step.forward_backward
    calls = []

    def passes(network: Any, new: Any, x: Array, target: Array) -> Any:
        calls.append(1)
        if len(calls) == 2:
            new = tuple((a + b) / 2 for a, b in zip(params, new, strict=True))
        return real(network, new, x, target)

    with patch.object(step, "forward_backward", passes):
        return _step(self, network, params, state, x, target)


def _no_nan_guard(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    with (
        patch.object(guards, "finite", lambda *arrays: True),
        patch.object(guards.np, "isfinite", np.ones_like),
    ):
        return _step(self, network, params, state, x, target)


def _input_second(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    """The input pair from the second pass's inputs."""

    def later(self: KFQN, block: Any, first: Any, second: Any) -> Any:
        return _update_output(self, _update_input(self, block, second.a_bar), first, second)

    with (
        patch.object(KFQN, "update_input", lambda self, block, *args, **kwargs: block),
        patch.object(KFQN, "update_output", later),
    ):
        return _step(self, network, params, state, x, target)


def _always_update(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    return _step(replace(self, curvature_interval=1), network, params, state, x, target)


def _late_interval(
    self: KFQN, network: Any, params: Any, state: State, x: Array, target: Array
) -> Step:
    """Updates at k = 1, 3, … instead of 0, 2, …"""
    interval = self.curvature_interval
    if interval == 1:
        return _step(self, network, params, state, x, target)
    new = _step(self, network, params, replace(state, k=state.k + 1), x, target)
    return new._replace(state=replace(new.state, k=new.state.k - 1))


def _silent_skip(self: KFQN, block: Any, first: Any, second: Any) -> Any:
    after = _update_output(self, block, first, second)
    return replace(block, counts=after.counts) if self.pair_decay == 0 else after


def _uncounted(self: KFQN, block: Any, *args: Any, **kwargs: Any) -> Any:
    return replace(_update_input(self, block, *args, **kwargs), counts=block.counts)


def _damped_always(self: KFQN, block: Any, first: Any, second: Any) -> Any:
    after = _update_output(self, block, first, second)
    return replace(after, counts=replace(after.counts, damped_g=after.counts.updates_g))


def _skip_positive(H: Any, pair: Pair, g: Array, *, skip_below: float) -> Any:
    return None if pair.s @ pair.y > 0 else _updated(H, pair, g, skip_below=skip_below)


def _asymmetric(H: Any, pair: Pair, g: Array, *, skip_below: float) -> Any:
    accepted = _updated(H, pair, g, skip_below=skip_below)
    return DenseInverse(np.tril(accepted.H)) if isinstance(accepted, DenseInverse) else accepted


def _start_identity(self: KFQN, network: Any, state: State, factors: Any, records: Any) -> State:
    started = _start(self, network, state, factors, records)
    return replace(
        started,
        blocks=tuple(replace(b, H_a=DenseInverse(np.eye(b.M.shape[1]))) for b in started.blocks),
    )


def _start_undamped_T(self: KFQN, network: Any, state: State, factors: Any, records: Any) -> State:
    started = _start(self, network, state, factors, records)
    return replace(started, blocks=tuple(replace(b, T=1) for b in started.blocks))


def _rebinding(self: DenseInverse, s: Array, y: Array) -> DenseInverse:
    return self


def _push_newest(self: LBFGSInverse, s: Array, y: Array) -> LBFGSInverse:
    S, Y = drops_newest(self.S, self.Y, s, y, memory=self.memory)
    return LBFGSInverse(S, Y, self.gamma, self.memory)


def _push_always(self: LBFGSInverse, s: Array, y: Array) -> LBFGSInverse:
    return LBFGSInverse(np.vstack([self.S, s]), np.vstack([self.Y, y]), self.gamma, self.memory)


def _no_lm(H: Any, s: Array, y: Array, *, mu1: float, lam: float) -> Pair:
    return Pair(ref.powell_damp(H, s, y, mu1=mu1), y)


def _sign(H: Any, s: Array, y: Array, *, mu1: float, lam: float) -> Pair:
    theta = ref.powell_theta(H, s, y, mu1=mu1)
    s_tilde = theta * s - (1 - theta) * (H @ y)
    return Pair(s_tilde, y + lam * s_tilde)


for _entry in (
    (
        "swapped_momentum",
        "moving-average weights of the momentum swapped",
        KFQN,
        "direction",
        _swapped_momentum,
    ),
    ("without_decay", "weight decay is ignored", KFQN, "direction", _without_decay),
    ("one_sided", "the gradient preconditioned from one side only", KFQN, "direction", _one_sided),
    ("inverted", "H_g inverted once too often", KFQN, "direction", _inverted),
    (
        "swapped_sides",
        "A and G swapped: H_a applied on the left",
        KFQN,
        "direction",
        _swapped_sides,
    ),
    ("decay_in_pair", "weight decay inside y", KFQN, "step", _decay_in_pair),
    ("other_batch", "the second pass on another mini-batch", KFQN, "step", _other_batch),
    ("halfway", "the second pass before the step is complete", KFQN, "step", _second_at_old),
    ("no_nan_guard", "a gradient that is not finite is used", KFQN, "step", _no_nan_guard),
    ("always_update", "the curvature interval is ignored", KFQN, "step", _always_update),
    ("late_interval", "curvature updates at the wrong iterations", KFQN, "step", _late_interval),
    ("input_second", "the input pair from the second pass", KFQN, "step", _input_second),
    (
        "silent_skip",
        "a silent skip: the pair is counted as accepted and not used",
        KFQN,
        "update_output",
        _silent_skip,
    ),
    ("uncounted", "updates of the input side are not counted", KFQN, "update_input", _uncounted),
    (
        "damped_always",
        "every accepted pair is counted as damped",
        KFQN,
        "update_output",
        _damped_always,
    ),
    ("skip_positive", "skip where sᵀy > 0", guards, "updated", _skip_positive),
    ("asymmetric", "only the lower half of H is written", guards, "updated", _asymmetric),
    ("start_identity", "H_a starts from I", KFQN, "_start", _start_identity),
    ("start_T", "|T| of the layer recorded as 1", KFQN, "_start", _start_undamped_T),
    (
        "rebinds",
        "H never changes: an in-place update that rebinds",
        DenseInverse,
        "update",
        _rebinding,
    ),
    (
        "drops_newest",
        "L-BFGS drops the newest pair instead of the oldest",
        LBFGSInverse,
        "update",
        _push_newest,
    ),
    ("never_drops", "L-BFGS never forgets", LBFGSInverse, "update", _push_always),
    (
        "gradient_step",
        "s taken from the gradients instead of the outputs",
        step,
        "output_pair",
        factors.pair_of_gradients,
    ),
    ("pair_summed", "1/|T| missing in y", step, "output_pair", factors.pair_summed),
    (
        "pair_of_mean_loss",
        "Dh not multiplied by N when the loss is a mean",
        step,
        "output_pair",
        factors.pair_of_mean_loss,
    ),
    (
        "pair_swapped",
        "moving-average weights of the pairs swapped",
        step,
        "average_pair",
        factors.average_swapped,
    ),
    (
        "pair_without_lambda",
        "λ_A s missing in the input pair",
        step,
        "input_pair",
        factors.pair_without_lambda,
    ),
    ("without_lm", "Powell's damping only", options, "dp_dlm_damp", _no_lm),
    ("powell_sign", "sign in Powell's damping", options, "dp_dlm_damp", _sign),
):
    _patched(*_entry)

_with_options("lambda_not_root", "λ instead of √λ", lambda o: {"split": lambda lam, T: (lam, lam)})
_with_options(
    "split_everywhere",
    "√(λ|T|) and √(λ/|T|) in every preset",
    lambda o: {"split": options.location_split},
)


def _swapped_factor(self: KFQN, block: Any, a_bar: Array, *, keep_A: bool) -> Any:
    swapped = replace(self, pair_decay=1 - self.pair_decay) if self.pair_decay else self
    return _update_input(swapped, block, a_bar, keep_A=keep_A)


def _per_location(*args: Any, **options: Any) -> Any:
    """A is formed for the first H_a, for its moving average, and used by the Hessian action: all
    with the factor.
    """
    action = patch("kfqn_ref.factors.hessian_action", factors.action_per_location)
    with action, patch.object(step, "input_factor", factors.factor_per_location):
        return reference.optimizer_steps(*args, **options)


_per_location.__name__ = "factor_per_location"
mutant("optimizer_steps", "1/|T| wrongly in A")(_per_location)
# ā̄ summed over the locations is no mutant: s and y grow by the same factor, and
# BFGS does not see it (the law bfgs.scale).

_patched(
    "factor_swapped", "moving-average weights of A swapped", KFQN, "update_input", _swapped_factor
)


def _without_average(given: dict[str, Any]) -> dict[str, Any]:
    return {"averages_A": False} if given["preset"].endswith("2020") else {}


_with_options(
    "factor_of_batch",
    "the mini-batch's A where a moving average is due",
    _without_average,
)
