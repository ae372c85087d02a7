"""The Kronecker-factored quasi-Newton method: one iteration, readable (book: KF-QN-CNN).

Every block ``W`` has two inverse estimates, ``H_a`` of ``(A + λ_A I)⁻¹``, ``H_g`` of
``(G + λ_G I)⁻¹``, and moves along ``H_g M H_a``, M being the averaged gradient. ``H_a`` learns by
BFGS with Hessian action, ``H_g`` by damped BFGS or L-BFGS from the changes that the step made. The
presets differ in the values of the fields of :class:`KFQN` only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from kfqn_ref._typing import Array, InverseEstimate, Pair, require
from kfqn_ref.factors import average_pair, input_factor, input_mean, input_pair, output_pair
from kfqn_ref.layers import Blocks, Conv2d, Record
from kfqn_ref.method.nadam import scaled
from kfqn_ref.method.options import (
    dd,
    dense_output_start,
    dp_dlm,
    exact_input_start,
    no_factor,
    sqrt_split,
)
from kfqn_ref.network import Network, Pass, forward_backward


@dataclass(frozen=True)
class Counts:
    """What happened to the pairs of one block: accepted, skipped, damped."""

    updates_a: int = 0
    skipped_a: int = 0
    updates_g: int = 0
    damped_g: int = 0
    skipped_g: int = 0


@dataclass(frozen=True)
class BlockState:
    """What the method remembers of one block.

    Args:
        M: moving average of the gradient, or of U with ``square_decay``, (d_g, d_a).
        H_a, H_g: inverse estimates; ``H_a`` is None until a first mini-batch was seen.
        s_g, y_g: averaged output-side pair, (d_g,).
        A: factor of the input side, (d_a, d_a), where a moving average is kept, or None.
        V: moving average of the squares of U, (d_g, d_a), with ``square_decay``, or None.
        lambda_a, lambda_g: damping of the two sides, fixed at the first mini-batch.
        T: number of locations of the first mini-batch.
        counts: events.
    """

    M: Array
    H_a: InverseEstimate | None
    H_g: InverseEstimate
    s_g: Array
    y_g: Array
    A: Array | None = None
    V: Array | None = None
    lambda_a: float = 0.0
    lambda_g: float = 0.0
    T: int = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True)
class State:
    """Iteration number k, the blocks' states, and how many iterations a non-finite gradient
    skipped.
    """

    k: int
    blocks: tuple[BlockState, ...]
    skipped_steps: int = 0


class Step(NamedTuple):
    """Result of one iteration: new parameters, new state, and the loss before the step."""

    params: Blocks
    state: Any
    loss: float


@dataclass(frozen=True)
class KFQN:
    """The method as a value: hyper-parameters, and strategies for what the presets do differently.

    Args:
        lr: step size α, not negative.
        square_decay: β₂, in [0, 1): ``U = H_g (∇_W f + τ W) H_a`` takes the gradient's place in
            Adam with Nesterov's momentum (kingma2015adam, dozat2016nadam); 0: the step is
            ``P = H_g M H_a``.
        step_decay: b of the step sizes ``α_k = lr (k + 1)^(−b)``, not negative; 0 keeps them
            constant.
        damping: λ, positive; split into λ_A λ_G = λ.
        momentum: β of the gradient's moving average, in [0, 1).
        weight_decay: τ of the L2 term, not negative; enters the step, never a pair.
        pair_decay: decay of the averaged output pair (and of the averaged A), in [0, 1).
        mu1: threshold of Powell's damping, in (0, 1).
        memory: pairs p that L-BFGS keeps, at least 1.
        curvature_interval: iterations from one curvature update to the next, at least 1.
        eager_steps: so many iterations at the start update the curvature whatever the interval.
        split: ``(λ, |T|)`` to ``(λ_A, λ_G)``.
        damp: damping of the output pair; returns the pair and whether it was changed.
        first_factor: ``A_0`` from the inputs of the first mini-batch, where there was no warm
            start.
        start_H_a: first ``H_a`` from ``A_0``, λ_A and the memory.
        renew_H_a: every later ``H_a`` from the mini-batch's A, λ_A and memory; None: BFGS by
            Hessian action.
        start_H_g: first ``H_g`` from d_g and the memory.
        averages_A: average A with ``pair_decay``; else use the mini-batch's own, never formed.
        skip_below: a pair is skipped when ``sᵀy ≤ skip_below ‖s‖² ‖ḡ‖``; 0 asks for ``sᵀy > 0``
            only.
        linear_only: refuse networks with convolutions.

    Raises:
        ValueError: a hyper-parameter is outside its range.

    Source: ren2021kfqn, goldfarb2020kbfgs, ren2022kfqn.
    """

    lr: float = 0.3
    damping: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    pair_decay: float = 0.9
    mu1: float = 0.2
    memory: int = 100
    curvature_interval: int = 1
    eager_steps: int = 0
    square_decay: float = 0.0
    step_decay: float = 0.0
    split: Callable[[float, int], tuple[float, float]] = sqrt_split
    damp: Callable[[InverseEstimate, Array, Array, float, float], tuple[Pair, bool]] = dp_dlm
    first_factor: Callable[[Array], Array] = input_factor
    start_H_a: Callable[[Array, float, int], InverseEstimate] = exact_input_start
    renew_H_a: Callable[[Array, float, int], InverseEstimate] | None = None
    start_H_g: Callable[[int, int], InverseEstimate] = dense_output_start
    averages_A: bool = False
    skip_below: float = 0.0
    linear_only: bool = False

    def __post_init__(self) -> None:
        require(
            (self.lr >= 0, "lr must not be negative", self.lr),
            (self.step_decay >= 0, "step_decay must not be negative", self.step_decay),
            (self.damping > 0, "damping must be positive", self.damping),
            (0 <= self.momentum < 1, "momentum must be in [0, 1)", self.momentum),
            (self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay),
            (0 <= self.pair_decay < 1, "pair_decay must be in [0, 1)", self.pair_decay),
            (0 < self.mu1 < 1, "mu1 must be in (0, 1)", self.mu1),
            (self.memory >= 1, "memory must be at least 1", self.memory),
            (
                self.curvature_interval >= 1,
                "curvature_interval must be at least 1",
                self.curvature_interval,
            ),
            (self.eager_steps >= 0, "eager_steps must not be negative", self.eager_steps),
            (0 <= self.square_decay < 1, "square_decay must be in [0, 1)", self.square_decay),
            (self.skip_below >= 0, "skip_below must not be negative", self.skip_below),
            (
                self.damp is not dd or self.damping < 1,
                "damping must be in (0, 1) with double damping",
                self.damping,
            ),
        )

    def init(self, params: Blocks) -> State:
        """Return the state before the first iteration: M = 0, s_g = y_g = 0, H_g its start."""
        return State(0, tuple(self._init_block(*W.shape) for W in params))

    def _init_block(self, d_g: int, d_a: int) -> BlockState:
        H_g = self.start_H_g(d_g, self.memory)
        return BlockState(np.zeros((d_g, d_a)), None, H_g, np.zeros(d_g), np.zeros(d_g))

    def warm_start(
        self, network: Network, params: Blocks, state: State, batches: Iterable[tuple[Array, Array]]
    ) -> State:
        """Return the state with ``A_0`` the mean of A over the mini-batches (x, target) at these
        weights.

        Raises:
            ValueError: there is no mini-batch, or the method has already started.
        """
        if any(block.H_a is not None for block in state.blocks):
            raise ValueError(f"warm_start must come before the first iteration, got k = {state.k}")
        passes = [forward_backward(network, params, x, target) for x, target in batches]
        if not passes:
            raise ValueError("warm_start needs at least one mini-batch, got none")
        factors = [
            np.mean([input_factor(record.a_bar) for record in records], axis=0)
            for records in zip(*(each.records for each in passes), strict=True)
        ]
        return self._start(network, state, factors, passes[0].records)

    def _start(
        self, network: Network, state: State, factors: Iterable[Array], records: tuple[Record, ...]
    ) -> State:
        """Return the state with λ_A, λ_G, T and the first ``H_a`` set from the factors ``A_0``."""
        if self.linear_only and any(isinstance(layer, Conv2d) for layer in network.layers):
            raise ValueError("this preset must have linear layers only, got a Conv2d; use kfqn_cnn")
        blocks = []
        for block, A, record in zip(state.blocks, factors, records, strict=True):
            T, A = record.a_bar.shape[1], _trusted(A)
            lambda_a, lambda_g = self.split(self.damping, T)
            H_a = self.start_H_a(A, lambda_a, self.memory)
            kept = A if self.averages_A else None
            blocks.append(
                replace(block, H_a=H_a, A=kept, lambda_a=lambda_a, lambda_g=lambda_g, T=T)
            )
        return replace(state, blocks=tuple(blocks))

    def direction(self, params: Blocks, state: State, grads: Blocks) -> tuple[Blocks, State]:
        """Return the directions ``P``, ``H_g M H_a`` unless ``square_decay``, and the state with
        the new M.

        Args:
            params, grads: blocks (d_g, d_a).   state: after the first mini-batch set ``H_a``.
        """
        P, blocks = [], []
        for W, g, block in zip(params, grads, state.blocks, strict=True):
            g = g + self.weight_decay * W
            U = _along(block, g) if self.square_decay else g
            block = replace(block, M=self.momentum * block.M + (1 - self.momentum) * U)
            if self.square_decay:
                V = (1 - self.square_decay) * U**2 + (
                    0.0 if block.V is None else self.square_decay * block.V
                )
                block, t = replace(block, V=V), state.k + 1 - state.skipped_steps
                P.append(scaled(block.M, V, U, t, beta=self.momentum, beta2=self.square_decay))
            else:
                P.append(_along(block, block.M))
            blocks.append(block)
        return tuple(P), replace(state, blocks=tuple(blocks))

    def update(self, state: State, first: tuple[Record, ...], second: tuple[Record, ...]) -> State:
        """Return the state after the curvature update of every block.

        Args:
            first, second: records before and after the step, on the same mini-batch.
        """
        blocks = []
        for block, before, after in zip(state.blocks, first, second, strict=True):
            block = self._update_input(block, before.a_bar, keep_A=state.k == 0)
            blocks.append(self._update_output(block, before, after))
        return replace(state, blocks=tuple(blocks))

    def _update_input(self, block: BlockState, a_bar: Array, *, keep_A: bool) -> BlockState:
        """Return the block with ``H_a`` updated by Hessian action (5.1)."""
        assert block.H_a is not None, "step and warm_start set H_a first"
        if self.renew_H_a is not None:
            H_a = self.renew_H_a(_trusted(input_factor(a_bar)), block.lambda_a, self.memory)
            return replace(
                block, H_a=H_a, counts=replace(block.counts, updates_a=block.counts.updates_a + 1)
            )
        A = block.A
        if (
            A is not None and not keep_A and _all_finite([new := input_factor(a_bar)])
        ):  # it may overflow
            A = self.pair_decay * A + (1 - self.pair_decay) * new
        a_mean = input_mean(a_bar)
        pair = input_pair(block.H_a, a_mean, a_bar if A is None else A, lam=block.lambda_a)
        H_a = self._accept(block.H_a, pair, a_mean)
        if H_a is None:
            counts = replace(block.counts, skipped_a=block.counts.skipped_a + 1)
            return replace(block, A=A, counts=counts)
        counts = replace(block.counts, updates_a=block.counts.updates_a + 1)
        return replace(block, H_a=H_a, A=A, counts=counts)

    def _update_output(self, block: BlockState, first: Record, second: Record) -> BlockState:
        """Return the block with the averaged pair (5.3) and ``H_g`` updated by its damped form."""
        new = output_pair(first, second)
        counts = block.counts
        skipped = replace(block, counts=replace(counts, skipped_g=counts.skipped_g + 1))
        if not _all_finite(new):
            return skipped
        s_g, y_g = average_pair(Pair(block.s_g, block.y_g), new, decay=self.pair_decay)
        skipped = replace(skipped, s_g=s_g, y_g=y_g)
        if not 0 < block.H_g @ y_g @ y_g < np.inf:  # y_g = 0 carries no curvature
            return skipped
        pair, damped = self.damp(block.H_g, s_g, y_g, self.mu1, block.lambda_g)
        H_g = self._accept(block.H_g, pair, first.Dh.mean(axis=(0, 1)))
        if H_g is None:
            return skipped
        counts = replace(counts, updates_g=counts.updates_g + 1, damped_g=counts.damped_g + damped)
        return replace(block, H_g=H_g, s_g=s_g, y_g=y_g, counts=counts)

    def _accept(self, H: InverseEstimate, pair: Pair, g: Array) -> InverseEstimate | None:
        """Return the updated estimate, or None where the pair must be skipped."""
        s, y = pair
        sy = s @ y
        if not (
            _all_finite(pair)
            and np.isfinite(sy)
            and sy > self.skip_below * (s @ s) * np.linalg.norm(g)
        ):
            return None
        H_plus = H.update(s, y)
        return H_plus if np.isfinite(H_plus @ y).all() else None

    def step(self, network: Network, params: Blocks, state: State, x: Array, target: Array) -> Step:
        """Return parameters, state and loss after one iteration on the mini-batch (x, target).

        An iteration whose loss or gradient is not finite changes nothing but the counters; in the
        first, ``H_a`` starts from ``A_0 = 0``, since the inputs cannot be trusted.

        Raises:
            ValueError: shapes do not fit, or the network has a layer that the preset refuses.
        """
        first = forward_backward(network, params, x, target)
        sound = np.isfinite(first.loss) and _all_finite(first.grads)
        if any(block.H_a is None for block in state.blocks):
            first_factor = self.first_factor if sound else no_factor
            factors = (first_factor(record.a_bar) for record in first.records)
            state = self._start(network, state, factors, first.records)
        if not sound:
            skipped = replace(state, k=state.k + 1, skipped_steps=state.skipped_steps + 1)
            return Step(params, skipped, first.loss)
        P, moved = self.direction(params, state, first.grads)
        alpha = self.lr * (state.k + 1) ** -self.step_decay
        new = tuple(W - alpha * p for W, p in zip(params, P, strict=True))
        if state.k < self.eager_steps or state.k % self.curvature_interval == 0:
            second: Pass = forward_backward(network, new, x, target)
            moved = self.update(moved, first.records, second.records)
        return Step(new, replace(moved, k=state.k + 1), first.loss)


def _along(block: BlockState, X: Array) -> Array:
    """Return ``H_g X H_a``."""
    assert block.H_a is not None, "step and warm_start set H_a first"
    return (block.H_a @ (block.H_g @ X).T).T  # H_a is symmetric


def _trusted(A: Array) -> Array:
    """Return ``A``, or 0 where it has overflowed, which it may though loss and gradient have
    not.
    """
    return A if _all_finite([A]) else np.zeros_like(A)


def _all_finite(arrays: Iterable[Array]) -> bool:
    return all(np.isfinite(array).all() for array in arrays)
