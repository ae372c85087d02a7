"""The variant with a convergence theorem (book: convergence); its constants are in
:mod:`kfqn_ref.theory`.

Against KF-QN-CNN(L): no momentum, step sizes ``α_k = lr (k + 1)^(−b)``, Powell's damping against
``H_0 = gamma I`` (9.1), and an ``H_a`` that is exact or L-BFGS. A step uses only what earlier
mini-batches left, so that given the past its direction is an unbiased estimate of ``H ∇f``; ``H_a``
starts as ``λ_A⁻¹ I``, or from a warm start.

Mini-batches must be drawn independently of each other, every sample with the same chance: then AS.2
holds.
"""

from dataclasses import dataclass, replace

import numpy as np

from kfqn_ref._typing import require
from kfqn_ref.method.options import (
    ExactInput,
    H0Damp,
    LbfgsInput,
    LbfgsOutput,
    Options,
    Preconditioned,
)
from kfqn_ref.method.step import KFQN

EXACT = Options(
    damp=H0Damp(),
    input_inverse=ExactInput(),
    output_inverse=LbfgsOutput(),
    starts_from_batch=False,
)
"""Options of :class:`Convergent` with an exact ``H_a``: its default."""

LEAN = replace(EXACT, input_inverse=LbfgsInput())
"""Options of :class:`Convergent` with L-BFGS on the pairs (6.2) instead of an exact inverse."""


@dataclass(frozen=True)
class Convergent(KFQN):
    """KF-QN-CNN(L) as the convergence theorem needs it; ``H_a`` is exact, or L-BFGS with
    ``options=LEAN``.

    Args:
        lr: c of ``α_k = c (k + 1)^(−b)``, positive; the theorem wants ``c <= 1 / (L κ_hi)``.
        step_decay: b, in (1/2, 1).
        gamma: scale of ``H_0 = gamma I`` of ``H_g``, positive.
        momentum: 0.
        weight_decay: τ; the theorem is then about ``f + ½ τ ‖θ‖²``, whose L is larger by τ.
        memory: p; keep it small where the constants matter, they grow like ``κ̂^p``.
        options: :data:`EXACT` or :data:`LEAN`, perhaps with another ``split``.

    Raises:
        ValueError: a value outside its range; the message names the assumption that it breaks.

    Source: derived here, in the framework of wang2017sqn.
    """

    momentum: float = 0.0
    step_decay: float = 0.7
    options: Options = EXACT

    def __post_init__(self) -> None:
        b = self.step_decay
        lam = self.damping
        diverges = "AS.4: sum alpha_k diverges, sum alpha_k² does not"
        unbiased = "AS.2: an unbiased gradient times H_k"
        definite = "AS.5: H_0 = gamma I, definite"
        at_least = "AS.5: H_g keeps p >= 1 pairs"
        require(
            (0 < self.lr < np.inf, "lr must be positive (AS.4: alpha_k > 0)", self.lr),
            (0.5 < b < 1, f"step_decay b must be in (1/2, 1) ({diverges})", b),
            (0 < self.gamma < np.inf, f"gamma must be positive ({definite})", self.gamma),
            (0 < lam < np.inf, "damping must be positive (AS.5: λ_A, λ_G > 0)", lam),
            (self.memory >= 1, f"memory must be at least 1 ({at_least})", self.memory),
            (self.momentum == 0, f"momentum must be 0 ({unbiased})", self.momentum),
        )
        self._check_options()
        super().__post_init__()

    def _check_options(self) -> None:
        """Refuse options that no lemma covers, with the assumption that they break."""
        options = self.options
        damp = options.damp
        H_a = options.input_inverse
        H_g = options.output_inverse
        covered = isinstance(H_a, ExactInput | LbfgsInput)
        few_pairs = "AS.5: at most p pairs from a multiple of I"
        uniform = "AS.5: one bound for the pairs of all iterations"
        independent = "AS.2: H_0 is independent of every mini-batch"
        beta2 = options.square_decay
        direction = options.direction
        plain = isinstance(direction, Preconditioned)
        from_batch = options.starts_from_batch
        require(
            (plain, "direction must be Preconditioned() (AS.2: P is linear in g)", direction),
            (beta2 == 0, "square_decay must be 0 (AS.2: as momentum)", beta2),
            (not from_batch, f"starts_from_batch must be False ({independent})", from_batch),
            (covered, f"H_a must be exact or L-BFGS ({few_pairs})", H_a),
            (isinstance(H_g, LbfgsOutput), f"H_g must be L-BFGS ({few_pairs})", H_g),
            (isinstance(damp, H0Damp), f"damp must be H0Damp() ({uniform})", damp),
        )
