"""One iteration of the method, with the step numbers of the book's algorithm (book: KF-QN-CNN).

Every block ``W`` has two inverse estimates, ``H_a`` of ``(A + λ_A I)⁻¹``, ``H_g`` of
``(G + λ_G I)⁻¹``, and moves along ``H_g M H_a``, M being the averaged gradient. ``H_a`` learns by
BFGS with Hessian action, ``H_g`` by damped BFGS or L-BFGS from the changes that the step made.

Read :mod:`kfqn_ref.algorithm` first: it is KF-QN-CNN alone, on one page. Then read
:meth:`KFQN.step` from its end: the six methods that it calls are steps 0 to 4.5 in their order.
The presets differ in :class:`~kfqn_ref.method.options.Options` only; what happens to numbers that
cannot be used is in :mod:`kfqn_ref.method.guards`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from kfqn_ref._typing import Array, Pair, require
from kfqn_ref.factors import average_pair, input_factor, input_mean, input_pair, output_pair
from kfqn_ref.layers import Blocks, Conv2d, Record
from kfqn_ref.method import guards, nadam
from kfqn_ref.method.options import Options
from kfqn_ref.method.state import BlockState, State, Step
from kfqn_ref.network import Network, Pass, forward_backward


@dataclass(frozen=True)
class KFQN:
    """The method as a value: hyper-parameters, and the options in which the presets differ.

    Args:
        lr: step size α, not negative.
        damping: λ, positive; split into λ_A λ_G = λ.
        momentum: β of the gradient's moving average, in [0, 1).
        weight_decay: τ of the L2 term, not negative; enters the step, never a pair.
        pair_decay: decay of the averaged output pair (and of the averaged A), in [0, 1).
        mu1: threshold of Powell's damping, in (0, 1).
        memory: pairs p that L-BFGS keeps, at least 1.
        gamma: scale of the first ``H_g = gamma I``, positive.
        curvature_interval: iterations from one curvature update to the next, at least 1.
        step_decay: b of the step sizes ``α_k = lr (k + 1)^(−b)``, not negative; 0 keeps them
            constant.
        options: what a preset does differently.

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
    gamma: float = 1.0
    curvature_interval: int = 1
    step_decay: float = 0.0
    options: Options = Options()

    def __post_init__(self) -> None:
        interval = self.curvature_interval
        require(
            (self.lr >= 0, "lr must not be negative", self.lr),
            (self.step_decay >= 0, "step_decay must not be negative", self.step_decay),
            (self.damping > 0, "damping must be positive", self.damping),
            (0 <= self.momentum < 1, "momentum must be in [0, 1)", self.momentum),
            (self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay),
            (0 <= self.pair_decay < 1, "pair_decay must be in [0, 1)", self.pair_decay),
            (0 < self.mu1 < 1, "mu1 must be in (0, 1)", self.mu1),
            (self.memory >= 1, "memory must be at least 1", self.memory),
            (0 < self.gamma < np.inf, "gamma must be positive and finite", self.gamma),
            (interval >= 1, "curvature_interval must be at least 1", interval),
        )
        self.options.check_damping(self.damping)

    def init(self, params: Blocks) -> State:
        """Return the state before the first iteration: M = 0, s_g = y_g = 0, ``H_g = gamma I``."""
        return State(0, tuple(self._init_block(*W.shape) for W in params))

    def _init_block(self, d_g: int, d_a: int) -> BlockState:
        H_g = self.options.output_inverse.start(d_g, self.gamma, self.memory)
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

    def _first_factors(self, first: Pass) -> list[Array]:
        """Return ``A_0`` of every block: A of the first mini-batch, or 0 where it has no say."""
        if self.options.starts_from_batch:
            return [input_factor(record.a_bar) for record in first.records]
        sizes = (record.a_bar.shape[2] for record in first.records)
        return [np.zeros((d_a, d_a)) for d_a in sizes]

    def _start(
        self, network: Network, state: State, factors: Iterable[Array], records: tuple[Record, ...]
    ) -> State:
        """Return the state with λ_A, λ_G, T and the first ``H_a`` set from the factors ``A_0``."""
        options = self.options
        if options.linear_only and any(isinstance(layer, Conv2d) for layer in network.layers):
            raise ValueError("this preset must have linear layers only, got a Conv2d; use kfqn_cnn")
        blocks = []
        for block, A, record in zip(state.blocks, factors, records, strict=True):
            A_0 = guards.trusted(A)
            T = record.a_bar.shape[1]
            lambda_a, lambda_g = options.split(self.damping, T)
            started = replace(block, lambda_a=lambda_a, lambda_g=lambda_g, T=T)
            H_a = options.input_inverse.start(A_0, lambda_a, self.memory)
            kept = A_0 if options.averages_A else None
            blocks.append(replace(started, H_a=H_a, A=kept))
        return replace(state, blocks=tuple(blocks))

    def direction(self, params: Blocks, state: State, grads: Blocks) -> tuple[Blocks, State]:
        """Return the directions ``P`` and the state with the new moving averages (step 2).

        ``P = H_g M H_a``, or what ``options.direction`` makes of it; with ``square_decay`` it is
        :func:`kfqn_ref.method.nadam.direction`.

        Args:
            params, grads: blocks (d_g, d_a).   state: after the first mini-batch set ``H_a``.
        """
        P = []
        blocks = []
        made = state.k - state.skipped_steps  # steps that moved, before this one
        for W, g, block in zip(params, grads, state.blocks, strict=True):
            decayed = g + self.weight_decay * W
            p, moved = self._block_direction(block, decayed, made + 1)
            P.append(p)
            blocks.append(moved)
        return tuple(P), replace(state, blocks=tuple(blocks))

    def _block_direction(self, block: BlockState, g: Array, t: int) -> tuple[Array, BlockState]:
        """Return the t-th direction of a block, and the block with its moving averages."""
        beta = self.momentum
        beta2 = self.options.square_decay
        if beta2:
            return nadam.direction(block, g, t, beta=beta, beta2=beta2)
        block = replace(block, M=beta * block.M + (1 - beta) * g)
        return self.options.direction(block, g, beta), block

    def update_input(self, block: BlockState, a_bar: Array, *, keep_A: bool = False) -> BlockState:
        """Return the block with ``H_a`` updated by Hessian action (6.2): step 4.1.

        Args:
            a_bar: inputs of the first pass, (N, T, d_a).
            keep_A: leave an averaged A as it is, as in the first iteration, which starts from it.
        """
        H_a = block.H_a
        assert H_a is not None, "step and warm_start set H_a first"
        if self.options.input_inverse.renews:
            A = guards.trusted(input_factor(a_bar))
            exact = self.options.input_inverse.start(A, block.lambda_a, self.memory)
            return guards.count_input(block, exact)
        if block.A is not None and not keep_A:
            block = replace(block, A=self._averaged(block.A, input_factor(a_bar)))
        a_mean = input_mean(a_bar)
        source = a_bar if block.A is None else block.A  # of the mini-batch: A is never formed
        pair = input_pair(H_a, a_mean, source, lam=block.lambda_a)
        H_a_plus = guards.updated(H_a, pair, a_mean, skip_below=self.options.skip_below)
        return guards.count_input(block, H_a_plus)

    def _averaged(self, A: Array, new: Array) -> Array:
        """Return the moving average of A; a new factor that has overflowed is left out."""
        if not guards.finite(new):
            return A
        return self.pair_decay * A + (1 - self.pair_decay) * new

    def update_output(self, block: BlockState, first: Record, second: Record) -> BlockState:
        """Return the block with the averaged pair (7.2) and ``H_g`` updated: steps 4.3 to 4.5.

        Args:
            first, second: records before and after the step, on the same mini-batch.
        """
        new = output_pair(first, second)  # 4.3
        if not guards.finite(*new):
            return guards.count_output(block, None)
        s_g, y_g = average_pair(Pair(block.s_g, block.y_g), new, decay=self.pair_decay)
        block = replace(block, s_g=s_g, y_g=y_g)
        if not guards.has_curvature(block.H_g, y_g):
            return guards.count_output(block, None)
        pair, damped = self.options.damp(block.H_g, s_g, y_g, self.mu1, block.lambda_g)  # 4.4
        Dh_mean = first.Dh.mean(axis=(0, 1))
        skip_below = self.options.skip_below
        H_g = guards.updated(block.H_g, pair, Dh_mean, skip_below=skip_below)  # 4.5
        return guards.count_output(block, H_g, damped=damped)

    def updates_curvature(self, k: int) -> bool:
        """Return whether iteration k has step 4: at first always, then once an interval."""
        return k < self.options.eager_steps or k % self.curvature_interval == 0

    def step(self, network: Network, params: Blocks, state: State, x: Array, target: Array) -> Step:
        """Return parameters, state and loss after one iteration on the mini-batch (x, target).

        An iteration whose loss or gradient is not finite changes nothing but the counters; the
        method then starts with the next one, which also updates the curvature.

        Raises:
            ValueError: shapes do not fit, or the network has a layer that the preset refuses.
        """
        first = forward_backward(network, params, x, target)  # 1
        if not guards.sound(first):
            return Step(params, guards.without_step(state), first.loss)
        starts = not state.started
        if starts:  # 0
            state = self._start(network, state, self._first_factors(first), first.records)
        P, state = self.direction(params, state, first.grads)  # 2
        alpha = self.lr * (state.k + 1) ** -self.step_decay
        new = tuple(W - alpha * p for W, p in zip(params, P, strict=True))  # 3
        if starts or self.updates_curvature(state.k):
            keep_A = starts or state.k == 0
            state = self._update(network, new, state, first, x, target, keep_A=keep_A)  # 4
        return Step(new, replace(state, k=state.k + 1), first.loss)

    def _update(
        self,
        network: Network,
        new: Blocks,
        state: State,
        first: Pass,
        x: Array,
        target: Array,
        *,
        keep_A: bool,
    ) -> State:
        """Return the state after the curvature update of every block: step 4.

        Args:
            keep_A: whether an averaged A stays as it began.
        """
        learnt = [
            self.update_input(block, record.a_bar, keep_A=keep_A)  # 4.1
            for block, record in zip(state.blocks, first.records, strict=True)
        ]
        if not self.options.output_inverse.learns:
            return replace(state, blocks=tuple(learnt))
        second = forward_backward(network, new, x, target)  # 4.2
        both = zip(learnt, first.records, second.records, strict=True)
        blocks = tuple(self.update_output(*each) for each in both)  # 4.3 to 4.5
        return replace(state, blocks=blocks)
