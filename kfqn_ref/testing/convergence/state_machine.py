"""Lemmas A and B as a state machine: any pairs and batches, memory dropped and refilled, bounds
kept.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from kfqn_ref.layers import Record
from kfqn_ref.lbfgs import LBFGSInverse
from kfqn_ref.method.convergent import LEAN
from kfqn_ref.testing.convergence.lemmas import Array, Variant, extremal_pair
from kfqn_ref.testing.law import at_most
from kfqn_ref.testing.tolerances import FLOAT64, rounding
from kfqn_ref.theory.bounds import Bounds, sample_norms

THIRDS = st.sampled_from([0.1, 1.0, 10.0])
EFFORT = settings(
    max_examples=60,
    stateful_step_count=12,
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
)
"""The same programs every time, as many as take some seconds."""


def vectors(d: int) -> st.SearchStrategy[Array]:
    """Quarters between −2 and 2, zero included."""
    return st.lists(st.integers(-8, 8), min_size=d, max_size=d).map(lambda v: np.array(v) / 4)


def eigenvalues_stay_bounded(variant: Variant, *, shrink: bool = False) -> None:
    """Lemmas A, B: eigenvalues of ``H_a``, ``H_g``, ``H_a ⊗ H_g`` after anything that can happen to
    them.
    """
    phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
    run_state_machine_as_test(machine(variant), settings=settings(EFFORT, phases=phases))


def machine(variant: Variant) -> type[RuleBasedStateMachine]:
    """Return the state machine that drives the curvature updates of a variant and watches its
    bounds.
    """

    class Estimates(RuleBasedStateMachine):
        """One block; its records are made up, so that any pair and any mini-batch can occur."""

        @initialize(
            sizes=st.tuples(
                st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)
            ),
            scales=st.tuples(THIRDS, THIRDS),
            mu1=st.sampled_from([0.1, 0.2, 0.5]),
            pair_decay=st.sampled_from([0.0, 0.9]),
            kind=st.sampled_from([{}, {"options": LEAN}]),
            data=st.data(),
        )
        def begin(
            self, sizes: Any, scales: Any, mu1: float, pair_decay: float, kind: Any, data: Any
        ) -> None:
            d_g, d_a, T, memory = sizes
            damping, gamma = scales
            options = {"damping": damping, "gamma": gamma, "mu1": mu1, "pair_decay": pair_decay}
            method = self.method = variant.method(memory=memory, **options, **kind)
            self.samples = np.array([[data.draw(vectors(d_a)) for _ in range(T)] for _ in range(3)])
            lambda_a, lambda_g = method.options.split(damping, T)
            H_a = method.options.input_inverse.start(np.zeros((d_a, d_a)), lambda_a, memory)
            (block,) = method.init((np.zeros((d_g, d_a)),)).blocks
            self.block = replace(block, H_a=H_a, lambda_a=lambda_a, lambda_g=lambda_g, T=T)
            M_g = variant.pair_bound(gamma, mu1, lambda_g)
            self.bound_g = variant.lbfgs_bounds(lambda_g, M_g, gamma=gamma, memory=memory, d=d_g)
            radius = float(sample_norms(self.samples).max())
            self.bound_a = variant.input_bounds(method, radius, lambda_a, d_a)
            self.e = np.eye(d_g)[0]

        @property
        def pairs(self) -> LBFGSInverse:
            assert isinstance(self.block.H_g, LBFGSInverse), "the variant keeps pairs"
            return self.block.H_g

        def update(self, s: Array, y: Array, rows: list[int]) -> None:
            """Let the method see outputs that moved by s, their gradients by y, and these
            samples.
            """
            a_bar = self.samples[rows]
            zeros = np.zeros((len(rows), self.block.T, s.size))
            first = Record(a_bar, zeros, zeros)
            second = Record(a_bar, first.h + s, first.Dh + y)
            learnt = self.method.update_input(self.block, a_bar)
            self.block = self.method.update_output(learnt, first, second)

        def keep(self, n: int) -> None:
            """Leave only the newest n pairs of ``H_g``."""
            H = self.pairs
            kept = replace(H, S=H.S[len(H.S) - n :], Y=H.Y[len(H.Y) - n :])
            self.block = replace(self.block, H_g=kept)

        @rule(
            data=st.data(),
            rows=st.lists(st.integers(0, 2), min_size=1, max_size=3),
            decades=st.tuples(*[st.integers(-3, 3)] * 2),
        )
        def any_pair(self, data: Any, rows: list[int], decades: tuple[int, int]) -> None:
            d = self.e.size
            s = data.draw(vectors(d))
            y = data.draw(vectors(d))
            self.update(s * 10.0 ** decades[0], y * 10.0 ** decades[1], rows)

        @rule(row=st.integers(0, 2), at=st.sampled_from([0, -1]))
        def negative_curvature_along_an_eigenvector(self, row: int, at: int) -> None:
            v = np.linalg.eigh(self.block.H_g.dense())[1][:, at]
            self.update(-v, v, [row])

        @rule(row=st.integers(0, 2))
        def worst_pair(self, row: int) -> None:
            if self.e.size == 1:
                return self.update(self.e, self.e, [row])
            f = np.linalg.qr(np.column_stack([self.e, np.eye(self.e.size)]))[0][:, 1]
            s, y = extremal_pair(self.method.mu1, self.method.gamma, self.block.lambda_g, self.e, f)
            self.update(s, y, [row])
            y = y + self.block.lambda_g * s
            self.e = y / np.linalg.norm(y)

        @rule()
        def drop_the_oldest(self) -> None:
            self.keep(max(len(self.pairs.S) - 1, 0))

        @rule(row=st.integers(0, 2))
        def drop_all_and_refill(self, row: int) -> None:
            self.keep(0)
            for _ in range(self.method.memory):
                self.worst_pair(row)

        @invariant()
        def within_bounds(self) -> None:
            if not hasattr(self, "block"):  # hypothesis asks once before begin
                return
            assert self.block.H_a is not None, "begin sets it"
            H_a = self.block.H_a.dense()
            H_g = self.block.H_g.dense()
            watch("H_g", H_g, self.bound_g, self.method.memory)
            watch("H_a", H_a, self.bound_a, self.method.memory)
            watch(
                "H_a ⊗ H_g", np.kron(H_a, H_g), self.bound_a.times(self.bound_g), self.method.memory
            )

    return Estimates


def watch(name: str, H: Array, bound: Bounds, memory: int) -> None:
    """State ``lo <= λ(H) <= hi`` up to rounding: p products whose factors have norms below 2√κ̂."""
    lo, *_, hi = (*np.linalg.eigvalsh(H), np.linalg.eigvalsh(H)[-1])
    u = rounding(FLOAT64.u, len(H), 4.0**memory * bound.hi)
    at_most(f"the largest eigenvalue of {name}", hi, "κ_hi", bound.hi, u)
    at_most("κ_lo", bound.lo, f"the smallest eigenvalue of {name}", lo, u)
