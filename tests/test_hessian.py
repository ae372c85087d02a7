"""The exact block against autograd and finite differences; where A ⊗ G is exact; SUD, IAD, SH
alone.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kfqn_ref as kf

CNN = kf.Network(
    (
        kf.Conv2d(1, 2, 2, stride=2, padding=1),
        kf.Tanh(),
        kf.Conv2d(2, 4, 2, groups=2, bias=False),
        kf.Sigmoid(),
        kf.Flatten(),
        kf.Linear(16, 3),
    ),
    kf.SoftmaxCrossEntropy(),
)


def torch_loss(params, x, target):
    """Return the loss of CNN, written out in torch."""
    first, left, right, last = params
    h = torch.tanh(
        F.conv2d(x, first[:, :-1].reshape(2, 1, 2, 2), first[:, -1], stride=2, padding=1)
    )
    h = torch.sigmoid(F.conv2d(h, torch.cat([left, right]).reshape(4, 1, 2, 2), groups=2)).flatten(
        1
    )
    return F.cross_entropy(F.linear(h, last[:, :-1], last[:, -1]), target)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    return CNN.init(rng), rng.standard_normal((4, 1, 4, 4)), rng.integers(0, 3, 4)


@pytest.mark.parametrize("block", range(4))
def test_exact_block_is_the_hessian_of_autograd(case, block):
    params, x, target = case
    tensors = [torch.from_numpy(W) for W in params]
    shape = params[block].shape

    def loss(w):  # w is cvec(W): columns stacked
        moved = [*tensors[:block], w.reshape(shape[1], shape[0]).T, *tensors[block + 1 :]]
        return torch_loss(moved, torch.from_numpy(x), torch.from_numpy(target))

    w = torch.from_numpy(kf.kronecker.cvec(params[block]))
    expected = torch.autograd.functional.hessian(loss, w)
    actual = kf.hessian.exact_blocks(CNN, params, x, target, block).exact
    np.testing.assert_allclose(actual, expected, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("block", range(4))
def test_exact_block_is_that_of_central_differences(case, block):
    """Without torch: a difference of exact gradients at ε = 1e-5 has an error near 1e-10."""
    params, x, target = case
    V = np.random.default_rng(1).standard_normal(params[block].shape)
    g = [
        kf.forward_backward(
            CNN, tuple(W + e * V if i == block else W for i, W in enumerate(params)), x, target
        ).grads[block]
        for e in (1e-5, -1e-5)
    ]
    exact = kf.hessian.exact_blocks(CNN, params, x, target, block).exact
    np.testing.assert_allclose(
        exact @ kf.kronecker.cvec(V), kf.kronecker.cvec(g[0] - g[1]) / 2e-5, atol=1e-8
    )


def test_approximations_by_loops_over_samples_and_locations():
    """SUD, IAD and A ⊗ G from their definitions, one Kronecker product at a time."""
    rng = np.random.default_rng(2)
    N, T, d_a, d_g = 3, 4, 3, 2
    a_bar, Hh = rng.standard_normal((N, T, d_a)), rng.standard_normal((N, T, d_g, T, d_g))
    blocks = kf.hessian.layer_blocks(a_bar, Hh)
    exact, sud, iad = np.zeros((3, d_a * d_g, d_a * d_g))
    for t in range(T):
        A_t = sum(np.outer(a_bar[n, t], a_bar[n, t]) for n in range(N)) / N
        G_t = sum(Hh[n, t, :, t, :] for n in range(N)) / N
        iad += np.kron(A_t, G_t)
        for n in range(N):
            sud += np.kron(np.outer(a_bar[n, t], a_bar[n, t]), Hh[n, t, :, t, :]) / N
            for u in range(T):
                exact += np.kron(np.outer(a_bar[n, t], a_bar[n, u]), Hh[n, t, :, u, :]) / N
    G = sum(Hh[n, t, :, t, :] for n in range(N) for t in range(T)) / (N * T)
    np.testing.assert_allclose(blocks.exact, exact, atol=1e-13)
    np.testing.assert_allclose(blocks.sud, sud, atol=1e-13)
    np.testing.assert_allclose(blocks.sud_iad, iad, atol=1e-13)
    np.testing.assert_allclose(blocks.kronecker, np.kron(kf.input_factor(a_bar), G), atol=1e-13)
    np.testing.assert_allclose(kf.hessian.output_factor(Hh), G, atol=1e-14)
    errors = blocks.errors()
    assert errors["total"] == pytest.approx(
        np.linalg.norm(blocks.kronecker - exact) / np.linalg.norm(exact)
    )
    assert errors["SUD"] == pytest.approx(np.linalg.norm(sud - exact) / np.linalg.norm(exact))


def errors_of(layers, loss, N, x_shape, classes, block=0):
    rng = np.random.default_rng(3)
    network = kf.Network(layers, loss)
    x = rng.standard_normal((N, *x_shape))
    params = network.init(rng)
    outputs = network.predict(params, x)
    target = rng.integers(0, classes, N) if classes else rng.standard_normal(outputs.shape)
    return kf.hessian.exact_blocks(network, params, x, target, block).errors()


EXACT = {
    "one sample, linear layer": (
        (kf.Linear(4, 3), kf.Tanh(), kf.Linear(3, 3)),
        kf.SoftmaxCrossEntropy(), 1, (4,), 3, 0,
    ),
    "last layer of a deep linear net, square loss": (
        (kf.Linear(4, 3), kf.Linear(3, 2)),
        kf.MeanSquaredError(), 5, (4,), 0, 1,
    ),
    "first layer of a deep linear net, square loss": (
        (kf.Linear(4, 3), kf.Linear(3, 2)),
        kf.MeanSquaredError(), 5, (4,), 0, 0,
    ),
    "1x1 convolution, one quadratic at every location": (
        (kf.Conv2d(2, 3, 1),),
        kf.MeanSquaredError(), 4, (2, 3, 3), 0, 0,
    ),
}  # fmt: skip  # one case a row


@pytest.mark.parametrize("name", EXACT)
def test_kronecker_product_is_exact(name):
    assert errors_of(*EXACT[name])["total"] < 1e-14


ALONE = {
    # |T| = 1 leaves IAD only; samples with different softmax Hessians break it
    "IAD": ((kf.Linear(4, 3),), kf.SoftmaxCrossEntropy(), 5, (4,), 3, 0),
    # a linear map mixes the locations with one constant Hessian: SUD fails, IAD holds
    "SUD": (
        (kf.Conv2d(1, 2, 1), kf.Flatten(), kf.Linear(18, 18)),
        kf.MeanSquaredError(), 4, (1, 3, 3), 0, 0,
    ),
}  # fmt: skip  # one case a row


@pytest.mark.parametrize("name", ALONE)
def test_an_assumption_fails_alone(name):
    errors = errors_of(*ALONE[name])
    assert errors[name] > 0.01
    others = {"IAD": ("SUD", "SH"), "SUD": ("IAD",)}[name]
    assert all(errors[other] < 1e-14 for other in others)


def test_spatial_homogeneity_fails_alone():
    """A quadratic at every location, with another weight at each: SUD and IAD hold, SH does not."""
    rng = np.random.default_rng(4)
    a_bar = rng.standard_normal((3, 4, 2))
    Hh = np.zeros((3, 4, 2, 4, 2))
    for t in range(4):
        Hh[:, t, :, t, :] = (t + 1) * np.eye(2)
    errors = kf.hessian.layer_blocks(a_bar, Hh).errors()
    assert errors["SH"] > 0.01
    assert max(errors["SUD"], errors["IAD"]) < 1e-15


def test_a_block_that_is_not_there_is_refused(case):
    params, x, target = case
    with pytest.raises(ValueError, match=r"block must be in \[0, 4\), got 4"):
        kf.hessian.output_hessian(CNN, params, x, target, 4)
