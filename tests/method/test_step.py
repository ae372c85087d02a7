"""The method: an independent derivation of an iteration, limit cases, skips, start and errors.

The oracle keeps ``B = H⁻¹`` and the direct update, forms A, loops over samples, and shares no line
with the package but the network's forward-backward pass.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf
from kfqn_ref.method import step as method_step
from kfqn_ref.method.options import LbfgsInput
from kfqn_ref.method.state import Counts

CNN = kf.Network(
    (
        kf.Conv2d(1, 3, 3, stride=2, padding=1),
        kf.Tanh(),
        kf.Conv2d(3, 2, 2, bias=False),
        kf.ReLU(),
        kf.Flatten(),
        kf.Linear(8, 3),
    ),
    kf.SoftmaxCrossEntropy(),
)
MLP = kf.Network(
    (kf.Linear(4, 5), kf.Tanh(), kf.Linear(5, 3, bias=False)), kf.SoftmaxCrossEntropy()
)


def batch(network, N=6, seed=0):
    rng = np.random.default_rng(seed)
    shape = (N, 4) if network is MLP else (N, 1, 6, 6)
    return rng.standard_normal(shape), rng.integers(0, 3, N)


def inverse_by_b_form(B, s, y):
    return B - np.outer(B @ s, B @ s) / (s @ B @ s) + np.outer(y, y) / (s @ y)


def oracle_damp(name, H, s, y, lam_g):
    """Return the damped pair, by the condition that defines θ instead of its formula."""
    sy, yHy = s @ y, y @ H @ y
    if sy < 0.2 * yHy:  # the point of the segment from s to H y with curvature 0.2 yᵀHy
        s = s + (0.2 * yHy - sy) / (yHy - sy) * (H @ y - s)
    if name == "kbfgs_2020":
        sy, ss = s @ y, s @ s
        if sy < lam_g * ss:
            y = y + (lam_g * ss - sy) / (ss - sy) * (s - y)
        return s, y
    return s, y + lam_g * s


class Oracle:
    """Some presets, written from the formulas a second time."""

    def __init__(self, name, network, lr, lam, tau):
        self.name, self.network, self.lr, self.lam, self.tau, self.k = (
            name,
            network,
            lr,
            lam,
            tau,
            0,
        )
        self.M = self.B_a = self.B_g = self.sg = self.yg = self.A = None

    def step(self, params, x, target):
        N = len(x)
        first = kf.forward_backward(self.network, params, x, target)
        bars = [record.a_bar for record in first.records]
        Ahat = [sum(np.outer(a, a) for sample in bar for a in sample) / N for bar in bars]
        if self.k == 0:
            T = [bar.shape[1] for bar in bars]
            wide = self.name == "kbfgs_2022"
            self.lam_a = [(self.lam * (each if wide else 1)) ** 0.5 for each in T]
            self.lam_g = [(self.lam / (each if wide else 1)) ** 0.5 for each in T]
            self.B_a = [A + lam * np.eye(len(A)) for A, lam in zip(Ahat, self.lam_a, strict=True)]
            self.B_g = [np.eye(len(W)) for W in params]
            self.M = [0 * W for W in params]
            self.sg, self.yg = [[np.zeros(len(W)) for W in params] for _ in range(2)]
            self.A = Ahat
        elif self.name == "kbfgs_2020":
            self.A = [0.9 * old + 0.1 * new for old, new in zip(self.A, Ahat, strict=True)]
        else:
            self.A = Ahat
        new = []
        for l, W in enumerate(params):
            Dh = first.records[l].Dh
            g = (
                sum(np.outer(Dh[n, t], bars[l][n, t]) for n in range(N) for t in range(Dh.shape[1]))
                / N
            )
            self.M[l] = 0.9 * self.M[l] + 0.1 * (g + self.tau * W)
            P = np.linalg.solve(self.B_g[l], np.linalg.solve(self.B_a[l], self.M[l].T).T)
            new.append(W - self.lr * P)
        second = kf.forward_backward(self.network, tuple(new), x, target)
        for l in range(len(params)):
            a_mean = bars[l].reshape(-1, bars[l].shape[2]).mean(0)
            s = np.linalg.solve(self.B_a[l], a_mean)
            self.B_a[l] = inverse_by_b_form(self.B_a[l], s, self.A[l] @ s + self.lam_a[l] * s)
            if self.name == "kfqn_input":  # B_g stays I
                continue
            ds = (second.records[l].h - first.records[l].h).mean((0, 1))
            dy = (second.records[l].Dh - first.records[l].Dh).mean((0, 1))
            self.sg[l], self.yg[l] = 0.9 * self.sg[l] + 0.1 * ds, 0.9 * self.yg[l] + 0.1 * dy
            H_g = np.linalg.inv(self.B_g[l])
            s, y = oracle_damp(self.name, H_g, self.sg[l], self.yg[l], self.lam_g[l])
            self.B_g[l] = inverse_by_b_form(self.B_g[l], s, y)
        self.k += 1
        return tuple(new)


@pytest.mark.parametrize("tau", [0.0, 0.1])
@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("kfqn_cnn", CNN),
        ("kfqn_cnn_l", CNN),
        ("kbfgs_2022", CNN),
        ("kbfgs_2020", MLP),
        ("kfqn_cnn", MLP),
        ("kfqn_input", CNN),
    ],
)
def test_iterations_follow_a_second_derivation(name, network, tau):
    """Twelve steps of H- and B-form agree to 1e-9: rounding times the condition of B, below 1e5
    here.
    """
    optimizer = kf.preset(name, lr=1.0, damping=0.05, weight_decay=tau, curvature_interval=1)
    params = network.init(np.random.default_rng(1))
    oracle = Oracle("kbfgs_2020" if "2020" in name else name, network, 1.0, 0.05, tau)
    state, expected = optimizer.init(params), params
    for k in range(12):
        x, t = batch(network, seed=k)
        params, state, _ = optimizer.step(network, params, state, x, t)
        expected = oracle.step(expected, x, t)
        for l, block in enumerate(state.blocks):
            np.testing.assert_allclose(
                params[l], expected[l], rtol=0, atol=1e-9 * abs(expected[l]).max()
            )
            for H, B in ((block.H_a, oracle.B_a[l]), (block.H_g, oracle.B_g[l])):
                np.testing.assert_allclose(H.dense() @ B, np.eye(len(B)), atol=1e-9)
    pairs_g = 12 if optimizer.options.output_inverse.learns else 0
    assert all(block.counts.updates_g == pairs_g - block.counts.skipped_g for block in state.blocks)
    damped = any(block.counts.damped_g for block in state.blocks)
    assert damped == (pairs_g > 0)  # both branches of (2.1) were taken


@pytest.mark.parametrize("name", kf.PRESETS)
def test_invariants_along_a_run(name):
    """H symmetric, positive definite, secant for the last pair; arguments never change; counts add
    up.
    """
    network = MLP if "2020" in name else CNN
    optimizer = kf.preset(name, lr=0.1, memory=3, curvature_interval=1)
    params = network.init(np.random.default_rng(2))
    state = optimizer.init(params)
    for k in range(8):
        x, t = batch(network, seed=k)
        for array in (*params, x, t, *(block.s_g for block in state.blocks)):
            array.setflags(write=False)
        params, state, _ = optimizer.step(network, params, state, x, t)
        for block in state.blocks:
            for H in (block.H_a.dense(), block.H_g.dense()):
                np.testing.assert_allclose(H, H.T, rtol=0, atol=1e-13 * abs(H).max())
                assert np.linalg.eigvalsh(H).min() > 0
            counts = block.counts
            assert counts.updates_a + counts.skipped_a == k + 1
            pairs_g = k + 1 if optimizer.options.output_inverse.learns else 0
            assert counts.updates_g + counts.skipped_g == pairs_g
    assert state.k == 8


def test_the_input_side_alone_has_no_second_pass(monkeypatch):
    """One pass a step; H_g is gamma I throughout, so that P is gamma M H_a."""
    passes = []
    original = method_step.forward_backward

    def counted(*args):
        passes.append(args)
        return original(*args)

    monkeypatch.setattr(method_step, "forward_backward", counted)
    optimizer = kf.preset("kfqn_input", gamma=0.5)
    params = CNN.init(np.random.default_rng(2))
    state = optimizer.init(params)
    for k in range(3):
        params, state, _ = optimizer.step(CNN, params, state, *batch(CNN, seed=k))
    assert len(passes) == 3
    for block in state.blocks:
        np.testing.assert_array_equal(block.H_g.dense(), 0.5 * np.eye(len(block.s_g)))
        expected = 0.5 * block.M @ block.H_a.dense()
        np.testing.assert_allclose(
            block.along(block.M), expected, rtol=0, atol=1e-14 * abs(expected).max()
        )
        assert not block.s_g.any()
        assert not block.y_g.any()


def test_full_lbfgs_memory_equals_bfgs():
    """L-BFGS with room for all pairs is BFGS from the same start, so the two presets walk
    together.
    """
    dense, lean = kf.preset("kfqn_cnn"), kf.preset("kfqn_cnn_l")
    start = CNN.init(np.random.default_rng(3))
    runs = [
        kf.fit(each, CNN, start, (batch(CNN, seed=k) for k in range(10))) for each in (dense, lean)
    ]
    for one, two in zip(*runs, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-10)


def test_lean_input_factor_with_one_direction_is_exact_there():
    """From gamma I, L-BFGS maps the last y_a = (A + λ_A I) s_a back to s_a."""
    optimizer = kf.preset("kfqn_cnn", input_inverse=LbfgsInput(), memory=5)
    params = CNN.init(np.random.default_rng(3))
    x, t = batch(CNN)
    step = optimizer.step(CNN, params, optimizer.init(params), x, t)
    for block, record in zip(
        step.state.blocks, kf.forward_backward(CNN, params, x, t).records, strict=True
    ):
        A = kf.input_factor(record.a_bar)
        gamma = 1 / (block.lambda_a + np.trace(A) / len(A))
        s = gamma * kf.input_mean(record.a_bar)
        np.testing.assert_allclose(block.H_a @ (A @ s + block.lambda_a * s), s, atol=1e-14)
        assert len(block.H_a.S) == 1


def test_without_curvature_updates_it_is_a_fixed_kronecker_preconditioner():
    """Limit case: H_g stays I and H_a stays (A_0 + λ_A I)⁻¹; the first step is -lr (1 − β) g
    H_a.
    """
    optimizer = kf.preset("kfqn_cnn", lr=0.5, damping=0.04, curvature_interval=1000)
    params = MLP.init(np.random.default_rng(4))
    x, t = batch(MLP)
    first = kf.forward_backward(MLP, params, x, t)
    state = replace(optimizer.init(params), k=1)  # not a multiple of the interval
    new, state, loss = optimizer.step(MLP, params, state, x, t)
    assert loss == first.loss
    for W, W_new, g, record in zip(params, new, first.grads, first.records, strict=True):
        B = kf.input_factor(record.a_bar) + 0.2 * np.eye(W.shape[1])
        np.testing.assert_allclose(W - W_new, 0.05 * np.linalg.solve(B, g.T).T, atol=1e-14)


def test_large_damping_is_gradient_descent():
    """λ → ∞ with lr growing like √λ turns H_a into I / √λ: the first step tends to lr (1 − β) g /
    √λ.
    """
    params = MLP.init(np.random.default_rng(4))
    x, t = batch(MLP)
    optimizer = kf.preset("kfqn_cnn", lr=1e6, damping=1e12)
    new, *_ = optimizer.step(MLP, params, optimizer.init(params), x, t)
    for W, W_new, g in zip(params, new, kf.forward_backward(MLP, params, x, t).grads, strict=True):
        np.testing.assert_allclose(W - W_new, 0.1 * g, rtol=1e-4, atol=1e-6)


def test_weight_decay_is_in_the_step_and_not_in_the_pair():
    """Two runs that reach the same new weights, one by decay alone, have the same output pair."""
    params = MLP.init(np.random.default_rng(5))
    x, t = batch(MLP)
    first = kf.forward_backward(MLP, params, x, t)
    decayed = kf.preset("kfqn_cnn", weight_decay=0.3)
    new, state, _ = decayed.step(MLP, params, decayed.init(params), x, t)
    second = kf.forward_backward(MLP, new, x, t)
    for block, before, after in zip(state.blocks, first.records, second.records, strict=True):
        s, y = kf.output_pair(before, after)
        np.testing.assert_allclose(block.s_g, 0.1 * s, atol=1e-15)
        np.testing.assert_allclose(block.y_g, 0.1 * y, atol=1e-15)


def test_warm_start_averages_A_over_the_batches():
    params = CNN.init(np.random.default_rng(6))
    batches = [batch(CNN, seed=k) for k in range(3)]
    optimizer = kf.preset("kfqn_cnn", damping=0.09)
    state = optimizer.warm_start(CNN, params, optimizer.init(params), batches)
    whole = kf.forward_backward(
        CNN, params, *(np.concatenate(each) for each in zip(*batches, strict=True))
    )
    for block, record in zip(state.blocks, whole.records, strict=True):
        A = kf.input_factor(record.a_bar)  # equal batches: the mean of A is A of all samples
        np.testing.assert_allclose(
            block.H_a.dense() @ (A + 0.3 * np.eye(len(A))), np.eye(len(A)), atol=1e-10
        )
    with pytest.raises(ValueError, match="before the first iteration"):
        optimizer.warm_start(CNN, params, state, batches)
    with pytest.raises(ValueError, match="at least one mini-batch"):
        optimizer.warm_start(CNN, params, optimizer.init(params), [])


def test_averaged_A_starts_at_the_first_batch_and_moves_from_the_second():
    optimizer = kf.preset("kbfgs_2020")
    params = MLP.init(np.random.default_rng(7))
    state, factors = optimizer.init(params), []
    for k in range(3):
        x, t = batch(MLP, seed=k)
        factors.append(kf.input_factor(kf.forward_backward(MLP, params, x, t).records[0].a_bar))
        params, state, _ = optimizer.step(MLP, params, state, x, t)
    expected = 0.9 * (0.9 * factors[0] + 0.1 * factors[1]) + 0.1 * factors[2]
    np.testing.assert_allclose(state.blocks[0].A, expected, atol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("k", [0, 3])
def test_a_batch_that_is_not_finite_changes_only_the_counters(bad, k):
    optimizer = kf.preset("kfqn_cnn")
    params = MLP.init(np.random.default_rng(8))
    state = optimizer.init(params)
    for i in range(k):
        params, state, _ = optimizer.step(MLP, params, state, *batch(MLP, seed=i))
    x, t = batch(MLP)
    x[2, 1] = bad
    with np.errstate(invalid="ignore"):
        step = optimizer.step(MLP, params, state, x, t)
    assert step.params is params
    assert step.state == replace(state, k=k + 1, skipped_steps=1)
    assert optimizer.step(MLP, params, step.state, *batch(MLP)).state.skipped_steps == 1


def test_a_factor_that_overflows_is_not_averaged():
    """Inputs can be so large that A overflows where loss and gradient, behind a saturated tanh, do
    not.
    """
    optimizer = kf.preset("kbfgs_2020")
    params = MLP.init(np.random.default_rng(8))
    params, state, _ = optimizer.step(MLP, params, optimizer.init(params), *batch(MLP))
    x, t = batch(MLP, seed=1)
    with np.errstate(over="ignore", invalid="ignore"):
        step = optimizer.step(MLP, params, state, 1e200 * x, t)
    assert step.state.skipped_steps == 0
    np.testing.assert_array_equal(step.state.blocks[0].A, state.blocks[0].A)


def test_a_step_of_length_zero_carries_no_curvature():
    optimizer = kf.preset("kfqn_cnn", lr=0.0)
    params = MLP.init(np.random.default_rng(9))
    step = optimizer.step(MLP, params, optimizer.init(params), *batch(MLP))
    for block in step.state.blocks:
        assert block.counts == Counts(updates_a=1, skipped_g=1)
        np.testing.assert_array_equal(block.H_g.dense(), np.eye(len(block.s_g)))


def test_a_second_pass_that_overflows_is_skipped_and_not_averaged():
    optimizer = kf.preset("kfqn_cnn", lr=1e300)
    network = kf.Network((kf.Linear(4, 3), kf.Linear(3, 2)), kf.MeanSquaredError())
    params = network.init(np.random.default_rng(9))
    x = np.ones((4, 4))
    with np.errstate(over="ignore", invalid="ignore"):
        step = optimizer.step(network, params, optimizer.init(params), x, np.zeros((4, 2)))
    for block in step.state.blocks:
        assert block.counts.skipped_g == 1
        assert not block.s_g.any()
        assert not block.y_g.any()


def test_2020_skips_pairs_of_little_curvature():
    """sᵀy ≤ threshold ‖s‖² ‖ḡ‖ is skipped: an absurd threshold skips everything, for both
    factors.
    """
    optimizer = kf.preset("kbfgs_2020", skip_below=1e12)
    params = MLP.init(np.random.default_rng(10))
    step = optimizer.step(MLP, params, optimizer.init(params), *batch(MLP))
    assert all(block.counts.skipped_a == block.counts.skipped_g == 1 for block in step.state.blocks)


def test_a_grouped_convolution_is_layers_side_by_side():
    """Two groups have the factors, and take the step, of two convolutions on the halves of the
    channels.
    """
    rng = np.random.default_rng(11)
    grouped = kf.Network((kf.Conv2d(4, 6, 2, groups=2),), kf.MeanSquaredError())
    half = kf.Network((kf.Conv2d(2, 3, 2),), kf.MeanSquaredError())
    params = grouped.init(rng)
    x, t = rng.standard_normal((3, 4, 4, 4)), rng.standard_normal((3, 6, 3, 3))
    optimizer = kf.preset("kfqn_cnn", lr=0.1)
    both = optimizer.step(grouped, params, optimizer.init(params), x, t)
    for group in range(2):
        part = x[:, 2 * group : 2 * group + 2], t[:, 3 * group : 3 * group + 3]
        alone = optimizer.step(
            half, params[group : group + 1], optimizer.init(params[group : group + 1]), *part
        )
        a, b = both.state.blocks[group], alone.state.blocks[0]
        np.testing.assert_allclose(a.H_a.dense(), b.H_a.dense(), atol=1e-12)
        np.testing.assert_allclose(
            2 * a.M, b.M, atol=1e-14
        )  # the loss is a mean over features: twice as many


@given(
    st.floats(allow_nan=True),
    st.sampled_from(["lr", "damping", "momentum", "weight_decay", "pair_decay", "mu1"]),
)
def test_values_outside_their_range_are_refused_by_name(value, name):
    ranges = {
        "lr": value >= 0, "damping": value > 0, "momentum": 0 <= value < 1,
        "weight_decay": value >= 0, "pair_decay": 0 <= value < 1, "mu1": 0 < value < 1,
    }  # fmt: skip  # a table
    if ranges[name]:
        assert getattr(kf.preset("kfqn_cnn", **{name: value}), name) == value
    else:
        with pytest.raises(ValueError, match=f"{name} must"):
            kf.preset("kfqn_cnn", **{name: value})


def test_what_a_preset_refuses():
    with pytest.raises(ValueError, match="preset must be one of kbfgs_2020, .*got 'adam'"):
        kf.preset("adam")
    with pytest.raises(ValueError, match=r"damping must be in \(0, 1\) with double damping, got 2"):
        kf.preset("kbfgs_2020", damping=2)
    for name in ("memory", "curvature_interval"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            kf.preset("kfqn_cnn", **{name: 0})
    with pytest.raises(TypeError, match="speed"):
        kf.preset("kfqn_cnn", speed=2)
    params = CNN.init(np.random.default_rng(0))
    optimizer = kf.preset("kbfgs_l_2020")
    with pytest.raises(ValueError, match="linear layers only, got a Conv2d"):
        optimizer.step(CNN, params, optimizer.init(params), *batch(CNN))


def test_eager_updates_at_the_start_and_then_at_the_interval():
    """With 3 eager iterations and interval 5, pairs are seen at iterations 0, 1, 2 and 5 only."""
    optimizer = kf.preset("kfqn_eager", eager_steps=3, curvature_interval=5)
    params = CNN.init(np.random.default_rng(2))
    state, seen = optimizer.init(params), []
    for k in range(7):
        params, state, _ = optimizer.step(CNN, params, state, *batch(CNN, seed=k))
        counts = state.blocks[0].counts
        seen.append(counts.updates_g + counts.skipped_g)
    assert seen == [1, 2, 3, 3, 3, 4, 4]
    with pytest.raises(ValueError, match="eager_steps must not be negative"):
        kf.preset("kfqn_eager", eager_steps=-1)
