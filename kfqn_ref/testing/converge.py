"""The convergence theorem, held against numbers: one check a statement, each a function of a :class:`Variant`.

A check draws its cases, or enumerates every mini-batch of a small data set, and raises
:class:`~kfqn_ref.testing.law.Violation` where its statement does not hold.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from kfqn_ref import convergent, theorem
from kfqn_ref.bfgs import bfgs_direct_update
from kfqn_ref.convergent import LEAN_INPUT, Bounds, Convergent
from kfqn_ref.factors import input_factor
from kfqn_ref.kfqn import BlockState, State
from kfqn_ref.layers import AvgPool2d, Blocks, Conv2d, Flatten, Linear, Record, Sigmoid, Tanh
from kfqn_ref.lbfgs import lbfgs_dense
from kfqn_ref.losses import MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.smoothness import Smoothness, smoothness
from kfqn_ref.testing.law import at_most, equal
from kfqn_ref.testing.tolerances import FLOAT64, norm, powell, rounding

Array = np.ndarray


@dataclass(frozen=True)
class Variant:
    """All that the theorem is made of; a mutant has another value in one of the fields."""

    method: Callable[..., Convergent] = Convergent
    pair_bound: Callable[[float, float, float], float] = convergent.pair_bound
    kantorovich: Callable[[float, float], float] = convergent.kantorovich
    lbfgs_bounds: Callable[..., Bounds] = convergent.lbfgs_bounds
    input_bounds: Callable[..., Bounds] = convergent.input_bounds
    input_radii: Callable[[Network, Array], list[tuple[float, int]]] = convergent.input_radii
    smoothness: Callable[[Network, Array, Array], Smoothness] = smoothness
    largest_step: Callable[[float, Bounds], float] = theorem.largest_step
    sampling_variance: Callable[..., float] = theorem.sampling_variance
    rate: type[theorem.Rate] = theorem.Rate


class Problem(NamedTuple):
    """A network with one block, and a data set of which every mini-batch can be enumerated."""

    network: Network
    x: Array
    target: Array

    def value(self, params: Blocks) -> float:
        """Return f, the mean loss over the data."""
        return self.network.value(params, self.x, self.target)

    def gradient(self, params: Blocks) -> Array:
        """Return ∇f."""
        return forward_backward(self.network, params, self.x, self.target).grads[0]

    def sample_gradients(self, params: Blocks) -> Array:
        """Return ∇f_n of every sample, (D, d_g, d_a)."""
        rows = [slice(n, n + 1) for n in range(len(self.x))]
        return np.array(
            [forward_backward(self.network, params, self.x[r], self.target[r]).grads[0] for r in rows]
        )


def problems(D: int = 5) -> tuple[Problem, ...]:
    """Softmax regression; one convolution, Tanh, pooling and squared loss; the same with Sigmoid."""
    rng = np.random.default_rng(11)
    x, classes = rng.uniform(-1, 1, (D, 1, 4, 4)), rng.integers(0, 3, D)
    found = [Problem(Network((Flatten(), Linear(16, 3)), SoftmaxCrossEntropy()), x, classes)]
    for phi, target in ((Tanh(), 2 * np.eye(3)[classes] - 1), (Sigmoid(), np.eye(3)[classes])):
        layers = (Conv2d(1, 3, 2, stride=2), phi, AvgPool2d(2), Flatten())
        found.append(Problem(Network(layers, MeanSquaredError()), x, target))
    return tuple(found)


OPTIONS = {"damping": 4.0, "gamma": 0.5, "mu1": 0.5, "memory": 2}
"""λ_A = λ_G = 2 and gamma λ_G = 1: moderate constants, so that the inequalities have teeth."""


def pairs_of_h0_damping_are_bounded(variant: Variant) -> None:
    """(7.1): ``(ỹ − λ s̃)ᵀ(M_g s̃ − ỹ) >= 0``, so ``λ s̃ᵀs̃ <= s̃ᵀỹ`` and ``ỹᵀỹ <= M_g s̃ᵀỹ``."""
    rng = np.random.default_rng(0)
    for trial in range(200):
        d = 1 + trial % 4
        gamma, mu1, lam = (
            10.0 ** rng.integers(-1, 2),
            rng.choice([0.1, 0.5, 0.9]),
            10.0 ** rng.integers(-1, 2),
        )
        M, method = variant.pair_bound(gamma, mu1, lam), variant.method(gamma=gamma)
        drawn, y = rng.standard_normal((2, d)) * 10.0 ** rng.integers(-2, 3, (2, 1))
        (s, y_), _ = method.damp(method.start_H_g(d, 3), drawn, y, mu1, lam)
        slope = M * norm(y) + 2 * M * lam * norm(s) + 2 * lam * norm(y_)  # of the three, as functions of s̃
        u = powell(FLOAT64.u, gamma * np.eye(d), drawn, y) * slope + rounding(
            FLOAT64.u, d, M * norm(s) * norm(y_)
        )
        at_most("λ s̃ᵀs̃", lam * (s @ s), "s̃ᵀỹ", s @ y_, u)
        at_most("ỹᵀỹ", y_ @ y_, "M_g s̃ᵀỹ", M * (s @ y_), u)
        at_most("0", 0.0, "(ỹ − λ s̃)ᵀ(M_g s̃ − ỹ)", (y_ - lam * s) @ (M * s - y_), u)


def bounds_of_pairs_are_attained(variant: Variant) -> None:
    """M_g by ``s = mu1 gamma y``, κ̂ by the pair of :func:`extremal_pair`."""
    for mu1, gamma, lam in product((0.1, 0.5), (0.1, 1.0, 10.0), (0.1, 1.0, 10.0)):
        M, method = variant.pair_bound(gamma, mu1, lam), variant.method(gamma=gamma)
        H, e, f = method.start_H_g(2, 3), *np.eye(2)
        (s, y), _ = method.damp(H, mu1 * gamma * e, e, mu1, lam)
        equal("ỹᵀỹ", y @ y, "M_g s̃ᵀỹ", M * (s @ y), rounding(FLOAT64.u, 2, y @ y))
        (s, y), _ = method.damp(H, *extremal_pair(mu1, gamma, lam, e, f), mu1, lam)
        ratio = (s @ s) * (y @ y) / (s @ y) ** 2
        equal("‖s̃‖²‖ỹ‖²/(s̃ᵀỹ)²", ratio, "κ̂", variant.kantorovich(lam, M), rounding(FLOAT64.u, 2, ratio**2))


def extremal_pair(mu1: float, gamma: float, lam: float, e: Array, f: Array) -> tuple[Array, Array]:
    """Return (s, y) that (7.1) leaves as it is but for ``+ λ s``, and whose ``‖s‖²‖ỹ‖²/(sᵀỹ)²`` is κ̂.

    ``s = e``; e and f are orthogonal unit vectors. With c = 1/(mu1 gamma) and r = 1/λ + 2/c, the pair has
    ``sᵀy = 1/r`` and ``‖y‖² = c/r``: Powell's test holds with equality, and r maximises the ratio.
    """
    c = 1 / (mu1 * gamma)
    r = 1 / lam + 2 / c
    return e, e / r + np.sqrt(c / r - 1 / r**2) * f


def extremal_sequence(mu1: float, gamma: float, lam: float, n: int) -> tuple[Array, Array]:
    """Return n damped pairs in the plane, (n, 2) each, whose L-BFGS matrix has ``‖H‖ >= κ̂ⁿ gamma``.

    ``I − ρ s ỹᵀ`` stretches the direction orthogonal to s by √κ̂, to the one orthogonal to ỹ: so the next s is
    taken along ỹ.
    """
    e, S, Y = np.array([1.0, 0.0]), [], []
    for _ in range(n):
        s, y = extremal_pair(mu1, gamma, lam, e, np.array([-e[1], e[0]]))
        S.append(s)
        Y.append(y + lam * s)
        e = Y[-1] / np.linalg.norm(Y[-1])
    return np.array(S), np.array(Y)


def exponent_of_kappa_is_attained(variant: Variant) -> None:
    """Lemma A is sharp: a sequence of p pairs reaches ``κ̂^p gamma``, the bound less what it adds per pair."""
    for p, mu1, gamma, lam in product((1, 2, 3, 4), (0.1, 0.5), (0.5, 2.0), (0.1, 1.0)):
        M = variant.pair_bound(gamma, mu1, lam)
        kappa, hi = variant.kantorovich(lam, M), variant.lbfgs_bounds(lam, M, gamma=gamma, memory=p, d=2).hi
        S, Y = extremal_sequence(mu1, gamma, lam, p)
        H = np.linalg.norm(lbfgs_dense(S, Y, gamma=gamma), 2)
        u = rounding(FLOAT64.u, 2 * p, 4.0**p * hi)
        at_most("‖H‖", H, "its bound", hi, u)
        at_most("the bound without its sum", hi - sum(kappa**i for i in range(p)) / lam, "‖H‖", H, u)


def flattening_pair(mu1: float, gamma: float, lam: float, e: Array, f: Array) -> tuple[Array, Array, float]:
    """Return (s, y) with s = f and ỹ almost along e, and the share δ of M_g that it fails to add along e.

    ``eᵀB⁺e >= eᵀBe + (1 − δ) M_g`` where f is an eigenvector of B: s removes nothing along e, and ỹ adds
    ``(eᵀỹ)²/sᵀỹ``. The pair has ``sᵀy = 1/r`` and ``‖y‖² = c/r`` as :func:`extremal_pair`, with r = 1/√(λ c).
    """
    c = 1 / (mu1 * gamma)
    r = 1 / np.sqrt(lam * c)
    y = f / r + np.sqrt(c / r - 1 / r**2) * e
    y_ = y + lam * f
    return f, y, 1 - (e @ y_) ** 2 / (f @ y_) / (lam + c)


def number_of_M_is_attained(variant: Variant) -> None:
    """Lemma A is sharp below too: for small λ, p pairs bring ``‖B‖`` to ``1/gamma + p M_g`` up to a share δ."""
    for p, mu1, gamma in product((1, 2, 3), (0.1, 0.5), (0.1, 1.0, 10.0)):
        lam = 1e-6 / gamma
        M = variant.pair_bound(gamma, mu1, lam)
        lo = variant.lbfgs_bounds(lam, M, gamma=gamma, memory=p, d=2).lo
        B, missing = np.eye(2) / gamma, 0.0
        for _ in range(p):
            f, e = np.linalg.eigh(B)[1].T
            s, y, delta = flattening_pair(mu1, gamma, lam, e, f)
            B, missing = bfgs_direct_update(B, s, y + lam * s), missing + M * delta
        size = np.linalg.norm(B, 2)
        at_most("‖B‖", size, "1/κ_lo", 1 / lo, rounding(FLOAT64.u, 2 * p, 1 / lo))
        at_most(
            "1/κ_lo without what δ misses", 1 / lo - missing, "‖B‖", size, rounding(FLOAT64.u, 2 * p, 1 / lo)
        )


def negative_curvature_repeats(method: Convergent, n: int) -> list[float]:
    """Return ``‖B‖`` of ``H_g`` after each of n updates along one direction of negative curvature.

    Outputs move by −1, their gradients by +1, again and again, as on a concave stretch of the loss. With one
    output every damped pair alone makes the next ``H_g``.
    """
    ones, zero = np.ones((1, 1, 1)), np.zeros(1)
    H_a, H_g = method.start_H_a(np.zeros((1, 1)), 1.0, method.memory), method.start_H_g(1, method.memory)
    state = State(
        0, (BlockState(ones[0], H_a, H_g, zero, zero, None, *map(float, method.split(method.damping, 1)), 1),)
    )
    norms = []
    for _ in range(n):
        first = Record(ones, ones, -ones)
        state = method.update(state, (first,), (Record(ones, 0 * ones, 0 * ones),))
        norms.append(1 / float(state.blocks[0].H_g.dense()[0, 0]))
    return norms


def negative_curvature_leaves_B_bounded(variant: Variant) -> None:
    """Against ``H_0`` every ``‖B‖ = M_g``; against H_k each would be the last one over mu1, plus λ."""
    for gamma, mu1, memory in product((0.5, 2.0), (0.1, 0.5), (1, 3)):
        method = variant.method(gamma=gamma, mu1=mu1, memory=memory, damping=4.0)
        M = variant.pair_bound(gamma, mu1, 2.0)
        norms = negative_curvature_repeats(method, 12)
        equal("‖B‖ of 12 updates", norms, "M_g", [M] * 12, rounding(FLOAT64.u, 4, 12 * M))


def batches(D: int, m: int) -> Iterator[list[int]]:
    """Every mini-batch of m different samples, each equally likely."""
    return map(list, combinations(range(D), m))


def after(
    variant: Variant, problem: Problem, steps: int, **options: object
) -> tuple[Convergent, Blocks, State]:
    """Return the method, and parameters and state after some iterations from one seed."""
    method = variant.method(**(OPTIONS | options))
    rng = np.random.default_rng(5)
    params = problem.network.init(rng)
    state = method.init(params)
    for _ in range(steps):
        rows = rng.choice(len(problem.x), 2, replace=False)
        params, state, _ = method.step(problem.network, params, state, problem.x[rows], problem.target[rows])
    return method, params, state


def direction_is_unbiased(variant: Variant) -> None:
    """AS.2: ``E θ_{k+1} = θ_k − c (k+1)^(−b) H_k ∇f``, the mean being taken over every mini-batch."""
    for problem, kind, steps in product(problems(), ({}, LEAN_INPUT), (0, 1, 4)):
        method, params, state = after(variant, problem, steps, lr=0.5, **kind)
        block = state.blocks[0]
        lambda_a = method.split(method.damping, 1)[0]
        P = block.H_g @ problem.gradient(params)
        P = (block.H_a @ P.T).T if block.H_a is not None else P / lambda_a
        moved = [
            method.step(problem.network, params, state, problem.x[rows], problem.target[rows]).params[0]
            for rows in batches(len(problem.x), 2)
        ]
        expected = params[0] - 0.5 * (steps + 1) ** -method.step_decay * P
        u = rounding(FLOAT64.u, params[0].size, float(np.linalg.norm(params[0]) + np.linalg.norm(P)))
        equal(f"E θ after {steps} steps", np.mean(moved, axis=0), "θ − α H ∇f", expected, u)


def one_step_inequality_holds(variant: Variant) -> None:
    """``E f(θ⁺) <= f − ½ α κ_lo ‖∇f‖² + ½ L κ_hi² (σ²/m) α²`` over every mini-batch, at the largest step."""
    for problem, steps, m in product(problems(), (0, 3, 6), (2, 5)):
        method, params, state = after(variant, problem, steps)
        _one_step(variant, problem, method, params, state, m)
    for problem in problems():  # where ∇f is small, the noise is all there is
        method, params, state = after(variant, problem, 3)
        L = smoothness(problem.network, problem.x, problem.target).L
        for _ in range(300):
            params = (params[0] - problem.gradient(params) / L,)
        _one_step(variant, problem, method, params, state, 1)


def _one_step(
    variant: Variant, problem: Problem, method: Convergent, params: Blocks, state: State, m: int
) -> None:
    L, sigma2, f_low = variant.smoothness(problem.network, problem.x, problem.target)
    kappa = convergent.constants(method, problem.network, problem.x).kappa
    alpha = variant.largest_step(L, kappa)
    f, grad2 = problem.value(params), float((problem.gradient(params) ** 2).sum())
    variance = variant.sampling_variance(sigma2, m, len(problem.x))
    rate = variant.rate(L, kappa, variance, f - f_low, min(alpha, theorem.largest_step(L, kappa)), 0.7)
    method = replace(method, lr=alpha * (state.k + 1) ** method.step_decay)  # so that α_k = alpha
    after_step = [
        problem.value(method.step(problem.network, params, state, problem.x[r], problem.target[r]).params)
        for r in batches(len(problem.x), m)
    ]
    u = rounding(FLOAT64.u, problem.x.size, abs(f) + 1)
    at_most("E f(θ⁺)", np.mean(after_step), "its bound", rate.one_step(f, grad2, alpha), u)


def constants_of_the_loss_hold(variant: Variant) -> None:
    """L bounds the change of ∇f, σ² the exact variance of a sample's gradient, at small and large weights."""
    rng = np.random.default_rng(3)
    for problem, scale in product(problems(), (0.0, 0.1, 1.0, 4.0)):
        L, sigma2, _ = variant.smoothness(problem.network, problem.x, problem.target)
        W = scale * rng.standard_normal(problem.network.block_shapes[0])
        g, V, eps = problem.gradient((W,)), rng.standard_normal(W.shape), 1e-4
        for _ in range(20):  # power iteration: V turns to where ∇f changes fastest
            V /= np.linalg.norm(V)
            change = problem.gradient((W + eps * V,)) - g
            at_most("‖∇f(W + εV) − ∇f(W)‖", np.linalg.norm(change), "L ε", L * eps, 1e-12)
            V = change if change.any() else V
        spread = ((problem.sample_gradients((W,)) - g) ** 2).sum(axis=(1, 2)).mean()
        at_most("mean ‖∇f_n − ∇f‖²", spread, "σ²", sigma2, 1e-12)


