"""Laws of the Kronecker factors, the Hessian action and the curvature pairs (4.4)-(4.7),
(6.2), (7.1), (7.2).
"""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref import Conv2d, Pair
from kfqn_ref.layers import Record
from kfqn_ref.testing import oracles
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.law import EVERY_SIZE, Case, equal, law
from kfqn_ref.testing.strategies.axes import choose
from kfqn_ref.testing.strategies.kernels import dampings, extended, frozen, spd
from kfqn_ref.testing.strategies.layers import (
    arrays,
    geometries,
    inputs,
    scaled,
    second_derivatives,
    two_records,
)
from kfqn_ref.testing.tolerances import Precision


def _size(a_bar: np.ndarray) -> float:
    """Σ‖ā‖² / N, the size of the terms of A."""
    return float(np.sum(a_bar**2)) / len(a_bar)


def _terms(a_bar: np.ndarray) -> int:
    return a_bar.shape[0] * a_bar.shape[1]


def _thirds(a_bar: np.ndarray) -> np.ndarray:
    """Inputs without a short binary form, which a cast to float32 on the way would change."""
    return np.concatenate([a_bar[..., :-1] / 3, a_bar[..., -1:]], axis=2)


@law(
    "A sums the outer products of a layer's inputs over the locations and averages them over "
    "the batch.",
    "A = mean_n Σ_t ā_t ā_tᵀ   (4.5): not divided by |T|",
    chapter="factors",
    requires="input_factor",
    given=inputs,
    sizes=EVERY_SIZE,
)
def factor_formula(f: Any, a_bar: np.ndarray, v: np.ndarray) -> None:
    bound = tol.rounding(f.u, _terms(a_bar), _size(a_bar))
    equal("A", f.input_factor(a_bar), "mean_n Σ_t ā_t ā_tᵀ", oracles.factor(a_bar), bound)
    thirds = _thirds(a_bar)
    equal("A of a/3", f.input_factor(thirds), "mean_n Σ_t ā_t ā_tᵀ", oracles.factor(thirds), bound)


@law(
    "ā̄ averages a layer's inputs over samples and locations; its bias entry is 1.",
    "ā̄ = mean_{n,t} ā_t",
    chapter="factors",
    requires="input_mean",
    given=inputs,
    sizes=EVERY_SIZE,
)
def mean_formula(f: Any, a_bar: np.ndarray, v: np.ndarray) -> None:
    wanted = np.asarray(sum(a_bar[n, t] for n, t in np.ndindex(*a_bar.shape[:2]))) / _terms(a_bar)
    equal(
        "ā̄",
        f.input_mean(a_bar),
        "mean_{n,t} ā_t",
        wanted,
        tol.rounding(f.u, _terms(a_bar), tol.norm(np.abs(a_bar).mean(axis=(0, 1)))),
    )


@law(
    "The Hessian action is A times v, without A.",
    "hessian_action(ā, v) = (mean_n Σ_t ā_t ā_tᵀ) v",
    chapter="factors",
    requires="hessian_action",
    given=inputs,
    sizes=EVERY_SIZE,
)
def action_formula(f: Any, a_bar: np.ndarray, v: np.ndarray) -> None:
    bound = tol.rounding(f.u, _terms(a_bar) + len(v), _size(a_bar) * tol.norm(v))
    equal("A v without A", f.hessian_action(a_bar, v), "A v", oracles.factor(a_bar) @ v, bound)
    thirds = _thirds(a_bar)
    wanted = oracles.factor(thirds) @ (v / 3)
    equal("A v of a/3, v/3", f.hessian_action(thirds, v / 3), "A v", wanted, bound)


@st.composite
def convolutions(draw: DrawFn, precision: Precision) -> Case:
    geometry = dict(draw(geometries()))
    size = geometry.pop("size")
    C = choose(draw, "C")
    conv = Conv2d(C, 2, bias=choose(draw, "bias") == "yes", **geometry)
    (a,) = scaled(draw, precision, draw(arrays(choose(draw, "N"), C, *size)))
    (v,) = scaled(draw, precision, draw(arrays(conv.block_shapes[0][1])), axis="vector")
    return {"conv": conv, "a": a, "v": v}


