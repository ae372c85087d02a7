"""A run of an optimizer, seen step by step beside what the equations say of each step.

Every law of an optimizer is local: it starts from the weights and matrices that the implementation
itself reported after the step before, so that errors do not add up and a failure names its step.
What the equations need besides (inputs, outputs, their gradients) comes from
:mod:`kfqn_ref.testing.oracles`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from kfqn_ref.testing import oracles
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.damping import powell_theta
from kfqn_ref.testing.checks.network import pass_error
from kfqn_ref.testing.strategies.networks import LINEAR_ONLY, BlockView


class Seen(NamedTuple):
    """One block at one step: weights and views before and after, what it saw at both points,
    momentum and its error.
    """

    k: int
    block: int
    W: np.ndarray
    W_plus: np.ndarray
    before: BlockView
    after: BlockView
    first: tuple[np.ndarray, np.ndarray, np.ndarray]  # ā, h, Dh at the old weights
    second: tuple[np.ndarray, np.ndarray]  # h, Dh at the new weights
    M: np.ndarray
    error: float
    updates: bool


def lambdas_of(options: dict[str, Any], T: int) -> tuple[float, float]:
    """(λ_A, λ_G) of a preset."""
    lam = options["damping"]
    split = np.sqrt(T) if options["preset"] == "kbfgs_2022" else 1.0
    return np.sqrt(lam) * split, np.sqrt(lam) / split


def _start(a_bar: np.ndarray, d_g: int, options: dict[str, Any]) -> BlockView:
    lambda_a, lambda_g = lambdas_of(options, a_bar.shape[1])
    H_a = np.linalg.inv(oracles.factor(a_bar) + lambda_a * np.eye(a_bar.shape[2]))
    return BlockView(H_a, np.eye(d_g), lambda_a, lambda_g, a_bar.shape[1], 0, 0, 0, 0, 0)


def walk(
    f: Any, network: Any, params: Any, batches: Any, options: dict[str, Any]
) -> Iterator[Seen]:
    """Run the implementation, then go through its steps, block by block."""
    snapshots = f.optimizer_steps(network, params, batches, **options)
    momenta = [np.zeros(W.shape) for W in params]
    views = [None] * len(params)
    for k, ((x, target), snapshot) in enumerate(zip(batches, snapshots, strict=True)):
        _, bars, hs = oracles.run(network.layers, params, x)
        Dhs = oracles.output_gradients(network, params, x, target)
        second = oracles.run(network.layers, snapshot.params, x)[2]
        second_D = oracles.output_gradients(network, snapshot.params, x, target)
        error = max(pass_error(f.u, params, x), pass_error(f.u, snapshot.params, x))
        for l, W in enumerate(params):
            g = np.einsum("ntg,nta->ga", Dhs[l], bars[l]) / len(x) + options["weight_decay"] * W
            momenta[l] = options["momentum"] * momenta[l] + (1 - options["momentum"]) * g
            before = views[l] or _start(bars[l], W.shape[0], options)
            points = (bars[l], hs[l], Dhs[l]), (second[l], second_D[l])
            moves = W, snapshot.params[l], before, snapshot.blocks[l]
            yield Seen(
                k, l, *moves, *points, momenta[l], error, k % options["curvature_interval"] == 0
            )
        params = snapshot.params
        views = list(snapshot.blocks)


class Averages:
    """The moving averages that the equations carry from step to step: of A and of the output
    pair.
    """

    def __init__(self, options: dict[str, Any]):
        self.options = options
        self.A: dict[int, np.ndarray] = {}
        self.pair: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def factor(self, seen: Seen) -> np.ndarray:
        """A of this step: the mini-batch's, or the moving average of the 2020 presets, which starts
        at k = 0.
        """
        A = oracles.factor(seen.first[0])
        if self.options["preset"] in LINEAR_ONLY:
            decay = 1.0
            if seen.k == 0:
                decay = 0.0
            elif seen.updates:
                decay = self.options["pair_decay"]
            A = self.A[seen.block] = decay * self.A.get(seen.block, 0.0) + (1 - decay) * A
        return A

    def output_pair(self, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """(s_g, y_g) of (7.1)-(7.2); call it at curvature steps only."""
        decay = self.options["pair_decay"]
        d_g = len(seen.before.H_g)
        old = self.pair.get(seen.block, (np.zeros(d_g), np.zeros(d_g)))
        new = [
            (after - before).mean(axis=(0, 1))
            for after, before in zip(seen.second, seen.first[1:], strict=True)
        ]
        s, y = (decay * was + (1 - decay) * now for was, now in zip(old, new, strict=True))
        self.pair[seen.block] = s, y
        return s, y


class DampedPair(NamedTuple):
    """A damped pair, whether damping acted, and how far rounding may have moved s̃ and ỹ."""

    s: np.ndarray
    y: np.ndarray
    damped: bool
    ds: float
    dy: float


def damp(
    H: np.ndarray, s: np.ndarray, y: np.ndarray, lam: float, options: dict[str, Any], error: float
) -> DampedPair:
    """Damp by the rule of the preset: DD for the 2020 presets, else D_P D_LM."""
    theta = powell_theta(H, s, y, 0.2)
    s_tilde = theta * s + (1 - theta) * (H @ y)
    ds = tol.powell_change(H, s, y, 0.2, error, error)
    if options["preset"] not in LINEAR_ONLY:
        return DampedPair(s_tilde, y + lam * s_tilde, theta < 1, ds, error + lam * ds)
    theta2 = powell_theta(np.eye(len(s)), y, s_tilde, lam)
    dy = tol.powell_change(np.eye(len(s)), y, s_tilde, lam, error, ds)
    return DampedPair(s_tilde, theta2 * y + (1 - theta2) * s_tilde, theta < 1 or theta2 < 1, ds, dy)


def skipped(
    pair: tuple[np.ndarray, np.ndarray], g: np.ndarray, options: dict[str, Any]
) -> bool | None:
    """Whether a preset skips the pair; None where rounding decides."""
    s, y = pair
    if options["preset"] not in LINEAR_ONLY:
        return not s @ y > 0
    limit = 1e-4 * (s @ s) * np.linalg.norm(g)
    close = 1e-6 * (np.linalg.norm(s) * np.linalg.norm(y) + limit)
    return None if abs(s @ y - limit) < close else bool(s @ y < limit)
