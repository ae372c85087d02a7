"""The theorem in numbers: the one-step inequality, the bound of the running mean (book:
convergence).
"""

from dataclasses import dataclass

import numpy as np

from kfqn_ref._typing import Array, require
from kfqn_ref.theory.bounds import Bounds


def largest_step(L: float, kappa: Bounds) -> float:
    """Return the largest α for which the one-step inequality is proved, ``1 / (L κ_hi)``.

    Raises:
        ValueError: L or a bound of ``kappa`` is not positive and finite.

    Source: derived here; wang2017sqn's framework gives ``κ_lo / (L κ_hi²)``, which is smaller.
    """
    require(
        (0 < L < np.inf, "L must be positive and finite (AS.1)", L),
        (0 < kappa.lo <= kappa.hi < np.inf, "kappa must be positive, finite (AS.5)", kappa),
    )
    return 1 / (L * kappa.hi)


def sampling_variance(sigma2: float, m: int, population: int | None = None) -> float:
    r"""Return the bound of ``E‖g − ∇f‖²`` for the mean g of m sample gradients, every sample
    equally likely.

    .. math:: \sigma^2 / m \ \text{with replacement}, \qquad
        \frac{\sigma^2}{m} \frac{D - m}{D - 1} \ \text{without, from a population of } D

    Raises:
        ValueError: m is not in [1, D]: AS.2 needs a sample.
    """
    largest = m if population is None else population
    if not 1 <= m <= largest:
        raise ValueError(
            f"m must be in [1, {population}] (AS.2: a mini-batch is a sample), got {m}"
        )
    if population is None or m == 1:
        return sigma2 / m
    return sigma2 / m * (population - m) / (population - 1)


@dataclass(frozen=True)
class Rate:
    """The theorem for steps ``α_k = c k^(−b)``, k = 1, 2, …

    Args:
        L: Lipschitz constant of ∇f.
        kappa: ``κ_lo I ⪯ H_k ⪯ κ_hi I``.
        variance: bound of ``E‖g − ∇f‖²``, the σ²/m of the theorem.
        gap: ``f(w_1) − f_low``.
        c, b: of the step sizes.

    Raises:
        ValueError: a value is outside its range, or ``c > 1 / (L κ_hi)``.

    Source: derived here, in the framework of wang2017sqn.
    """

    L: float
    kappa: Bounds
    variance: float
    gap: float
    c: float
    b: float

    def __post_init__(self) -> None:
        limit = largest_step(self.L, self.kappa)
        require(
            (0 <= self.variance < np.inf, "variance must be finite (AS.2)", self.variance),
            (0 <= self.gap < np.inf, "gap must not be negative (AS.1: f >= f_low)", self.gap),
            (0.5 < self.b < 1, "b must be in (1/2, 1) (AS.4)", self.b),
            (
                0 < self.c <= limit * (1 + 1e-12),  # up to the rounding of c = largest_step itself
                f"c must be in (0, 1/(L κ_hi)] = (0, {limit:.3g}] (AS.4)",
                self.c,
            ),
        )

    @property
    def noise(self) -> float:
        """``½ L κ_hi² σ²/m``: what a step of size α adds per α²."""
        return self.L * self.kappa.hi**2 * self.variance / 2

    def one_step(self, f: float, grad2: float, alpha: float) -> float:
        r"""Return the bound of ``E f(w_{k+1})`` given w_k, for ``α <= 1 / (L κ_hi)``.

        .. math::
            f - \tfrac12 \alpha \kappa_{lo} \|\nabla f\|^2 + \tfrac{L \kappa_{hi}^2 \sigma^2}{2 m}
            \alpha^2
        """
        return f - alpha * self.kappa.lo * grad2 / 2 + self.noise * alpha**2

    def running_mean(self, N: Array) -> Array:
        r"""Return the bound of ``(1/N) Σ_{k<=N} E‖∇f(w_k)‖²`` for every N of an array.

        .. math:: \frac{2}{\kappa_{lo} c} N^{b-1} \Bigl( f(w_1) - f_{low}
            + \frac{L \kappa_{hi}^2 \sigma^2 c^2}{2 m} \sum_{k \le N} k^{-2b} \Bigr)
        """
        powers = np.arange(1, N.max() + 1) ** (-2.0 * self.b)
        spent = self.gap + self.noise * self.c**2 * np.cumsum(powers)[N - 1]
        return 2 / (self.kappa.lo * self.c) * N ** (self.b - 1) * spent

    def running_mean_by_parts(self, N: Array) -> Array:
        r"""Return the weaker bound that summation by parts gives, the form of wang2017sqn's
        framework.

        .. math:: \frac{2 (M_f - f_{low})}{\kappa_{lo} c} N^{b-1}
            + \frac{L \kappa_{hi}^2 \sigma^2 c}{(1 - b) m \kappa_{lo}} (N^{-b} - b N^{-1})

        with ``M_f = f(w_1) + ½ L κ_hi² c² (σ²/m) ζ(2b)``, a bound of every ``E f(w_k)``, proved,
        not assumed.
        """
        from scipy.special import zeta  # here: it takes longer to import than all the rest

        M_f = self.gap + self.noise * self.c**2 * zeta(2 * self.b)
        first = 2 * M_f / (self.kappa.lo * self.c) * N ** (self.b - 1)
        noise = 2 * self.noise * self.c / self.kappa.lo * (N**-self.b - self.b / N)
        return first + noise / (1 - self.b)