@law(
    "For a convolution the Hessian action is two convolutions with one output channel: A "
    "times v again.",
    "conv_hessian_action(conv, a, v) = (mean_n Σ_t ā_t ā_tᵀ) v,  ā_t the patches of a",
    chapter="factors",
    requires="conv_hessian_action",
    given=convolutions,
    sizes=EVERY_SIZE,
)
def convolution_action(f: Any, conv: Conv2d, a: np.ndarray, v: np.ndarray) -> None:
    (a_bar,) = oracles.bars(conv, a)
    bound = tol.rounding(f.u, _terms(a_bar) + len(v), _size(a_bar) * tol.norm(v))
    action = f.conv_hessian_action(conv, a, v)
    equal("A v by convolutions", action, "A v", oracles.factor(a_bar) @ v, bound)


def _with_metric(precision: Precision) -> Any:
    return extended(
        inputs(precision), H=lambda case: spd(precision, len(case["v"])), lam=dampings()
    )


@law(
    "The input pair moves along H_a ā̄, and knows the curvature there without a second pass.",
    "s = H_a ā̄,  y = A s + λ s   (6.2)",
    chapter="pairs",
    requires="input_pair",
    given=_with_metric,
    sizes=EVERY_SIZE,
)
def input_formula(f: Any, a_bar: np.ndarray, v: np.ndarray, H: np.ndarray, lam: float) -> None:
    mean = frozen(a_bar.mean(axis=(0, 1)))
    s, y = f.input_pair(H, mean, a_bar, lam=lam)
    wanted = H @ mean
    bound = tol.product(f.u, H, mean)
    equal("s", s, "H_a ā̄", wanted, bound)
    A = oracles.factor(a_bar)
    n = _terms(a_bar) + len(v)
    error = (
        tol.rounding(f.u, n, (_size(a_bar) + lam) * tol.norm(wanted)) + (_size(a_bar) + lam) * bound
    )
    equal("y", y, "A s + λ s", A @ wanted + lam * wanted, error)
    equal(
        "y with A given",
        f.input_pair(H, mean, frozen(A), lam=lam)[1],
        "A s + λ s",
        A @ wanted + lam * wanted,
        error,
    )


@law(
    "The output pair averages the changes of outputs and of their gradients over samples and "
    "locations.",
    "s = mean_{n,t}(h⁺ − h),  y = mean_{n,t}(Dh⁺ − Dh)   (7.1)",
    chapter="pairs",
    requires="output_pair",
    given=two_records,
    sizes=EVERY_SIZE,
)
def output_formula(f: Any, first: Record, second: Record) -> None:
    N, T, d_g = first.h.shape
    s, y = f.output_pair(first, second)
    for name, got, before, after in ("s", s, first.h, second.h), ("y", y, first.Dh, second.Dh):
        wanted = sum(after[n, t] - before[n, t] for n, t in np.ndindex(N, T)) / (N * T)
        bound = tol.rounding(
            f.u, N * T, float(np.abs(before).max() + np.abs(after).max()) * np.sqrt(d_g)
        )
        change = {"s": "h⁺ − h", "y": "Dh⁺ − Dh"}[name]
        equal(name, got, f"mean_{{n,t}}({change})", wanted, bound)


@st.composite
def averages(draw: DrawFn, precision: Precision) -> Case:
    vector = arrays(choose(draw, "d_g"))
    old_s, old_y, new_s, new_y = scaled(draw, precision, *(draw(vector) for _ in range(4)))
    old = Pair(old_s, old_y)
    new = Pair(new_s, new_y)
    return {"old": old, "new": new, "decay": float(choose(draw, "decay"))}


@law(
    "The averaged pair keeps `decay` of the old pair and takes the rest from the new one.",
    "s ← decay s_old + (1 − decay) s_new, y the same   (7.2)",
    chapter="pairs",
    requires="average_pair",
    given=averages,
    sizes=EVERY_SIZE,
)
def average_formula(f: Any, old: Pair, new: Pair, decay: float) -> None:
    averaged = f.average_pair(old, new, decay=decay)
    for name, got, before, after in zip("sy", averaged, old, new, strict=True):
        bound = tol.rounding(f.u, 1, tol.norm(before) + tol.norm(after))
        equal(
            name,
            got,
            f"decay {name}_old + (1 − decay) {name}_new",
            decay * before + (1 - decay) * after,
            bound,
        )


def _hessian_size(a_bar: np.ndarray, Hh: np.ndarray) -> float:
    return float(np.sum(a_bar**2) * np.sum(np.abs(Hh)))


