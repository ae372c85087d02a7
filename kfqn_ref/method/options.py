"""What the presets do differently: one small type a concern, and :class:`Options` that holds one of
each (book: KF-QN-CNN).

How λ is split over the two sides, how the output pair is damped, how ``H_a`` and ``H_g`` start and
are kept, and when a pair is not believed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from kfqn_ref._typing import Array, InverseEstimate, Pair, require
from kfqn_ref.bfgs import DenseInverse
from kfqn_ref.damping import double_damp, dp_dlm_damp, h0_damp, identity_theta, powell_theta
from kfqn_ref.lbfgs import LBFGSInverse
from kfqn_ref.method import muon
from kfqn_ref.method.state import BlockState


def sqrt_split(lam: float, T: int) -> tuple[float, float]:
    """Return (λ_A, λ_G) = (√λ, √λ).   Source: goldfarb2020kbfgs, ren2021kfqn."""
    return np.sqrt(lam), np.sqrt(lam)


def location_split(lam: float, T: int) -> tuple[float, float]:
    """Return ``(λ_A, λ_G) = (√(λ|T|), √(λ/|T|))``.   Source: ren2022kfqn."""
    return np.sqrt(lam * T), np.sqrt(lam / T)


class Damp(Protocol):
    """A damping of the output pair; a call returns the damped pair, and whether it was changed."""

    damping_below: ClassVar[float | None]
    """What λ must be below, or None where any positive λ will do."""

    def __call__(
        self, H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float
    ) -> tuple[Pair, bool]:
        """Return the damped pair for the estimate ``H``, and whether the damping acted."""
        ...


@dataclass(frozen=True)
class DpDlm:
    """D_P D_LM: Powell's damping (2.1), then Levenberg-Marquardt's (2.3).

    Source: ren2021kfqn.
    """

    damping_below: ClassVar[float | None] = None

    def __call__(
        self, H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float
    ) -> tuple[Pair, bool]:
        """Return the D_P D_LM pair, and whether Powell's damping acted."""
        return dp_dlm_damp(H, s, y, mu1=mu1, lam=lam), powell_theta(H, s, y, mu1=mu1) < 1


@dataclass(frozen=True)
class DoubleDamp:
    """DD: Powell's damping (2.1), then that with the identity (2.2).

    Source: goldfarb2020kbfgs.
    """

    damping_below: ClassVar[float | None] = 1.0  # mu2 = λ_G must be in (0, 1)

    def __call__(
        self, H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float
    ) -> tuple[Pair, bool]:
        """Return the doubly damped pair, mu2 = lam, and whether one of the two dampings acted."""
        pair = double_damp(H, s, y, mu1=mu1, mu2=lam)
        acted = powell_theta(H, s, y, mu1=mu1) < 1 or identity_theta(pair.s, y, mu2=lam) < 1
        return pair, acted


@dataclass(frozen=True)
class H0Damp:
    """Damping against ``H_0 = gamma I`` instead of the running estimate (9.1); derived here."""

    damping_below: ClassVar[float | None] = None

    def __call__(
        self, H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float
    ) -> tuple[Pair, bool]:
        """Return the pair damped against ``gamma I``, and whether Powell's damping acted."""
        assert isinstance(H, LBFGSInverse), "only L-BFGS has a gamma"
        pair = h0_damp(s, y, gamma=H.gamma, mu1=mu1, lam=lam)
        return pair, bool(s @ y < mu1 * H.gamma * (y @ y))


class InputInverse(Protocol):
    """How ``H_a`` is kept: its start from a factor, and whether a later factor replaces it."""

    renews: ClassVar[bool]
    """True: ``H_a`` is made anew from every mini-batch's A; False: it learns from pairs (6.2)."""

    def start(self, A: Array, lam: float, memory: int) -> InverseEstimate:
        """Return ``H_a`` for the factor ``A`` (d_a, d_a) and ``lam`` = λ_A."""
        ...


@dataclass(frozen=True)
class BfgsInput:
    """``H_a`` is a matrix: ``(A_0 + λ_A I)⁻¹`` at first, then changed by BFGS."""

    renews: ClassVar[bool] = False

    def start(self, A: Array, lam: float, memory: int) -> InverseEstimate:
        """Return ``(A + lam I)⁻¹`` as a matrix."""
        return DenseInverse(np.linalg.inv(A + lam * np.eye(len(A))))


@dataclass(frozen=True)
class ExactInput(BfgsInput):
    """``H_a`` is the exact ``(A + λ_A I)⁻¹`` of the latest mini-batch."""

    renews: ClassVar[bool] = True


@dataclass(frozen=True)
class LbfgsInput:
    """``H_a`` is stored as the last ``memory`` pairs (the lean form), 2 p d_a numbers.

    Args:
        lean_above: layers with at most this many inputs d_a keep a matrix, as :class:`BfgsInput`.
    """

    lean_above: int = 0
    renews: ClassVar[bool] = False

    def start(self, A: Array, lam: float, memory: int) -> InverseEstimate:
        """Return L-BFGS from ``gamma I``, 1/gamma being the mean eigenvalue of ``A + lam I``."""
        d_a = len(A)
        if d_a <= self.lean_above:
            return BfgsInput().start(A, lam, memory)
        return LBFGSInverse.empty(d_a, gamma=1 / (lam + np.trace(A) / d_a), memory=memory)


