"""Mistakes in the machinery of the theorem: a ``Variant`` with one wrong field, and a check to
reject it.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple

from kfqn_ref._typing import InverseEstimate, Pair
from kfqn_ref.factors import input_factor
from kfqn_ref.layers import Blocks
from kfqn_ref.lbfgs import LBFGSInverse
from kfqn_ref.method.convergent import Convergent
from kfqn_ref.method.options import DpDlm, H0Damp, LbfgsOutput
from kfqn_ref.method.state import State, Step
from kfqn_ref.method.step import KFQN
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.testing.convergence import checks as c
from kfqn_ref.testing.convergence.lemmas import Array, Variant
from kfqn_ref.theory import bounds, theorem
from kfqn_ref.theory.bounds import Bounds
from kfqn_ref.theory.loss_constants import Smoothness, smoothness


class Mutant(NamedTuple):
    """A mistake in words, the variant that makes it, and a check that rejects it."""

    mistake: str
    variant: Variant
    rejected_by: Callable[[Variant], None]


def _without_checks(**values: Any) -> type[Convergent]:
    """Return the method with values, its own or options, that its own checks would refuse."""
    own = values.keys() & {field.name for field in fields(Convergent)}

    @dataclass(frozen=True)
    class Unchecked(Convergent):
        def __post_init__(self) -> None:
            # 'replace' copies the wrong values, so that right ones stand here for the checks
            self._set(Convergent())
            super().__post_init__()
            for name in own:
                object.__setattr__(self, name, values[name])
            inner = {name: values[name] for name in values.keys() - own}
            object.__setattr__(self, "options", replace(self.options, **inner))

        def _set(self, right: Convergent) -> None:
            for name in own:
                object.__setattr__(self, name, getattr(right, name))
            inner = {name: getattr(right.options, name) for name in values.keys() - own}
            object.__setattr__(self, "options", replace(self.options, **inner))

    return Unchecked


@dataclass(frozen=True)
class _GammaInverted(LbfgsOutput):
    def start(self, d_g: int, gamma: float, memory: int) -> InverseEstimate:
        return super().start(d_g, 1 / gamma, memory)


@dataclass(frozen=True)
class _StepGrows(Convergent):
    def __post_init__(self) -> None:
        object.__setattr__(self, "step_decay", abs(self.step_decay))
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
class _NothingDropped(LbfgsOutput):
    def start(self, d_g: int, gamma: float, memory: int) -> InverseEstimate:
        return super().start(d_g, gamma, 10 * memory)


Damped = tuple[Pair, bool]


class _Rule(NamedTuple):
    """A damping made of a function."""

    rule: Callable[[InverseEstimate, Array, Array, float, float], Damped]
    damping_below: float | None = None

    def __call__(self, H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> Damped:
        return self.rule(H, s, y, mu1, lam)


def _undamped(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> Damped:
    return Pair(s, y), False


def _without_lm(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> Damped:
    pair, acted = H0Damp()(H, s, y, mu1, lam)
    return Pair(pair.s, y), acted


def _swapped_weights(H: InverseEstimate, s: Array, y: Array, mu1: float, lam: float) -> Damped:
    assert isinstance(H, LBFGSInverse), "only L-BFGS has a gamma"
    sy = s @ y
    yHy = H.gamma * (y @ y)
    theta = 1.0 if sy >= mu1 * yHy else mu1 * yHy / (yHy - sy)
    s = theta * s + (1 - theta) * H.gamma * y
    return Pair(s, y + lam * s), bool(theta < 1)


def _lbfgs_bounds(
    mu: float, M: float, *, gamma: float, memory: int, d: int, mistake: str
) -> Bounds:
    def right(gamma: float = gamma, memory: int = memory) -> Bounds:
        return bounds.lbfgs_bounds(mu, M, gamma=gamma, memory=memory, d=d)

    root = bounds.kantorovich(mu, M) ** (memory / 2)
    wrong = {
        "exponent p - 1": Bounds(right().lo, right(memory=memory - 1).hi),
        "exponent p + 1": Bounds(right().lo, right(memory=memory + 1).hi),
        "gamma inverted above": Bounds(right().lo, right(gamma=1 / gamma).hi),
        "gamma inverted below": Bounds(right(gamma=1 / gamma).lo, right().hi),
        "one M": Bounds(1 / (1 / gamma + M), right().hi),
        "root of kappa": Bounds(right().lo, root * gamma + memory / mu),
    }
    return wrong[mistake]


def _input_radii(network: Network, x: Array, *, mistake: str) -> list[tuple[float, int]]:
    radii = bounds.input_radii(network, x)
    if mistake == "mean over t":
        return [(R_a / T, T) for R_a, T in radii]
    return [(R_a - T, T) for R_a, T in radii]  # without the 1 that stands for the bias


def _loss(
    network: Network, x: Array, target: Array, *, L: float = 1.0, sigma2: float = 1.0
) -> Smoothness:
    right = smoothness(network, x, target)
    return Smoothness(L * right.L, sigma2 * right.sigma2, right.f_low)


def _M_g(wrong: Callable[[float, float], float]) -> Variant:
    return Variant(pair_bound=lambda gamma, mu1, lam: wrong(mu1 * gamma, lam))


def _kappa(mu: float, M: float) -> float:
    return M / mu


def _long(L: float, kappa: Bounds) -> float:
    return 1 / (L * kappa.lo)


def _infinite(sigma2: float, m: int, population: int | None = None) -> float:
    return sigma2 / m


def _not_divided(sigma2: float, m: int, population: int | None = None) -> float:
    return sigma2


def _above(method: KFQN, R_a: float, lam: float, d: int) -> Bounds:
    return Bounds(1 / lam, bounds.input_bounds(method, R_a, lam, d).hi)


class _Unchecked(theorem.Rate):
    def __post_init__(self) -> None:
        pass


class _NoNoise(_Unchecked):
    @property
    def noise(self) -> float:
        return 0.0


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


def _radii(mistake: str) -> Variant:
    return Variant(input_radii=partial(_input_radii, mistake=mistake))


def _method(**values: Any) -> Variant:
    return Variant(method=_without_checks(**values))


MUTANTS = (
    Mutant("the exponent of κ̂ is p − 1", _bounds("exponent p - 1"), c.eigenvalues_stay_bounded),
    Mutant(
        "exponent p + 1: true, and not the lemma",
        _bounds("exponent p + 1"),
        c.exponent_of_kappa_is_attained,
    ),
    Mutant(
        "√κ̂ where the norm is squared", _bounds("root of kappa"), c.exponent_of_kappa_is_attained
    ),
    Mutant("gamma inverted in κ_hi", _bounds("gamma inverted above"), c.eigenvalues_stay_bounded),
    Mutant("gamma inverted in κ_lo", _bounds("gamma inverted below"), c.number_of_M_is_attained),
    Mutant("M once, not once a pair", _bounds("one M"), c.number_of_M_is_attained),
    Mutant(
        "gamma inverted in H_0",
        _method(output_inverse=_GammaInverted()),
        c.bounds_of_pairs_are_attained,
    ),
    Mutant(
        "damping against H_k, not H_0", _method(damp=DpDlm()), c.negative_curvature_leaves_B_bounded
    ),
    Mutant("the pair is not damped", _method(damp=_Rule(_undamped)), c.eigenvalues_stay_bounded),
    Mutant(
        "no Levenberg-Marquardt damping",
        _method(damp=_Rule(_without_lm)),
        c.pairs_of_h0_damping_are_bounded,
    ),
    Mutant(
        "mu1 and 1 − mu1 swapped in θ",
        _method(damp=_Rule(_swapped_weights)),
        c.pairs_of_h0_damping_are_bounded,
    ),
    Mutant(
        "the memory drops nothing",
        _method(output_inverse=_NothingDropped()),
        c.eigenvalues_stay_bounded,
    ),
    Mutant("momentum left on", _method(momentum=0.9), c.direction_is_unbiased),
    Mutant("H_a starts from batch 0", _method(starts_from_batch=True), c.direction_is_unbiased),
    Mutant(
        "H_a is that of the step's own batch", Variant(method=_OwnFactor), c.direction_is_unbiased
    ),
    Mutant("the steps grow", Variant(method=_StepGrows), c.direction_is_unbiased),
    Mutant(
        "M_g with mu1 gamma, not its inverse",
        _M_g(lambda m, lam: lam + m),
        c.bounds_of_pairs_are_attained,
    ),
    Mutant("M_g without λ", _M_g(lambda m, lam: 1 / m), c.pairs_of_h0_damping_are_bounded),
    Mutant(
        "κ for κ̂: true, and not sharp", Variant(kantorovich=_kappa), c.bounds_of_pairs_are_attained
    ),
    Mutant(
        "R_a is a mean over locations", _radii("mean over t"), c.input_radius_bounds_every_factor
    ),
    Mutant("R_a without the bias", _radii("no bias"), c.input_radius_bounds_every_factor),
    Mutant("half of L", Variant(smoothness=partial(_loss, L=0.5)), c.constants_of_the_loss_hold),
    Mutant(
        "half of σ²",
        Variant(smoothness=partial(_loss, sigma2=0.5)),
        c.constants_of_the_loss_are_attained,
    ),
    Mutant(
        "twice L: not sharp",
        Variant(smoothness=partial(_loss, L=2.0)),
        c.constants_of_the_loss_are_attained,
    ),
    Mutant(
        "the step is 1/(L κ_lo)",
        Variant(largest_step=_long, rate=_Unchecked),
        c.one_step_inequality_holds,
    ),
    Mutant(
        "no factor (D − m)/(D − 1)",
        Variant(sampling_variance=_infinite),
        c.variance_of_a_mini_batch_is_exact,
    ),
    Mutant(
        "σ² for σ²/m", Variant(sampling_variance=_not_divided), c.variance_of_a_mini_batch_is_exact
    ),
    Mutant("the noise forgotten", Variant(rate=_NoNoise), c.one_step_inequality_holds),
    Mutant("2 κ_hi for ½ κ_lo", Variant(rate=_NoHalf), c.one_step_inequality_holds),
    Mutant(
        "κ_hi/κ_lo inverted in the rate", Variant(rate=_RatioInverted), c.theorem_holds_along_runs
    ),
    Mutant(
        "noise of step 1 only",
        Variant(rate=_NoiseNotSummed),
        c.bound_is_the_worst_that_one_step_allows,
    ),
    Mutant(
        "N^(−b) for N^(b − 1)", Variant(rate=_WrongRate), c.bound_is_the_worst_that_one_step_allows
    ),
    Mutant("H_a above 1/λ", Variant(input_bounds=_above), c.eigenvalues_stay_bounded),
)
