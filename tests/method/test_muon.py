"""The orthogonal step: what Newton and Schulz do to singular values, and its two limit cases."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf
from kfqn_ref.factors import input_factor
from kfqn_ref.layers import Linear, Tanh
from kfqn_ref.losses import SoftmaxCrossEntropy
from kfqn_ref.method import muon
from kfqn_ref.method.options import ExactInput, Options, Orthogonal
from kfqn_ref.network import Network, forward_backward
from kfqn_ref.optim.presets import Orthogonal as OfTorch
from kfqn_ref.optim.presets import Preset

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))


def by_singular_values(X: np.ndarray, steps: int) -> np.ndarray:
    """What the iteration must give: the polynomial on every singular value."""
    U, sigma, Vt = np.linalg.svd(X, full_matrices=False)
    a, b, c = muon.COEFFICIENTS
    sigma = sigma / max(np.sqrt(np.sum(sigma**2)), muon.EPS)
    for _ in range(steps):
        sigma = a * sigma + b * sigma**3 + c * sigma**5
    return U * sigma @ Vt


@given(SHAPES, st.integers(0, 7), st.integers(0, 10**6), st.sampled_from([1e-12, 1.0, 1e12]))
def test_only_the_singular_values_change_and_by_the_polynomial(
    shape: tuple[int, int], steps: int, seed: int, scale: float
) -> None:
    X = scale * np.random.default_rng(seed).standard_normal(shape)
    found = muon.newton_schulz(X, steps)
    assert found.shape == shape
    # rounding grows by the slope of p at 0, once a step
    bound = 1e-14 * muon.COEFFICIENTS[0] ** steps
    assert np.linalg.norm(found - by_singular_values(X, steps)) <= bound


def test_five_steps_come_near_to_the_orthogonal_factor() -> None:
    X = np.random.default_rng(0).standard_normal((6, 9))
    sigma = np.linalg.svd(muon.newton_schulz(X), compute_uv=False)
    assert sigma.min() > 0.6
    assert sigma.max() < 1.3
    assert not muon.newton_schulz(np.zeros((2, 3))).any()


NETWORK = Network((Linear(5, 4), Tanh(), Linear(4, 3)), SoftmaxCrossEntropy())


def test_with_the_exact_inverse_it_is_newton_muon() -> None:
    """The step of Du and Su on a fixed mini-batch; ``H_a`` is that of the iteration before."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((8, 5))
    target = rng.integers(0, 3, 8)
    options = Options(
        input_inverse=ExactInput(),
        output_inverse=kf.preset("kfqn_muon").options.output_inverse,
        direction=Orthogonal(),
    )
    method = kf.KFQN(lr=0.05, momentum=0.0, damping=0.09, options=options)
    params = NETWORK.init(rng)
    state = method.init(params)
    earlier = forward_backward(NETWORK, params, x, target)
    for _ in range(10):
        now = forward_backward(NETWORK, params, x, target)
        wanted = []
        for W, g, record in zip(params, now.grads, earlier.records, strict=True):
            A = input_factor(record.a_bar)  # Z Zᵀ / N
            turned = g @ np.linalg.inv(A + 0.3 * np.eye(len(A)))
            ratio = np.sqrt(max(1, W.shape[0] / W.shape[1]))
            wanted.append(W - 0.05 * ratio * by_singular_values(turned, 5))
        step = method.step(NETWORK, params, state, x, target)
        for W, expected in zip(step.params, wanted, strict=True):
            # roundoff times 3.4445⁵, the slope of the polynomial, times 10 steps and the products
            np.testing.assert_allclose(W, expected, rtol=0, atol=1e-11)
        params = step.params
        state = step.state
        earlier = now


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="square_decay must be 0 with a direction of its own"):
        kf.preset("kfqn_muon", square_decay=0.9)
    with pytest.raises(ValueError, match="square_decay must be 0 with a direction of its own"):
        Preset("of torch", square_decay=0.9, direction=OfTorch())
    for kind in (Orthogonal, OfTorch):
        with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
            kind(steps=0)
    convergent = kf.preset("convergent")
    with pytest.raises(ValueError, match="direction must be Preconditioned"):
        replace(convergent, options=replace(convergent.options, direction=Orthogonal()))