class OutputInverse(Protocol):
    """How ``H_g`` is kept, and whether it learns from output pairs."""

    learns: ClassVar[bool]
    """False: steps 4.2 to 4.5 never happen, so that no iteration has a second pass."""

    def start(self, d_g: int, gamma: float, memory: int) -> InverseEstimate:
        """Return the first ``H_g``, ``gamma I`` (d_g, d_g)."""
        ...


@dataclass(frozen=True)
class BfgsOutput:
    """``H_g`` is a matrix, changed by BFGS."""

    learns: ClassVar[bool] = True

    def start(self, d_g: int, gamma: float, memory: int) -> InverseEstimate:
        """Return ``gamma I`` as a matrix."""
        return DenseInverse(gamma * np.eye(d_g))


@dataclass(frozen=True)
class LbfgsOutput:
    """``H_g`` is stored as the last ``memory`` pairs."""

    learns: ClassVar[bool] = True

    def start(self, d_g: int, gamma: float, memory: int) -> InverseEstimate:
        """Return L-BFGS from ``gamma I``."""
        return LBFGSInverse.empty(d_g, gamma=gamma, memory=memory)


@dataclass(frozen=True)
class FixedOutput:
    """``H_g`` stays ``gamma I``: the output side learns nothing and needs no second pass."""

    learns: ClassVar[bool] = False

    def start(self, d_g: int, gamma: float, memory: int) -> InverseEstimate:
        """Return ``gamma I``: L-BFGS that never gets a pair."""
        return LBFGSInverse.empty(d_g, gamma=gamma, memory=1)


class Direction(Protocol):
    """What the step goes along."""

    def __call__(self, block: BlockState, g: Array, beta: float) -> Array:
        """Return the direction of a block.

        Args:
            block: its average ``M`` has the newest gradient.   g: that gradient, (d_g, d_a).
            beta: decay of the average.
        """
        ...


@dataclass(frozen=True)
class Preconditioned:
    """``P = H_g M H_a``."""

    def __call__(self, block: BlockState, g: Array, beta: float) -> Array:
        """Return ``H_g M H_a``."""
        return block.along(block.M)


@dataclass(frozen=True)
class Orthogonal:
    """About the orthogonal factor of ``H_g M H_a``, with Nesterov's momentum (12.3).

    Args:
        steps: iterations of Newton and Schulz.

    Source: derived here, with jordan2024muon and du2026newtonmuon.
    """

    steps: int = 5

    def __post_init__(self) -> None:
        require((self.steps >= 1, "steps must be at least 1", self.steps))

    def __call__(self, block: BlockState, g: Array, beta: float) -> Array:
        """Return :func:`kfqn_ref.method.muon.direction`."""
        return muon.direction(block, g, beta=beta, steps=self.steps)


@dataclass(frozen=True)
class Options:
    """What a preset does differently from KF-QN-CNN; the defaults are KF-QN-CNN.

    Args:
        split: ``(λ, |T|)`` to ``(λ_A, λ_G)``.
        damp: damping of the output pair.
        input_inverse: how ``H_a`` starts and is kept.   output_inverse: the same of ``H_g``.
        averages_A: average A with ``pair_decay``; else use the mini-batch's own, never formed.
        starts_from_batch: without a warm start ``H_a`` starts from the A of the first mini-batch;
            else from ``A_0 = 0``, so that ``H_a`` is independent of it.
        square_decay: β₂, in [0, 1): ``U = H_g (∇_W f + τ W) H_a`` takes the gradient's place in
            Adam with Nesterov's momentum (kingma2015adam, dozat2016nadam); 0: the step is
            ``P = H_g M H_a``.
        direction: what the step goes along, where ``square_decay`` is 0.
        eager_steps: number of initial iterations in which the curvature is always updated.
        skip_below: a pair is skipped when ``sᵀy ≤ skip_below ‖s‖² ‖ḡ‖``; 0 asks for ``sᵀy > 0``
            only.
        linear_only: refuse networks with convolutions.

    Raises:
        ValueError: a value is outside its range.
    """

    split: Callable[[float, int], tuple[float, float]] = sqrt_split
    damp: Damp = DpDlm()
    input_inverse: InputInverse = BfgsInput()
    output_inverse: OutputInverse = BfgsOutput()
    averages_A: bool = False
    starts_from_batch: bool = True
    square_decay: float = 0.0
    direction: Direction = Preconditioned()
    eager_steps: int = 0
    skip_below: float = 0.0
    linear_only: bool = False

    def __post_init__(self) -> None:
        alone = self.square_decay == 0 or self.direction == Preconditioned()
        require(
            (alone, "square_decay must be 0 with a direction of its own", self.square_decay),
            (0 <= self.square_decay < 1, "square_decay must be in [0, 1)", self.square_decay),
            (self.eager_steps >= 0, "eager_steps must not be negative", self.eager_steps),
            (self.skip_below >= 0, "skip_below must not be negative", self.skip_below),
        )

    def check_damping(self, lam: float) -> None:
        """Refuse a λ that the damping of the output pair cannot use.

        Raises:
            ValueError: ``lam`` is not in ``(0, damping_below)``.
        """
        below: Any = self.damp.damping_below
        if below is not None and not 0 < lam < below:
            raise ValueError(f"damping must be in (0, {below:g}) with double damping, got {lam}")
