"""Factors, Hessian action and pairs against loops over samples and locations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)


def explicit_factor(a_bar: np.ndarray) -> np.ndarray:
    """Return A of (4.5), one outer product at a time."""
    A = np.zeros((a_bar.shape[2],) * 2)
    for sample in a_bar:
        for a in sample:
            A += np.outer(a, a) / len(a_bar)
    return A


@given(seeds, sizes, sizes, sizes)
def test_input_factor_sums_locations_and_averages_samples(seed, N, T, d):
    a_bar = np.random.default_rng(seed).standard_normal((N, T, d))
    np.testing.assert_allclose(kf.input_factor(a_bar), explicit_factor(a_bar), atol=1e-13)
    doubled = np.concatenate([a_bar, a_bar], axis=1)  # twice the locations: twice A
    np.testing.assert_allclose(kf.input_factor(doubled), 2 * kf.input_factor(a_bar), atol=1e-13)


@given(seeds, sizes, sizes, sizes)
def test_hessian_action_is_A_times_v(seed, N, T, d):
    rng = np.random.default_rng(seed)
    a_bar, v = rng.standard_normal((N, T, d)), rng.standard_normal(d)
    np.testing.assert_allclose(kf.hessian_action(a_bar, v), explicit_factor(a_bar) @ v, atol=1e-12)


@given(
    seeds, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2), st.booleans()
)
def test_hessian_action_by_one_channel_convolutions(seed, kernel, stride, padding, dilation, bias):
    rng = np.random.default_rng(seed)
    conv = kf.Conv2d(2, 3, kernel, stride, padding, dilation, bias=bias)
    (d_g, d_a), *_ = conv.block_shapes
    a, v = rng.standard_normal((2, 2, 6, 5)), rng.standard_normal(d_a)
    a_bar = conv.forward((np.zeros((d_g, d_a)),), a)[1][1][0]
    np.testing.assert_allclose(
        kf.factors.conv_hessian_action(conv, a, v), explicit_factor(a_bar) @ v, atol=1e-11
    )


@given(seeds, sizes, sizes, sizes)
def test_pairs(seed, N, T, d):
    rng = np.random.default_rng(seed)
    a_bar, h, Dh, h2, Dh2 = rng.standard_normal((5, N, T, d))
    s, y = kf.output_pair(kf.layers.Record(a_bar, h, Dh), kf.layers.Record(a_bar, h2, Dh2))
    np.testing.assert_allclose(
        s, sum(h2[n, t] - h[n, t] for n in range(N) for t in range(T)) / (N * T)
    )
    np.testing.assert_allclose(
        y, sum(Dh2[n, t] - Dh[n, t] for n in range(N) for t in range(T)) / (N * T)
    )
    H_a, a_mean = np.diag(rng.random(d) + 1), kf.input_mean(a_bar)
    for A in (a_bar, kf.input_factor(a_bar)):  # the action and the explicit twin
        s_a, y_a = kf.input_pair(H_a, a_mean, A, lam=0.3)
        np.testing.assert_allclose(s_a, H_a @ a_bar.reshape(-1, d).mean(axis=0))
        np.testing.assert_allclose(
            y_a, (explicit_factor(a_bar) + 0.3 * np.eye(d)) @ s_a, atol=1e-13
        )


def test_the_moving_average_keeps_the_old_pair_with_weight_decay():
    old, new = kf.Pair(np.ones(2), np.zeros(2)), kf.Pair(np.zeros(2), np.ones(2))
    s, y = kf.factors.average_pair(old, new, decay=0.75)
    assert s.tolist() == [0.75, 0.75]
    assert y.tolist() == [0.25, 0.25]


def test_bad_input_is_refused():
    record = kf.layers.Record(*np.zeros((3, 2, 1, 4)))
    pair = kf.Pair(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="both passes must see one batch"):
        kf.output_pair(record, kf.layers.Record(*np.zeros((3, 5, 1, 4))))
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
            kf.factors.average_pair(pair, pair, decay=decay)
    with pytest.raises(ValueError, match="one group"):
        kf.factors.conv_hessian_action(
            kf.Conv2d(2, 2, 1, groups=2), np.ones((1, 2, 3, 3)), np.ones(2)
        )
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        kf.factors.conv_hessian_action(kf.Conv2d(2, 2, 1), np.ones((1, 2, 3, 3)), np.ones(2))
