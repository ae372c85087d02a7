"""KFAC: factors by loops, exactness where the Fisher matrix is a Kronecker product, and its limit
cases.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf
from kfqn_ref.method.kfac import factored_damping, fisher_output_factor


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_fisher_factor_averages_samples_and_locations(seed, N, T, d):
    Dh = np.random.default_rng(seed).standard_normal((N, T, d))
    G = sum(np.outer(Dh[n, t], Dh[n, t]) for n in range(N) for t in range(T)) / (N * T)
    np.testing.assert_allclose(fisher_output_factor(Dh), G, atol=1e-13)


def test_factored_damping_balances_the_two_sides():
    """π² is the ratio of mean eigenvalues, and π√λ · √λ/π = λ; a factor of zero leaves π = 1."""
    A, G = np.diag([4.0, 12.0]), np.diag([1.0, 3.0])  # means 8 and 2: π = 2
    damped_A, damped_G = factored_damping(A, G, lam=0.09)
    np.testing.assert_allclose(damped_A - A, 0.6 * np.eye(2))
    np.testing.assert_allclose(damped_G - G, 0.15 * np.eye(2))
    damped_A, damped_G = factored_damping(A, 0 * G, lam=0.09)
    np.testing.assert_allclose(damped_A - A, 0.3 * np.eye(2))
    np.testing.assert_allclose(damped_G, 0.3 * np.eye(2))


def test_first_step_inverts_the_damped_factors():
    """One linear layer, square loss: A is known, G comes from the drawn targets of step 0 and seed
    3.
    """
    rng = np.random.default_rng(0)
    network = kf.Network((kf.Linear(3, 2),), kf.MeanSquaredError())
    params = network.init(rng)
    x, t = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    optimizer = kf.KFAC(lr=0.5, damping=0.04, momentum=0.0, seed=3)
    step = optimizer.step(network, params, optimizer.init(params), x, t)
    outputs = network.predict(params, x)
    drawn = network.loss.sample(outputs, np.random.default_rng((3, 0)))
    Dh = network.loss.gradient(outputs, drawn)
    A, G = factored_damping(
        kf.input_factor(np.c_[x, np.ones(5)][:, None]),
        fisher_output_factor(Dh[:, None]),
        lam=0.04,
    )
    g = kf.forward_backward(network, params, x, t).grads[0]
    expected = params[0] - 0.5 * np.linalg.solve(G, np.linalg.solve(A, g.T).T)
    np.testing.assert_allclose(step.params[0], expected, atol=1e-13)
    assert step.loss == network.value(params, x, t)


def test_factors_average_from_the_first_batch_and_only_at_the_interval():
    rng = np.random.default_rng(1)
    network = kf.Network(
        (kf.Conv2d(1, 2, 2), kf.Flatten(), kf.Linear(8, 3)), kf.SoftmaxCrossEntropy()
    )
    params = network.init(rng)
    batches = [(rng.standard_normal((4, 1, 3, 3)), rng.integers(0, 3, 4)) for _ in range(3)]
    optimizer = kf.KFAC(curvature_interval=2, factor_decay=0.8)
    states = [step.state for step in kf.fit(optimizer, network, params, batches)]
    A = [
        kf.input_factor(kf.forward_backward(network, params, x, t).records[0].a_bar)
        for x, t in batches
    ]
    np.testing.assert_allclose(states[0].blocks[0].A, A[0], atol=1e-14)
    assert states[1].blocks[0].A is states[0].blocks[0].A
    np.testing.assert_allclose(
        states[2].blocks[0].A, 0.8 * A[0] + 0.2 * A[2], atol=1e-14
    )  # first layer: x only


def test_it_learns_the_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    network = kf.Network(
        (kf.Linear(64, 20), kf.Tanh(), kf.Linear(20, 10)), kf.SoftmaxCrossEntropy()
    )
    params = network.init(np.random.default_rng(0))
    rng, data = np.random.default_rng(0), (digits.data / 16, digits.target)
    batches = (batch for _ in range(3) for batch in kf.minibatches(*data, 128, rng))
    losses = [step.loss for step in kf.fit(kf.KFAC(lr=0.5), network, params, batches)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1}, "lr must not be negative"),
        ({"damping": 0}, "damping must be positive"),
        ({"momentum": 1}, r"momentum must be in \[0, 1\)"),
        ({"weight_decay": -1}, "weight_decay must not be negative"),
        ({"factor_decay": 1}, r"factor_decay must be in \[0, 1\)"),
        ({"curvature_interval": 0}, "curvature_interval must be at least 1"),
    ],
)
def test_values_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kf.KFAC(**options)
