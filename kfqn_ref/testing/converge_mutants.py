"""Mistakes in the theorem's own machinery, each a :class:`~kfqn_ref.testing.converge.Variant` that the checks reject."""

from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple

from kfqn_ref import convergent, theorem
from kfqn_ref._typing import InverseEstimate, Pair
from kfqn_ref.convergent import Bounds, Convergent
from kfqn_ref.factors import input_factor
from kfqn_ref.kfqn import State, Step
from kfqn_ref.layers import Blocks
from kfqn_ref.lbfgs import LBFGSInverse
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.smoothness import Smoothness, smoothness
from kfqn_ref.strategies import dp_dlm, lbfgs_output_start
from kfqn_ref.testing.converge import Array, Variant


class Mutant(NamedTuple):
    """A mistake in words, and the variant that makes it."""

    mistake: str
    variant: Variant


def _without_checks(**values: Any) -> type[Convergent]:
    """Return the method with values that its own checks would refuse."""

    @dataclass(frozen=True)
    class Unchecked(Convergent):
        def __post_init__(self) -> None:
            super().__post_init__()
            for name, value in values.items():
                assert name in {f.name for f in fields(self)}, "a mutant changes what exists"
                object.__setattr__(self, name, value)

    return Unchecked


@dataclass(frozen=True)
class _GammaInverted(Convergent):
    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "start_H_g", partial(lbfgs_output_start, gamma=1 / self.gamma))


@dataclass(frozen=True)
class _StepGrows(Convergent):
    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "step_decay", -self.step_decay)


@dataclass(frozen=True)
class _OwnFactor(Convergent):
    """The exact ``H_a`` of the mini-batch that the step itself uses."""

    def step(self, network: Network, params: Blocks, state: State, x: Array, target: Array) -> Step:
        records = forward_backward(network, params, x, target).records
        state = self._start(network, state, (input_factor(r.a_bar) for r in records), records)
        return super().step(network, params, state, x, target)


@dataclass(frozen=True)
class _NothingDropped(Convergent):
    def __post_init__(self) -> None:
        super().__post_init__()
        start = self.start_H_g
        object.__setattr__(self, "start_H_g", lambda d_g, memory: start(d_g, 10 * memory))


