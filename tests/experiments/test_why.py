"""What the study of the estimates measures: cosines, and shares of Newton's gain."""

import numpy as np
import pytest

import kfqn_ref as kf
from kfqn_ref.bfgs import DenseInverse
from kfqn_ref.experiments.book import why
from kfqn_ref.experiments.book.sides import DAMPING, network
from kfqn_ref.experiments.data import digits
from kfqn_ref.kronecker import cvec, cvec_inverse


def test_newtons_direction_captures_everything_and_no_other_one_does() -> None:
    rng = np.random.default_rng(0)
    g = rng.standard_normal((2, 3))
    root = rng.standard_normal((6, 6))
    B = root @ root.T + np.eye(6)
    newton = cvec_inverse(np.linalg.solve(B, cvec(g)), (2, 3))
    assert why.captured(newton, g, B) == pytest.approx(1, rel=1e-12)
    assert why.captured(3 * newton, g, B) == pytest.approx(1, rel=1e-12)  # any length of it
    assert why.captured(g, g, B) < 1
    f = -((g.ravel() @ g.ravel()) ** 2) / (2 * cvec(g) @ B @ cvec(g))  # the decrease along g
    assert why.captured(g, g, B) == pytest.approx(f / (-cvec(g) @ np.linalg.solve(B, cvec(g)) / 2))


def test_the_cosine_does_not_see_a_factor() -> None:
    M = np.array([[2.0, 1.0], [1.0, 3.0]])
    assert why.cosine(5 * M, M) == pytest.approx(1)
    assert why.cosine(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])) == 0


def test_the_positive_part_drops_negative_eigenvalues() -> None:
    assert np.allclose(why.positive(np.diag([2.0, -3.0])), np.diag([2.0, 0.0]))


def test_the_first_estimates_are_exact_where_they_must_be() -> None:
    """H_a starts as the damped inverse of A, H_g as the identity."""
    net = network()
    x, target = (part[: why.IMAGES] for part in digits().train)
    W = net.init(np.random.default_rng(0))
    method = kf.preset("kfqn_cnn", lr=0.0, damping=DAMPING, curvature_interval=10**9)
    state = method.step(net, W, method.init(W), x, target).state
    for block, seen in zip(state.blocks, why.measured(net, W, state), strict=True):
        assert seen["cosine_a"] > 0.99  # one update at the mean input came after the start
        assert 0 <= seen["gain_gradient"] <= 1
        assert 0 <= seen["gain_exact"] <= 1
        assert block.lambda_a == block.lambda_g == pytest.approx(DAMPING**0.5)


def test_a_pair_of_negative_curvature_is_skipped() -> None:
    H = DenseInverse(np.eye(2))
    s = np.array([1.0, 0.0])
    pair, damped = why.SkipNegative()(H, s, -s, 0.2, 0.1)
    assert pair.s @ pair.y < 0
    assert not damped
    bent, damped = why.SkipNegative()(H, s, 2 * s, 0.2, 0.1)
    assert bent.s @ bent.y > 0
