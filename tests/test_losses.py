"""Losses against torch; the distribution that `sample` draws from against the loss itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kfqn_ref as kf

RNG = np.random.default_rng(0)
N, C = 6, 4
CASES = {
    "softmax": (
        kf.SoftmaxCrossEntropy(),
        RNG.integers(0, C, N),
        lambda z, t: F.cross_entropy(z, t, reduction="none"),
    ),
    "squared": (
        kf.MeanSquaredError(),
        RNG.standard_normal((N, C)),
        lambda z, t: F.mse_loss(z, t, reduction="none").mean(1),
    ),
    "bernoulli": (
        kf.BernoulliCrossEntropy(),
        RNG.random((N, C)),
        lambda z, t: F.binary_cross_entropy_with_logits(z, t, reduction="none").sum(1),
    ),
}


@pytest.mark.parametrize("scale", [1.0, 100.0, 700.0], ids=["usual", "large", "near overflow"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name, scale):
    loss, target, expected = CASES[name]
    outputs = scale * np.random.default_rng(1).standard_normal((N, C))
    z = torch.from_numpy(outputs).requires_grad_()
    values = expected(z, torch.from_numpy(target))
    values.sum().backward()
    np.testing.assert_allclose(loss.value(outputs, target), values.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(loss.gradient(outputs, target), z.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_sampled_targets_obey_the_information_identity(name):
    """E Dh = 0 and E Dh Dhᵀ = ∂²f/∂h² when targets follow the model: both within five standard
    errors.
    """
    loss, target, _ = CASES[name]
    z = np.random.default_rng(2).standard_normal((1, C))
    outputs = np.repeat(z, 40_000, axis=0)
    Dh = loss.gradient(outputs, loss.sample(outputs, np.random.default_rng(3)))
    steps = np.repeat(z, C, axis=0) + 1e-30j * np.eye(C)
    hessian = loss.gradient(steps, np.repeat(target[:1], C, axis=0)).imag / 1e-30
    products = np.einsum("ni,nj->nij", Dh, Dh)
    for samples, expected in ((Dh, 0), (products, hessian)):
        error = 5 * samples.std(axis=0) / np.sqrt(len(samples)) + 1e-15
        assert (abs(samples.mean(axis=0) - expected) <= error).all()


@pytest.mark.parametrize(
    ("loss", "target", "error", "message"),
    [
        (kf.SoftmaxCrossEntropy(), np.zeros(N), TypeError, "integer dtype, got float64"),
        (kf.SoftmaxCrossEntropy(), np.zeros(3, int), ValueError, r"target must be \(6,\)"),
        (kf.SoftmaxCrossEntropy(), np.full(N, C), ValueError, r"in \[0, 4\), got 4..4"),
        (kf.SoftmaxCrossEntropy(), np.full(N, -1), ValueError, r"in \[0, 4\), got -1..-1"),
        (kf.MeanSquaredError(), np.zeros((N, 3)), ValueError, "shape of the outputs"),
        (kf.BernoulliCrossEntropy(), np.zeros((N, 3)), ValueError, "shape of the outputs"),
        (
            kf.BernoulliCrossEntropy(),
            np.full((N, C), 1.5),
            ValueError,
            r"in \[0, 1\], got 1.5..1.5",
        ),
        (
            kf.BernoulliCrossEntropy(),
            np.full((N, C), np.nan),
            ValueError,
            r"in \[0, 1\], got nan..nan",
        ),
    ],
)
def test_a_target_of_the_wrong_kind_is_refused(loss, target, error, message):
    for method in (loss.value, loss.gradient):
        with pytest.raises(error, match=message):
            method(np.zeros((N, C)), target)
