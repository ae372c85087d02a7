"""The presets: what the published variants do differently, as values of the fields of one frozen
class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from kfqn_ref.optim.inverses import DenseInverse, DiagonalInverse, Inverse, LBFGSInverse, Stack
from kfqn_ref.optim.kernels import (
    damped_inverse,
    identity_damp_,
    lm_damp_,
    orthogonal,
    powell_damp_,
)

Damp = Callable[[Stack, Tensor, Tensor, float, Tensor], Tensor]
"""``(H, s, y, mu1, lam)``: damp the joined pairs in place; return the smallest theta, one a row.

``lam`` is ``(groups, 1)``."""


def dp_dlm_(H: Stack, s: Tensor, y: Tensor, mu1: float, lam: Tensor) -> Tensor:
    """Powell's damping, then Levenberg-Marquardt's with λ_G. Source: ren2021kfqn."""
    theta = powell_damp_(s, y, H.apply(y), mu1=mu1)
    lm_damp_(s, y, lam=lam)
    return theta


def h0_(H: Stack, s: Tensor, y: Tensor, mu1: float, lam: Tensor) -> Tensor:
    """Powell's damping against ``H_0 = gamma I`` of an L-BFGS ``H``, then Levenberg-Marquardt's;
    (9.1).

    Source: derived here, in the framework of wang2017sqn.
    """
    theta = powell_damp_(s, y, H.gamma * y, mu1=mu1)
    lm_damp_(s, y, lam=lam)
    return theta


def dd_(H: Stack, s: Tensor, y: Tensor, mu1: float, lam: Tensor) -> Tensor:
    """Double damping: Powell's, then Powell's with the identity, mu2 = λ_G. Source:
    goldfarb2020kbfgs.
    """
    theta = powell_damp_(s, y, H.apply(y), mu1=mu1)
    return torch.minimum(theta, identity_damp_(s, y, mu2=lam[:, 0]))


def sqrt_split(lam: float, T: float) -> tuple[float, float]:
    """Return (λ_A, λ_G) = (√λ, √λ). Source: goldfarb2020kbfgs, ren2021kfqn."""
    return sqrt(lam), sqrt(lam)


def location_split(lam: float, T: float) -> tuple[float, float]:
    """Return ``(λ_A, λ_G) = (√(λ|T|), √(λ/|T|))``. Source: ren2022kfqn."""
    return sqrt(lam * T), sqrt(lam / T)


def dense_input(A: Tensor, lam: float, memory: int, accept: Tensor) -> Inverse:
    """Start from ``(A + λ_A I)⁻¹`` as a matrix. Source: ren2021kfqn."""
    return DenseInverse.start(damped_inverse(A, lam, accept))


def lean_input(A: Tensor, lam: float, memory: int, accept: Tensor) -> Inverse:
    """Start from ``gamma I``, 1/gamma the mean eigenvalue of ``A + λ_A I``; ``A`` is its diagonal.

    Of all multiples of the identity this one has the trace of the inverse it stands for; it costs
    one pass over the input, and the pairs of (6.2) then correct it along ``ā̄``, where the spectrum
    of ``A`` lies far above its mean. Source: derived here.
    """
    mean = A.mean(-1)
    mean = torch.where(accept & torch.isfinite(mean), mean, 0.0)
    return LBFGSInverse.start(1 / (mean + lam), A.shape[-1], memory)


def diagonal_input(A: Tensor, lam: float, memory: int, accept: Tensor) -> Inverse:
    """Start from ``(A + λ_A I)⁻¹`` where ``A`` is diagonal, and is given as its diagonal."""
    return DiagonalInverse.start(1 / (torch.where(accept, A, 0.0) + lam))


def dense_output(gamma: Tensor, d: int, memory: int) -> Inverse:
    """Start from ``gamma I`` as a matrix; ``gamma`` is ``(groups,)``. Source: goldfarb2020kbfgs."""
    return DenseInverse.start(
        gamma[:, None, None] * torch.eye(d, dtype=gamma.dtype, device=gamma.device)
    )


def lbfgs_output(gamma: Tensor, d: int, memory: int) -> Inverse:
    """Start from ``gamma I`` as L-BFGS. Source: goldfarb2020kbfgs."""
    return LBFGSInverse.start(gamma, d, memory)


def fixed_output(gamma: Tensor, d: int, memory: int) -> Inverse:
    """Keep ``gamma I`` for ever: the output side learns nothing and needs no second pass."""
    return DiagonalInverse.start(gamma[:, None].expand(-1, d).clone())


@dataclass(frozen=True)
class Preconditioned:
    """The step goes along ``P = H_g M H_a``."""

    nesterov: ClassVar[bool] = False

    def __call__(self, P: Tensor) -> Tensor:
        """Return ``P``, ``(groups, d_g, d_a)``."""
        return P


@dataclass(frozen=True)
class Orthogonal:
    r"""The step goes nearly along the orthogonal factor (12.3) of ``H_g M H_a``.

    ``M`` is taken with Nesterov's momentum, ``β M + (1 − β) g``. The factor is multiplied by
    :math:`\sqrt{\max(1, d_g / d_a)}`.

    Args:
        steps: iterations of Newton and Schulz.

    Source: derived here, with jordan2024muon and du2026newtonmuon.
    """

    steps: int = 5
    nesterov: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def __call__(self, P: Tensor) -> Tensor:
        """Return the scaled orthogonal factor of every ``P``, ``(groups, d_g, d_a)``."""
        _, d_g, d_a = P.shape
        return orthogonal(P, self.steps) * sqrt(max(1, d_g / d_a))


Direction = Preconditioned | Orthogonal
"""What the step goes along."""


@dataclass(frozen=True)
class Preset:
    """What the published variants do differently.

    Args:
        name: how it is asked for.
        damp: damping of the output pair.
        output_inverse: first ``H_g``.
        split: λ and ``|T|`` to (λ_A, λ_G).
        averages_A: ``A`` is a moving average with decay ``pair_decay``, not the mini-batch's own.
        skip_below: a pair is skipped when ``sᵀy <= skip_below ‖s‖² ‖ḡ‖``.
        linear_only: convolutions are refused.
        curvature_interval: iterations from one curvature update to the next, unless the user says.
        eager_steps: number of initial iterations in which the curvature is always updated.
        square_decay: β₂, in [0, 1): the step is ``U = H_g (∇_W f + τ W) H_a`` in place of the
            gradient in Adam with Nesterov's momentum (kingma2015adam, dozat2016nadam); 0: it is
            ``P = H_g M H_a``.
        direction: what the step goes along, where ``square_decay`` is 0.
        damping_below: λ must be below this.
        lr, damping: step size and λ, unless the user says.
        momentum: decay of the gradient's moving average, unless the user says.
        step_decay: b of the step sizes ``lr (k + 1)^(−b)``, unless the user says.
        convergent: a step may use earlier mini-batches only, and ``H_a``, where dense, is the
            latest one's ``(A + λ_A I)⁻¹``; values that the theorem does not cover are refused.
    """

    name: str
    damp: Damp = dp_dlm_
    output_inverse: Callable[[Tensor, int, int], Inverse] = dense_output
    split: Callable[[float, float], tuple[float, float]] = sqrt_split
    averages_A: bool = False
    skip_below: float = 0.0
    linear_only: bool = False
    curvature_interval: int = 1
    eager_steps: int = 0
    square_decay: float = 0.0
    direction: Direction = Preconditioned()
    damping_below: float = float("inf")
    lr: float = 0.3
    damping: float = 0.1
    momentum: float = 0.9
    step_decay: float = 0.0
    convergent: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.square_decay < 1:
            raise ValueError(f"square_decay must be in [0, 1), got {self.square_decay}")
        if self.square_decay and self.direction != Preconditioned():
            raise ValueError(
                f"square_decay must be 0 with a direction of its own, got {self.square_decay}"
            )

    @property
    def learns_output(self) -> bool:
        """Whether ``H_g`` learns, so that every curvature update has a second pass."""
        return self.output_inverse is not fixed_output


_YEAR_2020 = {
    "damp": dd_,
    "averages_A": True,
    "skip_below": 1e-4,
    "linear_only": True,
    "damping_below": 1.0,
}

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("kbfgs_2020", **_YEAR_2020),
        Preset("kbfgs_l_2020", output_inverse=lbfgs_output, **_YEAR_2020),
        Preset("kfqn_cnn"),
        Preset("kfqn_cnn_l", output_inverse=lbfgs_output),
        Preset("kfqn_input", output_inverse=fixed_output),
        Preset(
            "kfqn_muon",
            output_inverse=fixed_output,
            direction=Orthogonal(),
            lr=0.02,
            momentum=0.95,
        ),
        Preset("kfqn_eager", curvature_interval=10, eager_steps=20),
        Preset("kfqn_adam", curvature_interval=10, square_decay=0.99, lr=0.01, damping=0.3),
        Preset("kbfgs_2022", split=location_split, curvature_interval=10),
        Preset("convergent", h0_, lbfgs_output, momentum=0.0, step_decay=0.7, convergent=True),
    )
}

INPUT_INVERSES = {"dense": dense_input, "lbfgs": lean_input}
"""How ``H_a`` is kept: a matrix, or the last ``memory`` pairs."""

FORMS = {**INPUT_INVERSES, "diagonal": diagonal_input}
"""These, and the exact inverse that layers with a diagonal ``A`` have whatever the option says."""
