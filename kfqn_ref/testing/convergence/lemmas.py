"""Lemmas A and B, held against numbers: one check a statement, each a function of a
:class:`Variant`.

A check draws its cases, or constructs the one that attains a bound, and raises
:class:`~kfqn_ref.testing.law.Violation` where its statement does not hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import minimize

from kfqn_ref.bfgs import bfgs_direct_update
from kfqn_ref.damping import h0_damp
from kfqn_ref.factors import input_factor
from kfqn_ref.layers import Conv2d, Flatten, Linear, Record, Sigmoid, Tanh
from kfqn_ref.lbfgs import lbfgs_dense
from kfqn_ref.losses import SoftmaxCrossEntropy
from kfqn_ref.method.convergent import Convergent
from kfqn_ref.method.step import KFQN
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.pooling import AvgPool2d
from kfqn_ref.testing.law import at_most, equal
from kfqn_ref.testing.tolerances import FLOAT64, norm, powell, rounding
from kfqn_ref.theory import bounds, theorem
from kfqn_ref.theory.bounds import Bounds
from kfqn_ref.theory.loss_constants import Smoothness, smoothness

Array = np.ndarray


@dataclass(frozen=True)
class Variant:
    """All that the theorem is made of; a mutant has another value in one of the fields."""

    method: Callable[..., Convergent] = Convergent
    pair_bound: Callable[[float, float, float], float] = bounds.pair_bound
    kantorovich: Callable[[float, float], float] = bounds.kantorovich
    lbfgs_bounds: Callable[..., Bounds] = bounds.lbfgs_bounds
    input_bounds: Callable[..., Bounds] = bounds.input_bounds
    input_radii: Callable[[Network, Array], list[tuple[float, int]]] = bounds.input_radii
    smoothness: Callable[[Network, Array, Array], Smoothness] = smoothness
    largest_step: Callable[[float, Bounds], float] = theorem.largest_step
    sampling_variance: Callable[..., float] = theorem.sampling_variance
    rate: type[theorem.Rate] = theorem.Rate


def pairs_of_h0_damping_are_bounded(variant: Variant) -> None:
    """(9.1): ``(ỹ − λ s̃)ᵀ(M_g s̃ − ỹ) >= 0``, so ``λ s̃ᵀs̃ <= s̃ᵀỹ`` and ``ỹᵀỹ <= M_g s̃ᵀỹ``."""
    rng = np.random.default_rng(0)
    for trial in range(200):
        d = 1 + trial % 4
        gamma = 10.0 ** rng.integers(-1, 2)
        mu1 = rng.choice([0.1, 0.5, 0.9])
        lam = 10.0 ** rng.integers(-1, 2)
        M = variant.pair_bound(gamma, mu1, lam)
        method = variant.method(gamma=gamma)
        drawn, y = rng.standard_normal((2, d)) * 10.0 ** rng.integers(-2, 3, (2, 1))
        H_0 = method.options.output_inverse.start(d, gamma, 3)
        (s, y_), _ = method.options.damp(H_0, drawn, y, mu1, lam)
        slope = (
            M * norm(y) + 2 * M * lam * norm(s) + 2 * lam * norm(y_)
        )  # of the three, as functions of s̃
        u = powell(FLOAT64.u, gamma * np.eye(d), drawn, y) * slope
        u = float(u + rounding(FLOAT64.u, d, M * norm(s) * norm(y_)))
        at_most("λ s̃ᵀs̃", lam * (s @ s), "s̃ᵀỹ", s @ y_, u)
        at_most("ỹᵀỹ", y_ @ y_, "M_g s̃ᵀỹ", M * (s @ y_), u)
        at_most("0", 0.0, "(ỹ − λ s̃)ᵀ(M_g s̃ − ỹ)", (y_ - lam * s) @ (M * s - y_), u)


def bounds_of_pairs_are_attained(variant: Variant) -> None:
    """M_g by ``s = mu1 gamma y``, κ̂ by the pair of :func:`extremal_pair`."""
    for mu1, gamma, lam in product((0.1, 0.5), (0.1, 1.0, 10.0), (0.1, 1.0, 10.0)):
        M = variant.pair_bound(gamma, mu1, lam)
        method = variant.method(gamma=gamma)
        H = method.options.output_inverse.start(2, gamma, 3)
        e, f = np.eye(2)
        (s, y), _ = method.options.damp(H, mu1 * gamma * e, e, mu1, lam)
        equal("ỹᵀỹ", y @ y, "M_g s̃ᵀỹ", M * (s @ y), rounding(FLOAT64.u, 2, norm(y) ** 2))
        (s, y), _ = method.options.damp(H, *extremal_pair(mu1, gamma, lam, e, f), mu1, lam)
        ratio = float((s @ s) * (y @ y) / (s @ y) ** 2)
        equal(
            "‖s̃‖²‖ỹ‖²/(s̃ᵀỹ)²",
            ratio,
            "κ̂",
            variant.kantorovich(lam, M),
            rounding(FLOAT64.u, 2, ratio**2),
        )


def extremal_pair(mu1: float, gamma: float, lam: float, e: Array, f: Array) -> tuple[Array, Array]:
    """Return (s, y) that (9.1) leaves as it is but for ``+ λ s``, and whose ``‖s‖²‖ỹ‖²/(sᵀỹ)²`` is
    κ̂.

    ``s = e``; e and f are orthogonal unit vectors. With c = 1/(mu1 gamma) and r = 1/λ + 2/c, the
    pair has ``sᵀy = 1/r`` and ``‖y‖² = c/r``: Powell's test holds with equality, and r maximises
    the ratio.
    """
    c = 1 / (mu1 * gamma)
    r = 1 / lam + 2 / c
    return e, e / r + np.sqrt(c / r - 1 / r**2) * f


def extremal_sequence(mu1: float, gamma: float, lam: float, n: int) -> tuple[Array, Array]:
    """Return n damped pairs in the plane, (n, 2) each, whose L-BFGS matrix has
    ``‖H‖ >= κ̂ⁿ gamma``.

    ``I − ρ s ỹᵀ`` stretches the direction orthogonal to s by √κ̂, to the one orthogonal to ỹ: so
    the next s is taken along ỹ.
    """
    e = np.array([1.0, 0.0])
    S = []
    Y = []
    for _ in range(n):
        s, y = extremal_pair(mu1, gamma, lam, e, np.array([-e[1], e[0]]))
        S.append(s)
        Y.append(y + lam * s)
        e = Y[-1] / np.linalg.norm(Y[-1])
    return np.array(S), np.array(Y)


def exponent_of_kappa_is_attained(variant: Variant) -> None:
    """Lemma A is sharp: a sequence of p pairs reaches ``κ̂^p gamma``, the bound less what it adds
    per pair.
    """
    for p, mu1, gamma, lam in product((1, 2, 3, 4), (0.1, 0.5), (0.5, 2.0), (0.1, 1.0)):
        M = variant.pair_bound(gamma, mu1, lam)
        kappa = variant.kantorovich(lam, M)
        hi = variant.lbfgs_bounds(lam, M, gamma=gamma, memory=p, d=2).hi
        S, Y = extremal_sequence(mu1, gamma, lam, p)
        H = np.linalg.norm(lbfgs_dense(S, Y, gamma=gamma), 2)
        u = rounding(FLOAT64.u, 2 * p, 4.0**p * hi)
        at_most("‖H‖", H, "its bound", hi, u)
        at_most(
            "the bound without its sum", hi - sum(kappa**i for i in range(p)) / lam, "‖H‖", H, u
        )


def flattening_pair(
    mu1: float, gamma: float, lam: float, e: Array, f: Array
) -> tuple[Array, Array, float]:
    """Return (s, y) with s = f and ỹ almost along e, and the share δ of M_g that it fails to add
    along e.

    ``eᵀB⁺e >= eᵀBe + (1 − δ) M_g`` where f is an eigenvector of B: s removes nothing along e, and ỹ
    adds ``(eᵀỹ)²/sᵀỹ``. The pair has ``sᵀy = 1/r`` and ``‖y‖² = c/r`` as :func:`extremal_pair`,
    with r = 1/√(λ c).
    """
    c = 1 / (mu1 * gamma)
    r = 1 / np.sqrt(lam * c)
    y = f / r + np.sqrt(c / r - 1 / r**2) * e
    y_ = y + lam * f
    return f, y, 1 - (e @ y_) ** 2 / (f @ y_) / (lam + c)


def number_of_M_is_attained(variant: Variant) -> None:
    """Lemma A is sharp below too: for small λ, p pairs bring ``‖B‖`` near ``1/gamma + p M_g``."""
    for p, mu1, gamma in product((1, 2, 3), (0.1, 0.5), (0.1, 1.0, 10.0)):
        lam = 1e-6 / gamma
        M = variant.pair_bound(gamma, mu1, lam)
        lo = variant.lbfgs_bounds(lam, M, gamma=gamma, memory=p, d=2).lo
        B = np.eye(2) / gamma
        missing = 0.0
        for _ in range(p):
            f, e = np.linalg.eigh(B)[1].T
            s, y, delta = flattening_pair(mu1, gamma, lam, e, f)
            B = bfgs_direct_update(B, s, y + lam * s)
            missing = missing + M * delta
        size = np.linalg.norm(B, 2)
        at_most("‖B‖", size, "1/κ_lo", 1 / lo, rounding(FLOAT64.u, 2 * p, 1 / lo))
        at_most(
            "1/κ_lo without what δ misses",
            1 / lo - missing,
            "‖B‖",
            size,
            rounding(FLOAT64.u, 2 * p, 1 / lo),
        )


def negative_curvature_repeats(method: KFQN, n: int) -> list[float]:
    """Return ``‖B‖`` of ``H_g`` after each of n updates along one direction of negative curvature.

    Outputs move by −1, their gradients by +1, again and again, as on a concave stretch of the loss.
    With one output every damped pair alone makes the next ``H_g``.
    """
    ones = np.ones((1, 1, 1))
    first = Record(ones, ones, -ones)
    second = Record(ones, 0 * ones, 0 * ones)
    lambda_a, lambda_g = method.options.split(method.damping, 1)
    (block,) = method.init((ones[0],)).blocks
    block = replace(block, lambda_a=lambda_a, lambda_g=lambda_g, T=1)
    norms = []
    for _ in range(n):
        block = method.update_output(block, first, second)
        norms.append(1 / float(block.H_g.dense()[0, 0]))
    return norms


def negative_curvature_leaves_B_bounded(variant: Variant) -> None:
    """Against ``H_0`` every ``‖B‖ = M_g``; against H_k each would be the last one over mu1, plus
    λ.
    """
    for gamma, mu1, memory in product((0.5, 2.0), (0.1, 0.5), (1, 3)):
        method = variant.method(gamma=gamma, mu1=mu1, memory=memory, damping=4.0)
        M = variant.pair_bound(gamma, mu1, 2.0)
        norms = negative_curvature_repeats(method, 12)
        equal("‖B‖ of 12 updates", norms, "M_g", [M] * 12, rounding(FLOAT64.u, 4, 12 * M))


def input_radius_bounds_every_factor(variant: Variant) -> None:
    """AS.3: ``‖A‖ <= R_a`` for every mini-batch at any weights; equality where all activations
    saturate.
    """
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
    x = rng.uniform(-1, 1, (4, 1, 4, 4))
    target = rng.integers(0, 2, 4)
    radii = variant.input_radii(network, x)
    for scale in (0.0, 1.0, 100.0):
        params = tuple(scale * rng.standard_normal(shape) for shape in network.block_shapes)
        for rows in ([0], [1, 2], [0, 1, 2, 3]):
            records = forward_backward(network, params, x[rows], target[rows]).records
            for (R_a, T), record in zip(radii, records, strict=True):
                equal("|T|", T, "the locations seen", record.a_bar.shape[1], 0.0)
                at_most(
                    "‖A‖", np.linalg.norm(input_factor(record.a_bar), 2), "R_a", R_a, 1e-12 * R_a
                )
    saturated = tuple(
        np.pad(np.zeros((a, b - 1)), ((0, 0), (0, 1)), constant_values=99.0)
        for a, b in network.block_shapes
    )
    records = forward_backward(network, saturated, x, target).records
    for (R_a, _), record in zip(radii[1:], records[1:], strict=True):
        equal("‖A‖, saturated", norm(input_factor(record.a_bar)), "R_a", R_a, 1e-9 * R_a)
    worst = max(norm(input_factor(records[0].a_bar[n : n + 1])) for n in range(4))
    equal("the largest ‖A_n‖ of the data", worst, "R_a", radii[0][0], 1e-12 * worst)


def tightness(
    mu1: float, gamma: float, lam: float, memory: int, *, d: int = 3, starts: int = 1
) -> Bounds:
    """Return how near a search over p pairs of d numbers, damped by (9.1), comes to the bounds of
    Lemma A.

    ``hi`` is the largest ``‖H‖ / κ_hi`` that was found, ``lo`` the largest ``κ_lo ‖B‖``; 1 is the
    bound.
    """
    bound = bounds.lbfgs_bounds(
        lam, bounds.pair_bound(gamma, mu1, lam), gamma=gamma, memory=memory, d=d
    )

    def spectrum(z: Array) -> Array:
        pairs = [h0_damp(s, y, gamma=gamma, mu1=mu1, lam=lam) for s, y in z.reshape(memory, 2, d)]
        return np.linalg.eigvalsh(
            lbfgs_dense(*map(np.array, zip(*pairs, strict=True)), gamma=gamma)
        )

    def search(objective: Callable[[Array], float]) -> float:
        rng = np.random.default_rng(0)
        found = []
        for _ in range(starts):
            z = rng.standard_normal(2 * memory * d)
            found.append(
                -minimize(objective, z, method="Nelder-Mead", options={"maxfev": 1000}).fun
            )
        return float(np.exp(max(found)))

    hi = search(lambda z: -np.log(spectrum(z)[-1] / bound.hi))
    return Bounds(search(lambda z: -np.log(bound.lo / spectrum(z)[0])), hi)


LEMMAS: tuple[Callable[[Variant], None], ...] = (
    pairs_of_h0_damping_are_bounded,
    bounds_of_pairs_are_attained,
    exponent_of_kappa_is_attained,
    number_of_M_is_attained,
    negative_curvature_leaves_B_bounded,
    input_radius_bounds_every_factor,
)