@law(
    "G averages the second derivatives at equal locations over samples and locations.",
    "G = mean_n (1/|T|) Σ_t ∂²f_n/∂h_t²   (4.6)",
    chapter="hessian",
    requires="output_factor",
    given=second_derivatives,
    sizes=EVERY_SIZE,
)
def output_factor_formula(f: Any, a_bar: np.ndarray, Hh: np.ndarray) -> None:
    N, T = Hh.shape[:2]
    wanted = sum(Hh[n, t, :, t, :] for n, t in np.ndindex(N, T)) / (N * T)
    equal(
        "G",
        f.output_factor(Hh),
        "mean_n (1/|T|) Σ_t ∂²f_n/∂h_t²",
        wanted,
        tol.rounding(f.u, N * T, np.abs(Hh).sum()),
    )


@law(
    "The exact block of a layer adds, over all pairs of locations, inputs times second "
    "derivatives.",
    "∇²_vec(W) f = mean_n Σ_{t,t'} (ā_t ā_t'ᵀ) ⊗ ∂²f_n/∂h_t∂h_t'   (4.4)",
    chapter="hessian",
    requires="layer_blocks",
    given=second_derivatives,
    sizes=EVERY_SIZE,
)
def exact_block(f: Any, a_bar: np.ndarray, Hh: np.ndarray) -> None:
    N, T = Hh.shape[:2]
    terms = [
        np.kron(np.outer(a_bar[n, t], a_bar[n, u]), Hh[n, t, :, u, :])
        for n, t, u in np.ndindex(N, T, T)
    ]
    bound = tol.rounding(f.u, N * T * T, _hessian_size(a_bar, Hh))
    equal(
        "exact block", f.layer_blocks(a_bar, Hh).exact, "(4.4) term by term", sum(terms) / N, bound
    )


@law(
    "One assumption after the other: no terms between locations, the product of means in place "
    "of the mean "
    "of the product, and with all three the block is one Kronecker product.",
    "mean_n Σ_t (ā_t ā_tᵀ) ⊗ G_nt,  Σ_t mean_n(ā_t ā_tᵀ) ⊗ mean_n G_nt,  A ⊗ G   (4.7); "
    "G_nt = ∂²f_n/∂h_t²",
    chapter="hessian",
    requires="layer_blocks",
    given=second_derivatives,
    sizes=EVERY_SIZE,
)
def kronecker_block(f: Any, a_bar: np.ndarray, Hh: np.ndarray) -> None:
    N, T = Hh.shape[:2]
    G = sum(Hh[n, t, :, t, :] for n, t in np.ndindex(N, T)) / (N * T)
    bound = tol.rounding(f.u, N * T * T, _hessian_size(a_bar, Hh))
    blocks = f.layer_blocks(a_bar, Hh)
    equal("A ⊗ G", blocks.kronecker, "A ⊗ G by loops", np.kron(oracles.factor(a_bar), G), bound)
    terms = [
        np.kron(np.outer(a_bar[n, t], a_bar[n, t]), Hh[n, t, :, t, :]) for n, t in np.ndindex(N, T)
    ]
    equal("block by SUD", blocks.sud, "terms t = t' by loops", sum(terms) / N, bound)
    products = [
        np.kron(oracles.factor(a_bar[:, t : t + 1]), Hh[:, t, :, t, :].mean(axis=0))
        for t in range(T)
    ]
    equal("block by SUD, IAD", blocks.sud_iad, "products of means by loops", sum(products), bound)


def _quadratic_per_location(precision: Precision) -> Any:
    """Second derivatives that are one matrix at every location of every sample, and nothing between
    locations.
    """
    return second_derivatives(precision).map(
        lambda case: {"a_bar": case["a_bar"], "Q": frozen(case["Hh"][0, 0, :, 0, :])}
    )


@law(
    "Where the loss is a sum over locations of one quadratic, the Kronecker product is the "
    "exact block.",
    "∂²f_n/∂h_t∂h_t' = δ_tt' Q  ⟹  exact block = A ⊗ G (a linear layer on one sample is the "
    "case |T| = N = "
    "1)",
    chapter="hessian",
    requires="layer_blocks",
    given=_quadratic_per_location,
)
def exact_where_quadratic(f: Any, a_bar: np.ndarray, Q: np.ndarray) -> None:
    N, T = a_bar.shape[:2]
    Hh = frozen(np.einsum("tu,n,gh->ntguh", np.eye(T), np.ones(N), Q))
    blocks = f.layer_blocks(a_bar, Hh)
    bound = 2 * tol.rounding(f.u, N * T * T, _hessian_size(a_bar, Hh))
    for name in ("exact", "sud", "sud_iad"):
        equal(f"{name} block", getattr(blocks, name), "A ⊗ G", blocks.kronecker, bound)