def _undamped(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> tuple[Pair, bool]:
    return Pair(s, y), False


def _without_lm(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> tuple[Pair, bool]:
    pair, acted = convergent.h0(H, s, y, mu1, lam)
    return Pair(pair.s, y), acted


def _swapped_weights(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> tuple[Pair, bool]:
    assert isinstance(H, LBFGSInverse), "only L-BFGS has a gamma"
    sy, yHy = s @ y, H.gamma * (y @ y)
    theta = 1.0 if sy >= mu1 * yHy else mu1 * yHy / (yHy - sy)
    s = theta * s + (1 - theta) * H.gamma * y
    return Pair(s, y + lam * s), theta < 1


def _lbfgs_bounds(mu: float, M: float, *, gamma: float, memory: int, d: int, mistake: str) -> Bounds:
    right = convergent.lbfgs_bounds(mu, M, gamma=gamma, memory=memory, d=d)
    wrong = {
        "exponent p − 1": Bounds(right.lo, convergent.lbfgs_bounds(mu, M, gamma=gamma, memory=memory - 1, d=d).hi),
        "exponent p + 1": Bounds(right.lo, convergent.lbfgs_bounds(mu, M, gamma=gamma, memory=memory + 1, d=d).hi),
        "gamma inverted": Bounds(right.lo, convergent.lbfgs_bounds(mu, M, gamma=1 / gamma, memory=memory, d=d).hi),
        "gamma inverted below": Bounds(1 / (gamma + memory * M), right.hi),
        "one M instead of p": Bounds(1 / (1 / gamma + M), right.hi),
        "√κ̂ instead of κ̂": Bounds(right.lo, convergent.kantorovich(mu, M) ** (memory / 2) * gamma + memory / mu),
    }  # fmt: skip  # one mistake a line
    return wrong[mistake]


def _input_radii(network: Network, x: Array, *, mistake: str) -> list[tuple[float, int]]:
    radii = convergent.input_radii(network, x)
    if mistake == "mean over t":
        return [(R_a / T, T) for R_a, T in radii]
    return [(R_a - T, T) for R_a, T in radii]  # without the 1 that stands for the bias


def _loss(network: Network, x: Array, target: Array, *, L: float = 1.0, sigma2: float = 1.0) -> Smoothness:
    right = smoothness(network, x, target)
    return Smoothness(L * right.L, sigma2 * right.sigma2, right.f_low)


class _Unchecked(theorem.Rate):
    def __post_init__(self) -> None:
        pass


class _NoNoise(_Unchecked):
    noise = property(lambda self: 0.0)


class _RatioInverted(_Unchecked):
    def running_mean(self, N: Array) -> Array:
        return super().running_mean(N) * (self.kappa.lo / self.kappa.hi) ** 2


class _NoiseNotSummed(_Unchecked):
    def running_mean(self, N: Array) -> Array:
        spent = self.gap + self.noise * self.c**2
        return 2 / (self.kappa.lo * self.c) * N ** (self.b - 1) * spent


class _WrongRate(_Unchecked):
    def running_mean(self, N: Array) -> Array:
        return super().running_mean(N) * N**-self.b / N ** (self.b - 1)


class _NoHalf(_Unchecked):
    def one_step(self, f: float, grad2: float, alpha: float) -> float:
        return f - 2 * alpha * self.kappa.hi * grad2 + self.noise * alpha**2


def _bounds(mistake: str) -> Variant:
    return Variant(lbfgs_bounds=partial(_lbfgs_bounds, mistake=mistake))


MUTANTS = (
    Mutant("the exponent of κ̂ is p − 1", _bounds("exponent p − 1")),
    Mutant("the exponent of κ̂ is p + 1: true, and not the lemma", _bounds("exponent p + 1")),
    Mutant("√κ̂ where the norm is squared", _bounds("√κ̂ instead of κ̂")),
    Mutant("gamma inverted in the upper bound", _bounds("gamma inverted")),
    Mutant("gamma inverted in the lower bound", _bounds("gamma inverted below")),
    Mutant("M counted once, not once a pair", _bounds("one M instead of p")),
    Mutant("gamma inverted in H_0", Variant(method=_GammaInverted)),
    Mutant("damping against H_k, not against H_0", Variant(method=_without_checks(damp=dp_dlm))),
    Mutant("the pair is not damped", Variant(method=_without_checks(damp=_undamped))),
    Mutant("Levenberg-Marquardt damping left out", Variant(method=_without_checks(damp=_without_lm))),
    Mutant("mu1 and 1 − mu1 swapped in θ", Variant(method=_without_checks(damp=_swapped_weights))),
    Mutant("the memory drops nothing", Variant(method=_NothingDropped)),
    Mutant("momentum left on", Variant(method=_without_checks(momentum=0.9))),
    Mutant(
        "H_a starts from the first mini-batch", Variant(method=_without_checks(first_factor=input_factor))
    ),
    Mutant("H_a is that of the step's own mini-batch", Variant(method=_OwnFactor)),
    Mutant("the steps grow", Variant(method=_StepGrows)),
    Mutant(
        "M_g with mu1 gamma, not its inverse", Variant(pair_bound=lambda gamma, mu1, lam: lam + mu1 * gamma)
    ),
    Mutant("M_g without λ", Variant(pair_bound=lambda gamma, mu1, lam: 1 / (mu1 * gamma))),
    Mutant("κ where κ̂ is meant: true, and not sharp", Variant(kantorovich=lambda mu, M: M / mu)),
    Mutant("R_a is a mean over locations", Variant(input_radii=partial(_input_radii, mistake="mean over t"))),
    Mutant("R_a without the bias", Variant(input_radii=partial(_input_radii, mistake="no bias"))),
    Mutant("half of L", Variant(smoothness=partial(_loss, L=0.5))),
    Mutant("half of σ²", Variant(smoothness=partial(_loss, sigma2=0.5))),
    Mutant("twice L: true, and not sharp", Variant(smoothness=partial(_loss, L=2.0))),
    Mutant(
        "the step is 1/(L κ_lo)", Variant(largest_step=lambda L, kappa: 1 / (L * kappa.lo), rate=_Unchecked)
    ),
    Mutant(
        "no factor (D − m)/(D − 1)", Variant(sampling_variance=lambda sigma2, m, population=None: sigma2 / m)
    ),
    Mutant("σ² instead of σ²/m", Variant(sampling_variance=lambda sigma2, m, population=None: sigma2)),
    Mutant("the noise forgotten", Variant(rate=_NoNoise)),
    Mutant("κ_lo/κ_hi inverted in the rate", Variant(rate=_RatioInverted)),
    Mutant("the noise of the first step only", Variant(rate=_NoiseNotSummed)),
    Mutant("N^(−b) where N^(b − 1) is meant", Variant(rate=_WrongRate)),
    Mutant("2 κ_hi where ½ κ_lo is meant", Variant(rate=_NoHalf)),
    Mutant(
        "1/λ instead of 1/(R + λ)", Variant(input_bounds=lambda method, R_a, lam, d: Bounds(1 / lam, 1 / lam))
    ),
)
