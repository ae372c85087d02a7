"""Both sides of the convergence theorem along runs on the digits: what ``kfqn converge`` measures.

Mini-batches are drawn independently, every sample with the same chance; gradients of f are exact;
nothing of the bound is fitted: L, σ², R_a and κ come from the functions that the theorem's checks
hold.
"""

import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy import stats

from kfqn_ref.experiments.data import digits
from kfqn_ref.layers import Conv2d, Flatten, Linear, Tanh
from kfqn_ref.losses import MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.method.convergent import EXACT, LEAN, Convergent
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.pooling import AvgPool2d
from kfqn_ref.theory.bounds import Bounds, Constants, constants
from kfqn_ref.theory.loss_constants import Smoothness, smoothness
from kfqn_ref.theory.theorem import Rate, largest_step, sampling_variance

STRETCH = 10.0
"""The second run of (iv) takes steps longer than the theorem allows, by this factor."""

SPECTRUM_EVERY = 50
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Setup:
    """What is run.

    Raises:
        ValueError: a count is too small, or the method refuses a value; the message names the
            assumption.
    """

    iterations: int = 800
    seeds: int = 4
    samples: int = 200
    batch_size: int = 20
    exponents: tuple[float, ...] = (0.55, 0.7, 0.9)
    damping: float = 100.0
    gamma: float = 0.5
    mu1: float = 0.5
    memory: int = 2
    lean: bool = False

    def __post_init__(self) -> None:
        for name, least in (("iterations", 20), ("seeds", 2), ("samples", 10), ("batch_size", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        sampling_variance(1.0, self.batch_size, self.samples)
        for b in self.exponents:
            self.method(b)

    def method(self, b: float) -> Convergent:
        """Return the method with step sizes ``k^(−b)``."""
        options = LEAN if self.lean else EXACT
        return Convergent(
            step_decay=b,
            damping=self.damping,
            gamma=self.gamma,
            mu1=self.mu1,
            memory=self.memory,
            options=options,
        )


class Task(NamedTuple):
    """A network, the data that f is the mean loss of, and what is known of f."""

    name: str
    network: Network
    x: np.ndarray
    target: np.ndarray
    loss: Smoothness


def tasks(samples: int) -> tuple[Task, ...]:
    """Softmax regression, convex; convolution, Tanh, pooling and squared loss, not convex; on
    digits.
    """
    train = digits().train
    x = train.x[:samples]
    y = train.y[:samples]
    softmax = Network((Flatten(), Linear(64, 10)), SoftmaxCrossEntropy())
    conv = Network(
        (Conv2d(1, 10, 4, stride=2), Tanh(), AvgPool2d(3), Flatten()), MeanSquaredError()
    )
    found = (("softmax", softmax, y), ("tanh conv", conv, 2 * np.eye(10)[y] - 1))
    return tuple(Task(name, network, x, t, smoothness(network, x, t)) for name, network, t in found)


class Trace(NamedTuple):
    """One run: ``‖∇f(w_k)‖²`` for k = 1 … N, and the extreme eigenvalues of ``H_a ⊗ H_g`` that it
    had.
    """

    grad2: np.ndarray
    spectrum: Bounds


def trace(task: Task, method: Convergent, setup: Setup, seed: int) -> Trace:
    """Run the method once; all runs start from the same weights."""
    rng = np.random.default_rng(seed)
    params = task.network.init(np.random.default_rng(0))
    state = method.init(params)
    grad2 = []
    lo = np.inf
    hi = 0.0
    for k in range(setup.iterations):
        g = forward_backward(task.network, params, task.x, task.target).grads[0]
        grad2.append(float((g**2).sum()))
        rows = rng.choice(len(task.x), setup.batch_size, replace=False)
        params, state, _ = method.step(task.network, params, state, task.x[rows], task.target[rows])
        if k % SPECTRUM_EVERY == 0:
            block = state.blocks[0]
            assert block.H_a is not None, "the first step sets it"
            a = np.linalg.eigvalsh(block.H_a.dense())
            g = np.linalg.eigvalsh(block.H_g.dense())
            lo = min(lo, a[0] * g[0])
            hi = max(hi, a[-1] * g[-1])
    return Trace(np.array(grad2), Bounds(float(lo), float(hi)))


class Slope(NamedTuple):
    """Log-log slope of the running mean over the last half: mean over seeds, and confidence
    interval.
    """

    value: float
    lo: float
    hi: float


def running_mean(grad2: np.ndarray) -> np.ndarray:
    """Return ``(1/N) Σ_{k<=N} ‖∇f(w_k)‖²`` for every N, along the last axis."""
    return np.cumsum(grad2, axis=-1) / np.arange(1, grad2.shape[-1] + 1)


def slope(means: np.ndarray) -> Slope:
    """Return the slope of running means (seeds, N), with Student's interval over the seeds."""
    seeds, N = means.shape
    at = np.unique(np.geomspace(N // 2, N, 20).astype(int))  # evenly in log N: no end weighs more
    slopes = np.polyfit(np.log(at), np.log(means[:, at - 1]).T, 1)[0]
    half = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1) * slopes.std(ddof=1) / np.sqrt(seeds)
    return Slope(float(slopes.mean()), float(slopes.mean() - half), float(slopes.mean() + half))


@dataclass(frozen=True)
class Result:
    """One task and one b: the two sides of the theorem, and the slopes.

    Args:
        means: running means with the theorem's steps, (seeds, N).   bound, by_parts: right sides,
            (N,).
        spectrum: extreme eigenvalues of H along the runs.
        steps: slope with the theorem's steps.   longer: with steps ``STRETCH`` times as long.
    """

    task: str
    loss: Smoothness
    constants: Constants
    rate: Rate
    means: np.ndarray = field(repr=False)
    bound: np.ndarray = field(repr=False)
    by_parts: np.ndarray = field(repr=False)
    spectrum: Bounds
    steps: Slope
    longer: Slope

    @property
    def slack(self) -> np.ndarray:
        """Right side over left side at every N."""
        return self.bound / self.means.mean(axis=0)

    @property
    def broken(self) -> list[str]:
        """What the runs contradict, in words; empty when nothing."""
        left = self.means.mean(axis=0)
        kappa = self.constants.kappa
        words = []
        for name, right in (("the bound", self.bound), ("the bound by parts", self.by_parts)):
            if not (left <= right).all():
                N = int(np.argmin(left <= right))
                words.append(f"{name} at N = {N + 1}: {left[N]:.3g} against {right[N]:.3g}")
        if not kappa.lo <= self.spectrum.lo <= self.spectrum.hi <= kappa.hi:
            words.append(f"the eigenvalues of H: {self.spectrum} outside {kappa}")
        return words


def measure(setup: Setup, *, workers: int = 2) -> list[Result]:
    """Run everything; ``workers`` processes, 1 for this one alone."""
    plans = [_plan(task, setup, b) for task in tasks(setup.samples) for b in setup.exponents]
    jobs = [
        (plan[0], replace(plan[1], lr=plan[1].lr * stretch), setup, seed)
        for plan in plans
        for stretch in (1.0, STRETCH)
        for seed in range(setup.seeds)
    ]
    traces = iter(_all_traces(jobs, workers))
    return [_result(*plan, [next(traces) for _ in range(2 * setup.seeds)]) for plan in plans]


def _plan(task: Task, setup: Setup, b: float) -> tuple[Task, Convergent, Constants, Rate]:
    method = setup.method(b)
    known = constants(method, task.network, task.x)
    start = task.network.init(np.random.default_rng(0))
    variance = sampling_variance(task.loss.sigma2, setup.batch_size, setup.samples)
    gap = task.network.value(start, task.x, task.target) - task.loss.f_low
    c = largest_step(task.loss.L, known.kappa)
    return task, replace(method, lr=c), known, Rate(task.loss.L, known.kappa, variance, gap, c, b)


def _all_traces(jobs: list[tuple[Task, Convergent, Setup, int]], workers: int) -> Iterable[Trace]:
    if workers == 1:
        return [trace(*job) for job in jobs]
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(threads, "1")  # read by the new processes: one thread each
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(trace, *zip(*jobs, strict=True)))


def _result(
    task: Task, method: Convergent, known: Constants, rate: Rate, traces: list[Trace]
) -> Result:
    half = len(traces) // 2
    means, longer = (
        running_mean(np.array([t.grad2 for t in part])) for part in (traces[:half], traces[half:])
    )
    N = np.arange(1, means.shape[1] + 1)
    spectrum = Bounds(
        min(t.spectrum.lo for t in traces[:half]), max(t.spectrum.hi for t in traces[:half])
    )
    bound = rate.running_mean(N)
    by_parts = rate.running_mean_by_parts(N)
    return Result(
        task.name,
        task.loss,
        known,
        rate,
        means,
        bound,
        by_parts,
        spectrum,
        slope(means),
        slope(longer),
    )
