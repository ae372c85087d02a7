"""Any interleaving of what can happen to an optimizer keeps its invariants: the reference beside
the torch optimizer.
"""

import copy
import io
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import kfqn_ref as ref
from kfqn_ref import bridge
from kfqn_ref.method.state import State
from kfqn_ref.method.step import KFQN as Reference
from kfqn_ref.optim import KFQN
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.strategies.networks import LINEAR_ONLY, PRESETS

AGREE = (
    1e-9  # relative, as over the trajectories: a step rounds to about 1e-15, no run has 30 steps
)

MLP = ref.Network(
    (ref.Linear(3, 3), ref.Tanh(), ref.Linear(3, 2, bias=False)), ref.MeanSquaredError()
)
CNN = ref.Network(
    (
        ref.Conv2d(2, 2, 2, padding=1, groups=2),
        ref.Sigmoid(),
        ref.AvgPool2d(2),
        ref.Flatten(),
        ref.Linear(8, 2),
    ),
    ref.MeanSquaredError(),
)


class Machine(RuleBasedStateMachine):
    """Two optimizers in step; what only torch can do (freezing) is played for the reference by
    :meth:`_frozen_step`.
    """

    @initialize(
        preset=st.sampled_from(PRESETS), interval=st.sampled_from([1, 2]), seed=st.integers(0, 99)
    )
    def start(self, preset: str, interval: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.network = MLP if preset in LINEAR_ONLY else CNN
        shape = (4, 3) if preset in LINEAR_ONLY else (4, 2, 3, 3)
        self.batches = [(rng.normal(size=shape), rng.normal(size=(4, 2))) for _ in range(3)]
        self.preset, self.options = (
            preset,
            {"curvature_interval": interval, "memory": 2, "weight_decay": 0.01},
        )
        self.method = ref.preset(preset, **self.options)
        self.params = self.network.init(rng)
        self.state: State = self.method.init(self.params)
        self.model = bridge.build(self.network, self.params)
        self.opt = KFQN(self.model, preset=preset, **self.options)
        self.frozen, self.steps, self.bad = False, 0, 0
        self.events = [0] * len(self.params)

    def _step(self, x: np.ndarray, target: np.ndarray) -> None:
        before, k = self.state, self.state.k
        if self.frozen:
            self._frozen_step(x, target)
        else:
            step = self.method.step(self.network, self.params, self.state, x, target)
            self.params, self.state = step.params, step.state
        self.opt.step(bridge.closure_of(self.model, self.network, x, target))
        self.steps += 1
        finite = np.isfinite(x).all()
        for l in range(len(self.params)):
            thawed = not (self.frozen and l < self._first_blocks())
            self.events[l] += bool(
                finite and thawed and k % self.options["curvature_interval"] == 0
            )
            self._last_pair_is_kept(before.blocks[l], self.state.blocks[l])

    def _first_blocks(self) -> int:
        return len(self.network.layers[0].block_shapes)

    def _frozen_step(self, x: np.ndarray, target: np.ndarray) -> None:
        """The step of a network whose first layer neither moves nor learns."""
        old, first = self.state, self._first_blocks()
        direction = Reference.direction

        def without_first(method: Reference, params: Any, state: State, grads: Any) -> Any:
            P, moved = direction(method, params, state, grads)
            return tuple(0 * p if l < first else p for l, p in enumerate(P)), moved

        with patch.object(Reference, "direction", without_first):
            step = self.method.step(self.network, self.params, self.state, x, target)
        blocks = (*old.blocks[:first], *step.state.blocks[first:])
        self.params, self.state = step.params, replace(step.state, blocks=blocks)

    def _last_pair_is_kept(self, before: Any, after: Any) -> None:
        """The secant equation for the pair just accepted."""
        if after.counts.updates_g == before.counts.updates_g:
            return
        (s, y), _ = self.method.options.damp(
            before.H_g, after.s_g, after.y_g, self.method.mu1, after.lambda_g
        )
        H = before.H_g.dense()
        bound = tol.inverse_update(tol.FLOAT64.u, H, s, y) * tol.norm(y) + tol.rounding(
            tol.FLOAT64.u, 1, tol.norm(s)
        )
        if isinstance(after.H_g, ref.lbfgs.LBFGSInverse):
            bound += tol.lbfgs(tol.FLOAT64.u, after.H_g.S, after.H_g.Y, 1.0) * tol.norm(y)
        assert np.linalg.norm(after.H_g @ y - s) <= bound

    @rule(i=st.integers(0, 2))
    def step(self, i: int) -> None:
        self._step(*self.batches[i])

    @rule(i=st.integers(0, 2), bad=st.sampled_from([np.nan, np.inf]))
    def bad_batch(self, i: int, bad: float) -> None:
        x, target = self.batches[i]
        W = [np.array(w) for w in bridge.read_params(self.model, self.network)]
        with np.errstate(invalid="ignore", over="ignore"):
            self._step(np.full(x.shape, bad), target)
        self.bad += 1
        assert all(
            np.array_equal(a, b)
            for a, b in zip(W, bridge.read_params(self.model, self.network), strict=True)
        )

    @rule(lr=st.sampled_from([0.3, 0.1, 0.0]))
    def change_lr(self, lr: float) -> None:
        self.method = replace(self.method, lr=lr)
        for group in self.opt.param_groups:
            group["lr"] = lr

    @precondition(lambda self: self.steps > self.bad)
    @rule()
    def freeze(self) -> None:
        self.frozen = True
        self._thaw(False)

    @precondition(lambda self: self.frozen)
    @rule()
    def unfreeze(self) -> None:
        self.frozen = False
        self._thaw(True)

    def _thaw(self, moves: bool) -> None:
        for p in self.model[0].parameters():
            p.requires_grad_(moves)
            p.grad = None

    @rule()
    def reload(self) -> None:
        """Write both to a file, and go on from what is read back in a new model and a new
        optimizer.
        """
        file = io.BytesIO()
        torch.save({"model": self.model.state_dict(), "optimizer": self.opt.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        self.model = bridge.build(self.network, self.params)
        self.model.load_state_dict(saved["model"])
        self.opt = KFQN(self.model, preset=self.preset, **self.options)
        self.opt.load_state_dict(saved["optimizer"])
        self._thaw(not self.frozen)
        self.state, self.params = copy.deepcopy((self.state, self.params))

    @invariant()
    def the_two_agree(self) -> None:
        if not hasattr(self, "state") or self.steps == self.bad:
            return
        deviation = bridge.deviation(self.opt, self.model, self.network, self.params, self.state)
        assert max(deviation) <= AGREE, deviation
        assert self.opt.skipped_steps == self.state.skipped_steps == self.bad
        assert self.state.k == self.steps

    @invariant()
    def estimates_are_symmetric_and_definite(self) -> None:
        for block in getattr(self, "state", State(0, ())).blocks:
            for H in (block.H_a, block.H_g):
                if H is None:
                    continue
                dense = H.dense()
                bound = tol.rounding(
                    tol.FLOAT64.u, len(dense) * (self.steps + 1), tol.cond(dense) * tol.norm(dense)
                )
                assert np.linalg.norm(dense - dense.T) <= bound
                assert np.linalg.eigvalsh((dense + dense.T) / 2)[0] > -bound

    @invariant()
    def counters_add_up(self) -> None:
        for events, block in zip(
            getattr(self, "events", ()), getattr(self, "state", State(0, ())).blocks, strict=True
        ):
            counts = block.counts
            assert counts.updates_a + counts.skipped_a == events
            assert counts.updates_g + counts.skipped_g == events
            assert counts.damped_g <= counts.updates_g


FEW = settings(
    max_examples=settings.default.max_examples // 4, stateful_step_count=12, deadline=None
)
TestMachine = Machine.TestCase
TestMachine.settings = FEW