def constants_of_the_loss_are_attained(variant: Variant) -> None:
    """Softmax regression: ``‖∇²f(0)‖ = L`` for two classes; D orthogonal inputs, all wrong, vary by ``σ² (1 − 1/D)``."""
    x, target = np.random.default_rng(4).standard_normal((6, 3)), np.array([0, 1, 0, 0, 1, 1])
    problem = Problem(Network((Linear(3, 2),), SoftmaxCrossEntropy()), x, target)
    L = variant.smoothness(*problem).L
    A = input_factor(np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)[:, None])
    V, eps = np.outer([1, -1], np.linalg.eigh(A)[1][:, -1]) / np.sqrt(2), 1e-4
    change = np.linalg.norm(problem.gradient((eps * V,)) - problem.gradient((-eps * V,))) / (2 * eps)
    equal("‖∇²f(0)‖", change, "L", L, L * eps)
    problem = Problem(Network((Linear(6, 2, bias=False),), SoftmaxCrossEntropy()), np.eye(6), target)
    W = 50.0 * np.array([target == 1, target == 0])
    g = problem.sample_gradients((W,))
    spread = ((g - g.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean()
    equal("mean ‖∇f_n − ∇f‖²", spread, "σ² (1 − 1/D)", variant.smoothness(*problem).sigma2 * 5 / 6, 1e-9)


def variance_of_a_mini_batch_is_exact(variant: Variant) -> None:
    """``σ²/m`` with replacement and ``σ²/m (D − m)/(D − 1)`` without are exact for the exact σ²."""
    for problem, m in product(problems(), (1, 2, 3, 5)):
        D = len(problem.x)
        g = problem.sample_gradients(problem.network.init(np.random.default_rng(0)))
        spread = ((g - g.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean()
        drawn = {D: batches(D, m), None: map(list, product(range(D), repeat=m))}
        for population, rows in drawn.items():
            seen = np.mean([((g[r].mean(axis=0) - g.mean(axis=0)) ** 2).sum() for r in rows])
            bound = variant.sampling_variance(float(spread), m, population)
            equal("E‖g − ∇f‖²", seen, f"its formula, population {population}", bound, 1e-12 * spread)


def input_radius_bounds_every_factor(variant: Variant) -> None:
    """AS.3: ``‖A‖ <= R_a`` for every mini-batch at any weights, with equality where all activations saturate."""
    rng = np.random.default_rng(8)
    layers = (
        Conv2d(1, 2, 2, padding=1),
        Tanh(),
        AvgPool2d(2),
        Conv2d(2, 3, 2),
        Sigmoid(),
        Flatten(),
        Linear(3, 2),
    )
    network = Network(layers, SoftmaxCrossEntropy())
    x, target = rng.uniform(-1, 1, (4, 1, 4, 4)), rng.integers(0, 2, 4)
    radii = variant.input_radii(network, x)
    for scale in (0.0, 1.0, 100.0):
        params = tuple(scale * rng.standard_normal(shape) for shape in network.block_shapes)
        for rows in ([0], [1, 2], [0, 1, 2, 3]):
            records = forward_backward(network, params, x[rows], target[rows]).records
            for (R_a, T), record in zip(radii, records, strict=True):
                equal("|T|", T, "the locations seen", record.a_bar.shape[1], 0.0)
                at_most("‖A‖", np.linalg.norm(input_factor(record.a_bar), 2), "R_a", R_a, 1e-12 * R_a)
    saturated = tuple(
        np.pad(np.zeros((a, b - 1)), ((0, 0), (0, 1)), constant_values=99.0) for a, b in network.block_shapes
    )
    records = forward_backward(network, saturated, x, target).records
    for (R_a, _), record in zip(radii[1:], records[1:], strict=True):
        equal("‖A‖, saturated", np.linalg.norm(input_factor(record.a_bar), 2), "R_a", R_a, 1e-9 * R_a)
    worst = max(np.linalg.norm(input_factor(records[0].a_bar[n : n + 1]), 2) for n in range(4))
    equal("the largest ‖A_n‖ of the data", worst, "R_a", radii[0][0], 1e-12 * worst)


def bound_is_the_worst_that_one_step_allows(variant: Variant) -> None:
    """The rate is what an adversary gets who may spend the one-step inequalities on one gradient, the last."""
    kappa = Bounds(0.2, 3.0)
    for b, N in product((0.55, 0.7, 0.9), (1, 2, 10, 400)):
        c = theorem.largest_step(2.0, kappa)
        rate = variant.rate(L=2.0, kappa=kappa, variance=0.7, gap=1.3, c=c, b=b)
        f = 1.3
        for k in range(1, N + 1):  # the first N steps at gradients of zero let f rise to its bound
            f = rate.one_step(f, 0.0, c * k**-b)
        grad2 = f / (0.5 * kappa.lo * c * N**-b)  # the last gradient brings it back to f_low = 0
        at = np.array([N])
        equal("the adversary's mean", grad2 / N, "the bound", rate.running_mean(at)[0], 1e-12 * grad2)
        at_most(
            "the bound", rate.running_mean(at)[0], "that by parts", rate.running_mean_by_parts(at)[0], 1e-9
        )


def theorem_holds_along_runs(variant: Variant) -> None:
    """The mean over seeds of ``(1/N) Σ ‖∇f(θ_k)‖²`` stays below its bound at every N."""
    for problem in problems():
        method = variant.method(**OPTIONS)
        L, sigma2, f_low = variant.smoothness(problem.network, problem.x, problem.target)
        kappa = convergent.constants(method, problem.network, problem.x).kappa
        method = replace(method, lr=variant.largest_step(L, kappa))
        start = problem.network.init(np.random.default_rng(0))
        variance = variant.sampling_variance(sigma2, 2, len(problem.x))
        gap = problem.value(start) - f_low
        rate = variant.rate(L, kappa, variance, gap, method.lr, method.step_decay)
        means = np.mean([_running_mean(problem, method, start, seed) for seed in range(3)], axis=0)
        N = np.arange(1, len(means) + 1)
        for n, mean, bound in zip(N, means, rate.running_mean(N), strict=True):
            at_most(f"the running mean at N = {n}", mean, "its bound", bound, 1e-12)


def _running_mean(problem: Problem, method: Convergent, params: Blocks, seed: int) -> Array:
    rng, state, grad2 = np.random.default_rng(seed), method.init(params), []
    for _ in range(40):
        grad2.append((problem.gradient(params) ** 2).sum())
        rows = rng.choice(len(problem.x), 2, replace=False)
        params, state, _ = method.step(problem.network, params, state, problem.x[rows], problem.target[rows])
    return np.cumsum(grad2) / np.arange(1, 41)


CHECKS: tuple[Callable[[Variant], None], ...] = (
    pairs_of_h0_damping_are_bounded,
    bounds_of_pairs_are_attained,
    exponent_of_kappa_is_attained,
    number_of_M_is_attained,
    negative_curvature_leaves_B_bounded,
    direction_is_unbiased,
    one_step_inequality_holds,
    constants_of_the_loss_hold,
    constants_of_the_loss_are_attained,
    variance_of_a_mini_batch_is_exact,
    input_radius_bounds_every_factor,
    bound_is_the_worst_that_one_step_allows,
    theorem_holds_along_runs,
)
