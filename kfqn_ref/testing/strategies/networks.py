"""Strategies for whole networks: small chains of every kind of layer, and runs of the optimizer on
them.

The structure is drawn, so that it shrinks; weights and data come from a drawn seed.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import kfqn_ref as ref
from kfqn_ref.testing.law import Case
from kfqn_ref.testing.strategies.kernels import frozen
from kfqn_ref.testing.strategies.layers import geometries
from kfqn_ref.testing.tolerances import Precision

LINEAR_ONLY = ("kbfgs_2020", "kbfgs_l_2020")
PRESETS = ("kfqn_cnn", "kfqn_cnn_l", "kbfgs_2022", *LINEAR_ONLY)


class BlockView(NamedTuple):
    """What a check sees of one block after a step: dense matrices, numbers, and the counts of
    events.
    """

    H_a: np.ndarray
    H_g: np.ndarray
    lambda_a: float
    lambda_g: float
    T: int
    updates_a: int
    skipped_a: int
    updates_g: int
    damped_g: int
    skipped_g: int


class Snapshot(NamedTuple):
    """What a check sees after one step of an optimizer: every block's weights, and its view."""

    params: tuple[np.ndarray, ...]
    blocks: tuple[BlockView, ...]


@cache
def activations(smooth: bool) -> st.SearchStrategy[Any]:
    """Tanh and sigmoid; ReLU too where no law takes a finite difference over its kink."""
    choices = [ref.Tanh(), ref.Sigmoid()]
    if not smooth:
        choices.append(ref.ReLU())
    return st.sampled_from(choices)


@cache
@st.composite
def chains(
    draw: DrawFn, linear_only: bool, smooth: bool
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Layers that fit together, and the shape of one sample."""
    kind = (
        "linear"
        if linear_only
        else draw(st.sampled_from(["linear", "convolution", "grouped", "positions"]))
    )
    bias = draw(st.booleans())
    d_out = draw(st.integers(1, 3))
    last = ref.Linear
    if kind in ("linear", "positions"):
        d_in = draw(st.integers(1, 3))
        hidden = draw(st.integers(1, 3))
        first = (ref.Linear(d_in, hidden, bias), draw(activations(smooth)))
        if kind == "linear":
            return (*first, last(hidden, d_out)), (d_in,)
        return (*first, ref.Flatten(), last(2 * hidden, d_out)), (2, d_in)
    geometry = dict(draw(geometries()))
    size = geometry.pop("size")
    groups = 2 if kind == "grouped" else 1
    conv = ref.Conv2d(2, 2, groups=groups, bias=bias, **geometry)
    shape = conv.forward(tuple(np.zeros(s) for s in conv.block_shapes), np.zeros((1, 2, *size)))[
        0
    ].shape
    pools: list[tuple[Any, ...]] = [(), (ref.AvgPool2d(shape[2:]),)]
    if not smooth:
        pools.append((ref.MaxPool2d(shape[2:]),))
    pool = draw(st.sampled_from(pools))
    features = 2 if pool else int(np.prod(shape[1:]))
    return (conv, draw(activations(smooth)), *pool, ref.Flatten(), last(features, d_out)), (
        2,
        *size,
    )


def _target(loss: Any, N: int, d_out: int, rng: np.random.Generator) -> np.ndarray:
    if isinstance(loss, ref.SoftmaxCrossEntropy):
        return rng.integers(0, d_out, N)
    return frozen(rng.uniform(0, 1, (N, d_out)))


@cache
@st.composite
def problems(
    draw: DrawFn, precision: Precision, linear_only: bool = False, smooth: bool = True
) -> Case:
    """(network, params, x, target)."""
    layers, shape = draw(chains(linear_only, smooth))
    loss = draw(
        st.sampled_from(
            [ref.MeanSquaredError(), ref.SoftmaxCrossEntropy(), ref.BernoulliCrossEntropy()]
        )
    )
    network = ref.Network(layers, loss)
    N = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    params = tuple(map(frozen, network.init(rng)))
    x = frozen(rng.normal(size=(N, *shape)))
    return {
        "network": network,
        "params": params,
        "x": x,
        "target": _target(loss, N, layers[-1].d_out, rng),
    }


@cache
@st.composite
def options(draw: DrawFn, preset: str) -> dict[str, Any]:
    """Hyper-parameters of a run."""
    found: dict[str, Any] = {"preset": preset, "lr": draw(st.sampled_from([0.3, 0.1]))}
    found["damping"] = draw(st.sampled_from([0.1, 0.5, 0.01]))
    found["momentum"] = draw(st.sampled_from([0.9, 0.0, 0.5]))
    found["weight_decay"] = draw(st.sampled_from([0.0, 0.1]))
    found["pair_decay"] = draw(st.sampled_from([0.9, 0.0, 0.5]))
    found["memory"] = draw(st.integers(1, 4))
    found["curvature_interval"] = draw(st.sampled_from([1, 2]))
    return found


@cache
@st.composite
def runs(draw: DrawFn, precision: Precision) -> Case:
    """(network, params, batches, options): one to four steps, on two mini-batches by turns."""
    preset = draw(st.sampled_from(PRESETS))
    case = dict(draw(problems(precision, preset in LINEAR_ONLY, smooth=False)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = case.pop("x")
    target = case.pop("target")
    other = frozen(rng.normal(size=x.shape)), target[::-1]
    batches = ((x, target), other, (x, target), other)[: draw(st.integers(1, 4))]
    return case | {"batches": batches, "options": draw(options(preset))}
