"""The theorem, held against numbers: expectations over every mini-batch of a small data set, and
runs.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from kfqn_ref.factors import input_factor
from kfqn_ref.layers import Blocks, Conv2d, Flatten, Linear, Sigmoid, Tanh
from kfqn_ref.losses import MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.method.convergent import LEAN, Convergent
from kfqn_ref.method.state import State
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.pooling import AvgPool2d
from kfqn_ref.testing.convergence.lemmas import Array, Variant
from kfqn_ref.testing.law import at_most, equal
from kfqn_ref.testing.tolerances import FLOAT64, rounding
from kfqn_ref.theory import bounds, theorem
from kfqn_ref.theory.bounds import Bounds
from kfqn_ref.theory.loss_constants import smoothness


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
            [
                forward_backward(self.network, params, self.x[r], self.target[r]).grads[0]
                for r in rows
            ]
        )


def problems() -> tuple[Problem, ...]:
    """Softmax regression; one convolution, Tanh, pooling and squared loss; the same with Sigmoid.

    Four samples: two images, each with two classes, so that the gradients vary at the minimum too.
    """
    rng = np.random.default_rng(11)
    x = np.repeat(rng.uniform(-1, 1, (2, 1, 4, 4)), 2, axis=0)
    classes = np.array([0, 1, 1, 2])
    found = [Problem(Network((Flatten(), Linear(16, 3)), SoftmaxCrossEntropy()), x, classes)]
    for phi, target in ((Tanh(), 2 * np.eye(3)[classes] - 1), (Sigmoid(), np.eye(3)[classes])):
        layers = (Conv2d(1, 3, 2, stride=2), phi, AvgPool2d(2), Flatten())
        found.append(Problem(Network(layers, MeanSquaredError()), x, target))
    return tuple(found)


OPTIONS = {"step_decay": 0.7, "damping": 4.0, "gamma": 0.5, "mu1": 0.5, "memory": 2}
"""λ_A = λ_G = 2 and gamma λ_G = 1: moderate constants, so that the inequalities have teeth."""


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
        params, state, _ = method.step(
            problem.network, params, state, problem.x[rows], problem.target[rows]
        )
    return method, params, state


def direction_is_unbiased(variant: Variant) -> None:
    """AS.2: ``E w_{k+1} = w_k − c (k+1)^(−b) H_k ∇f``, the mean being taken over every
    mini-batch.
    """
    for problem, kind, steps in product(problems(), ({}, {"options": LEAN}), (0, 1, 4)):
        method, params, state = after(variant, problem, steps, lr=0.5, **kind)
        block = state.blocks[0]
        lambda_a = method.options.split(method.damping, 1)[0]
        P = block.H_g @ problem.gradient(params)
        P = (block.H_a @ P.T).T if block.H_a is not None else P / lambda_a
        moved = [
            method.step(
                problem.network, params, state, problem.x[rows], problem.target[rows]
            ).params[0]
            for rows in batches(len(problem.x), 2)
        ]
        expected = params[0] - 0.5 * (steps + 1) ** -0.7 * P
        u = rounding(
            FLOAT64.u, params[0].size, float(np.linalg.norm(params[0]) + np.linalg.norm(P))
        )
        equal(f"E w after {steps} steps", np.mean(moved, axis=0), "w − α H ∇f", expected, u)


def one_step_inequality_holds(variant: Variant) -> None:
    """``E f(w⁺) <= f − ½ α κ_lo ‖∇f‖² + ½ L κ_hi² (σ²/m) α²`` over every mini-batch, at the largest
    step.
    """
    for problem, steps, m in product(problems(), (0, 3, 6), (2, 4)):
        method, params, state = after(variant, problem, steps)
        _one_step(variant, problem, method, params, state, m)
    for problem in problems():  # where ∇f is small, the noise is all there is
        method, params, state = after(variant, problem, 3)
        L = smoothness(problem.network, problem.x, problem.target).L
        for _ in range(1000):
            params = (params[0] - problem.gradient(params) / L,)
        _one_step(variant, problem, method, params, state, 1)


def _one_step(
    variant: Variant, problem: Problem, method: Convergent, params: Blocks, state: State, m: int
) -> None:
    L, sigma2, f_low = variant.smoothness(problem.network, problem.x, problem.target)
    kappa = bounds.constants(method, problem.network, problem.x).kappa
    alpha = variant.largest_step(L, kappa)
    f = problem.value(params)
    grad2 = float((problem.gradient(params) ** 2).sum())
    variance = variant.sampling_variance(sigma2, m, len(problem.x))
    rate = variant.rate(
        L, kappa, variance, f - f_low, min(alpha, theorem.largest_step(L, kappa)), 0.7
    )
    method = replace(method, lr=alpha * (state.k + 1) ** 0.7)  # so that α_k = alpha
    after_step = [
        problem.value(
            method.step(problem.network, params, state, problem.x[r], problem.target[r]).params
        )
        for r in batches(len(problem.x), m)
    ]
    u = rounding(FLOAT64.u, problem.x.size, abs(f) + 1)
    at_most("E f(w⁺)", np.mean(after_step), "its bound", rate.one_step(f, grad2, alpha), u)


def constants_of_the_loss_hold(variant: Variant) -> None:
    """L bounds the change of ∇f, σ² the exact variance of a sample's gradient, at small and large
    weights.
    """
    rng = np.random.default_rng(3)
    for problem, scale in product(problems(), (0.0, 0.1, 1.0, 4.0)):
        L, sigma2, _ = variant.smoothness(problem.network, problem.x, problem.target)
        W = scale * rng.standard_normal(problem.network.block_shapes[0])
        g = problem.gradient((W,))
        V = rng.standard_normal(W.shape)
        eps = 1e-4
        for _ in range(20):  # power iteration: V turns to where ∇f changes fastest
            V /= np.linalg.norm(V)
            change = problem.gradient((W + eps * V,)) - g
            at_most("‖∇f(W + εV) − ∇f(W)‖", np.linalg.norm(change), "L ε", L * eps, 1e-12)
            V = change if change.any() else V
        spread = ((problem.sample_gradients((W,)) - g) ** 2).sum(axis=(1, 2)).mean()
        at_most("mean ‖∇f_n − ∇f‖²", spread, "σ²", sigma2, 1e-12)


def constants_of_the_loss_are_attained(variant: Variant) -> None:
    """Softmax regression, two classes: ``‖∇²f(0)‖ = L``; D orthogonal inputs, all classed wrong,
    attain ``σ² (1 − 1/D)``.
    """
    x = np.random.default_rng(4).standard_normal((6, 3))
    target = np.array([0, 1, 0, 0, 1, 1])
    problem = Problem(Network((Linear(3, 2),), SoftmaxCrossEntropy()), x, target)
    L = variant.smoothness(*problem).L
    A = input_factor(np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)[:, None])
    V = np.outer([1, -1], np.linalg.eigh(A)[1][:, -1]) / np.sqrt(2)
    eps = 1e-4
    change = np.linalg.norm(problem.gradient((eps * V,)) - problem.gradient((-eps * V,))) / (
        2 * eps
    )
    equal("‖∇²f(0)‖", change, "L", L, L * eps)
    problem = Problem(
        Network((Linear(6, 2, bias=False),), SoftmaxCrossEntropy()), np.eye(6), target
    )
    W = 50.0 * np.array([target == 1, target == 0])
    g = problem.sample_gradients((W,))
    spread = ((g - g.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean()
    equal(
        "mean ‖∇f_n − ∇f‖²",
        spread,
        "σ² (1 − 1/D)",
        variant.smoothness(*problem).sigma2 * 5 / 6,
        1e-9,
    )


def variance_of_a_mini_batch_is_exact(variant: Variant) -> None:
    """``σ²/m`` with replacement and ``σ²/m (D − m)/(D − 1)`` without are exact for the exact σ²."""
    for problem, m in product(problems(), (1, 2, 3, 4)):
        D = len(problem.x)
        g = problem.sample_gradients(problem.network.init(np.random.default_rng(0)))
        spread = ((g - g.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean()
        drawn = {D: batches(D, m), None: map(list, product(range(D), repeat=m))}
        for population, rows in drawn.items():
            seen = np.mean([((g[r].mean(axis=0) - g.mean(axis=0)) ** 2).sum() for r in rows])
            bound = variant.sampling_variance(float(spread), m, population)
            equal(
                "E‖g − ∇f‖²", seen, f"its formula, population {population}", bound, 1e-12 * spread
            )


def bound_is_the_worst_that_one_step_allows(variant: Variant) -> None:
    """The rate is what an adversary gets who spends all one-step inequalities on one gradient, the
    last.
    """
    kappa = Bounds(0.2, 3.0)
    for b, N in product((0.55, 0.7, 0.9), (1, 2, 10, 400)):
        c = theorem.largest_step(2.0, kappa)
        rate = variant.rate(L=2.0, kappa=kappa, variance=0.7, gap=1.3, c=c, b=b)
        f = 1.3
        for k in range(1, N + 1):  # the first N steps at gradients of zero let f rise to its bound
            f = rate.one_step(f, 0.0, c * k**-b)
        grad2 = f / (0.5 * kappa.lo * c * N**-b)  # the last gradient brings it back to f_low = 0
        at = np.array([N])
        equal(
            "the adversary's mean", grad2 / N, "the bound", rate.running_mean(at)[0], 1e-12 * grad2
        )
        at_most(
            "the bound",
            rate.running_mean(at)[0],
            "that by parts",
            rate.running_mean_by_parts(at)[0],
            1e-9,
        )


def theorem_holds_along_runs(variant: Variant) -> None:
    """The mean over seeds of ``(1/N) Σ ‖∇f(w_k)‖²`` stays below its bound at every N."""
    for problem in problems():
        method = variant.method(**OPTIONS)
        L, sigma2, f_low = variant.smoothness(problem.network, problem.x, problem.target)
        kappa = bounds.constants(method, problem.network, problem.x).kappa
        method = replace(method, lr=variant.largest_step(L, kappa))
        start = problem.network.init(np.random.default_rng(0))
        variance = variant.sampling_variance(sigma2, 2, len(problem.x))
        gap = problem.value(start) - f_low
        rate = variant.rate(L, kappa, variance, gap, method.lr, 0.7)
        means = np.mean([_running_mean(problem, method, start, seed) for seed in range(3)], axis=0)
        N = np.arange(1, len(means) + 1)
        for n, mean, bound in zip(N, means, rate.running_mean(N), strict=True):
            at_most(f"the running mean at N = {n}", mean, "its bound", bound, 1e-12)


def _running_mean(problem: Problem, method: Convergent, params: Blocks, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    state = method.init(params)
    grad2 = []
    for _ in range(40):
        grad2.append((problem.gradient(params) ** 2).sum())
        rows = rng.choice(len(problem.x), 2, replace=False)
        params, state, _ = method.step(
            problem.network, params, state, problem.x[rows], problem.target[rows]
        )
    return np.cumsum(grad2) / np.arange(1, 41)


THEOREM: tuple[Callable[[Variant], None], ...] = (
    direction_is_unbiased,
    one_step_inequality_holds,
    constants_of_the_loss_hold,
    constants_of_the_loss_are_attained,
    variance_of_a_mini_batch_is_exact,
    bound_is_the_worst_that_one_step_allows,
    theorem_holds_along_runs,
)
