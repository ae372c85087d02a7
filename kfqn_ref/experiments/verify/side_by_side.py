"""Reference and torch on the same real mini-batches in float64, step by step: what ``kfqn verify``
measures.

Bounds, none of them fitted to results:

* deviation of weights, H_a, H_g: ``DEVIATION``, the agreement that the project claims. The claim is
  fair only if rounding cannot break it, so the reference runs a second time from weights that are
  changed by one unit roundoff. Every step adds such errors, of independent signs: what the change
  does, times the root of the number of steps, must stay below ``DEVIATION``.
* smallest eigenvalue: above ``d u ‖H‖``, the error of a computed eigenvalue: H is positive definite
  in fact.
* secant residual ``‖H⁺y − s‖``: the rounding error of (1.3), from its own conditioning, times
  ``‖y‖`` (:func:`kfqn_ref.testing.tolerances.inverse_update`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kfqn_ref.bridge import TorchRun
from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.verify.secant import blocks_of, secant_residuals
from kfqn_ref.layers import Conv2d, Flatten, Linear, ReLU, Tanh
from kfqn_ref.losses import SoftmaxCrossEntropy
from kfqn_ref.method.presets import preset
from kfqn_ref.method.state import Step
from kfqn_ref.method.step import KFQN
from kfqn_ref.method.train import fit
from kfqn_ref.network import Network
from kfqn_ref.testing.tolerances import FLOAT64

STEPS = 30
BATCH_SIZE = 100
SEED = 0
# the default values
LR = 0.3
DAMPING = 0.1
DEVIATION = 1e-9

CNN = Network(
    (
        Conv2d(1, 6, 3, padding=1, bias=False),
        ReLU(),
        Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
        ReLU(),
        Flatten(),
        Linear(128, 10),
    ),
    SoftmaxCrossEntropy(),
)
MLP = Network((Flatten(), Linear(64, 20), Tanh(), Linear(20, 10)), SoftmaxCrossEntropy())

Blocks = list[np.ndarray]


@dataclass(frozen=True)
class Snapshot:
    """Weights, H_a and H_g of all blocks and the events so far, after a step; and the loss before
    it.
    """

    W: Blocks
    H_a: Blocks
    H_g: Blocks
    loss: float
    damped: int
    skipped: int
    updates: int


@dataclass(frozen=True)
class Comparison:
    """What was measured for one preset; lists have one entry a step."""

    preset: str
    deviation_W: list[float]
    deviation_H_a: list[float]
    deviation_H_g: list[float]
    rounding: float
    smallest_H_a: float
    smallest_H_g: float
    eigenvalues_positive: bool
    secant: float
    secant_over_bound: float
    damped: int
    skipped: int
    updates: int
    events_agree: bool
    reference_loss: list[float]
    torch_loss: list[float]
    broken: list[str] = field(default_factory=list)

    @property
    def deviation(self) -> float:
        """The largest deviation of all."""
        return float(np.max([self.deviation_W, self.deviation_H_a, self.deviation_H_g]))


def network_of(method: KFQN) -> Network:
    """The network that a method is compared on: with convolutions, unless it refuses them."""
    return MLP if method.options.linear_only else CNN


def batches(train: Split, steps: int = STEPS) -> list[Split]:
    """The mini-batches of the comparison."""
    rng = np.random.default_rng(SEED)
    rows = [rng.permutation(len(train.y))[:BATCH_SIZE] for _ in range(steps)]
    return [Split(train.x[index], train.y[index]) for index in rows]


def compare(name: str, train: Split, steps: int = STEPS) -> Comparison:
    """Run both sides of one preset and measure."""
    method = preset(name, lr=LR, damping=DAMPING)
    network = network_of(method)
    data = batches(train, steps)
    start = network.init(np.random.default_rng(SEED))
    reference = [Step(start, method.init(start), np.nan), *fit(method, network, start, data)]
    ours = [snapshot(step) for step in reference[1:]]
    theirs = list(torch_run(name, network, start, data))
    moved = [snapshot(step) for step in fit(method, network, one_roundoff(start), data)]
    rounding = float(np.max([deviations(a, b) for a, b in zip(ours, moved, strict=True)]))
    residuals = [
        residual
        for before, after, batch, shot in zip(reference, reference[1:], data, theirs, strict=False)
        for residual in secant_residuals(
            method, network, (before, after), batch, (shot.H_a, shot.H_g), DEVIATION
        )
    ] or [(np.nan, np.nan)]
    per_step = np.array([deviations(a, b) for a, b in zip(ours, theirs, strict=True)])
    every = [H for side in (ours, theirs) for shot in side for H in (*shot.H_a, *shot.H_g)]
    comparison = Comparison(
        preset=name,
        deviation_W=per_step[:, 0].tolist(),
        deviation_H_a=per_step[:, 1].tolist(),
        deviation_H_g=per_step[:, 2].tolist(),
        rounding=rounding,
        smallest_H_a=smallest(H for side in (ours, theirs) for shot in side for H in shot.H_a),
        smallest_H_g=smallest(H for side in (ours, theirs) for shot in side for H in shot.H_g),
        eigenvalues_positive=all(map(positive_definite, every)),
        secant=float(np.max([r for r, _ in residuals])),
        secant_over_bound=float(np.max([r / bound for r, bound in residuals])),
        damped=ours[-1].damped,
        skipped=ours[-1].skipped,
        updates=ours[-1].updates,
        events_agree=all(events(a) == events(b) for a, b in zip(ours, theirs, strict=True)),
        reference_loss=[shot.loss for shot in ours],
        torch_loss=[shot.loss for shot in theirs],
    )
    comparison.broken.extend(broken_bounds(comparison, steps))
    return comparison


def broken_bounds(c: Comparison, steps: int) -> list[str]:
    """The bounds that a comparison breaks, in words; ``not x <= bound`` catches NaN."""
    rules = [
        (
            c.deviation <= DEVIATION,
            f"reference and torch differ by {c.deviation:.1e}, more than {DEVIATION:.0e}",
        ),
        (
            c.rounding * np.sqrt(steps) <= DEVIATION,
            f"one unit roundoff grows to {c.rounding:.1e}: too ill-conditioned to compare",
        ),
        (c.eigenvalues_positive, "H_a or H_g is not positive definite"),
        (
            c.secant_over_bound <= 1,
            f"the secant residual is {c.secant_over_bound:.1e} times its bound",
        ),
        (c.updates > 0, "no pair was accepted"),
        (c.events_agree, "reference and torch do not damp, skip and accept the same pairs"),
        (c.reference_loss[-1] < c.reference_loss[0], "the loss did not fall"),
    ]
    return [words for holds, words in rules if not holds]


def snapshot(step: Step) -> Snapshot:
    """What the reference has after a step."""
    blocks = blocks_of(step)
    H_a = [b.H_a.dense() for b in blocks if b.H_a is not None]
    H_g = [b.H_g.dense() for b in blocks]
    return Snapshot(list(step.params), H_a, H_g, step.loss, **totals([b.counts for b in blocks]))


def torch_run(name: str, network: Network, start: Any, data: Iterable[Split]) -> Iterator[Snapshot]:
    """What torch has after every step, from the same weights on the same mini-batches."""
    run = TorchRun(network, start, name, lr=LR, damping=DAMPING)
    for x, target in data:
        loss = run.step(x, target)
        H_a, H_g = run.inverses()
        yield Snapshot(list(run.params()), H_a, H_g, loss, **totals(run.counts()))


def totals(counts: list[Any]) -> dict[str, int]:
    """Events summed over layers, from the counts of either side."""
    return {
        "damped": sum(c.damped_g for c in counts),
        "skipped": sum(c.skipped_a + c.skipped_g for c in counts),
        "updates": sum(c.updates_a + c.updates_g for c in counts),
    }


def events(shot: Snapshot) -> tuple[int, int, int]:
    """Damped, skipped and accepted pairs so far."""
    return shot.damped, shot.skipped, shot.updates


def deviations(a: Snapshot, b: Snapshot) -> tuple[float, float, float]:
    """Largest relative deviation over the blocks of W, H_a, H_g, in the Frobenius norm."""

    def largest(left: Blocks, right: Blocks) -> float:
        ratios = [
            np.linalg.norm(x - y) / np.linalg.norm(x) for x, y in zip(left, right, strict=True)
        ]
        return float(np.max(ratios))  # unlike Python's max, it never drops a NaN

    return largest(a.W, b.W), largest(a.H_a, b.H_a), largest(a.H_g, b.H_g)


def one_roundoff(params: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The weights, each changed to a neighbouring float."""
    rng = np.random.default_rng(SEED + 1)
    return tuple(np.nextafter(W, rng.choice([-np.inf, np.inf], W.shape)) for W in params)


def smallest(matrices: Iterable[np.ndarray]) -> float:
    """The smallest eigenvalue of all."""
    return float(np.min([_smallest(H) for H in matrices]))


def _smallest(H: np.ndarray) -> float:
    return np.linalg.eigvalsh(H)[0] if np.isfinite(H).all() else np.nan


def positive_definite(H: np.ndarray) -> bool:
    """Whether the smallest eigenvalue is above the error of its computation."""
    if not np.isfinite(H).all():
        return False
    eigenvalues = np.linalg.eigvalsh(H)
    return bool(eigenvalues[0] > len(H) * FLOAT64.u * eigenvalues[-1])
