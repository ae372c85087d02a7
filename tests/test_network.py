"""A whole pass against torch autograd, and what a record holds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import kfqn_ref as kf

CNN = kf.Network(
    (
        kf.Conv2d(2, 4, 3, stride=2, padding=1),
        kf.Tanh(),
        kf.AvgPool2d(2, stride=1),
        kf.Conv2d(4, 6, 2, groups=2, bias=False),
        kf.ReLU(),
        kf.MaxPool2d(2),
        kf.Flatten(),
        kf.Linear(6, 5),
        kf.Sigmoid(),
        kf.Linear(5, 3),
    ),
    kf.SoftmaxCrossEntropy(),
)


def torch_loss(params: list[torch.Tensor], x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the loss of CNN, written out in torch."""
    first, left, right, hidden, last = params
    h = F.conv2d(x, first[:, :-1].reshape(4, 2, 3, 3), first[:, -1], stride=2, padding=1)
    h = F.avg_pool2d(torch.tanh(h), 2, stride=1)
    h = F.conv2d(h, torch.cat([left, right]).reshape(6, 2, 2, 2), groups=2)
    h = F.max_pool2d(F.relu(h), 2).flatten(1)
    h = torch.sigmoid(F.linear(h, hidden[:, :-1], hidden[:, -1]))
    return F.cross_entropy(F.linear(h, last[:, :-1], last[:, -1]), target)


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return CNN.init(rng), rng.standard_normal((5, 2, 8, 8)), rng.integers(0, 3, 5)


def test_loss_and_gradients_are_those_of_autograd(case):
    params, x, target = case
    result = kf.forward_backward(CNN, params, x, target)
    leaves = [torch.from_numpy(W).requires_grad_() for W in params]
    loss = torch_loss(leaves, torch.from_numpy(x), torch.from_numpy(target))
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-13)
    assert CNN.value(params, x, target) == result.loss
    for grad, leaf in zip(result.grads, leaves, strict=True):
        np.testing.assert_allclose(grad, leaf.grad, rtol=1e-11, atol=1e-14)


def test_gradients_are_those_of_central_differences(case):
    """Without torch: the error of a central difference is O(ε²) plus rounding / ε, near 1e-10 at ε
    = 1e-5.
    """
    params, x, target = case
    grads = kf.forward_backward(CNN, params, x, target).grads
    rng = np.random.default_rng(1)
    for block, grad in enumerate(grads):
        V = rng.standard_normal(grad.shape)
        f = [
            CNN.value(
                tuple(W + e * V if i == block else W for i, W in enumerate(params)), x, target
            )
            for e in (1e-5, -1e-5)
        ]
        assert (f[0] - f[1]) / 2e-5 == pytest.approx(np.vdot(grad, V), abs=1e-8)


def test_records_hold_inputs_outputs_and_per_sample_gradients(case):
    params, x, target = case
    whole = kf.forward_backward(CNN, params, x, target)
    alone = [
        kf.forward_backward(CNN, params, x[n : n + 1], target[n : n + 1]) for n in range(len(x))
    ]
    for block, record in enumerate(whole.records):
        np.testing.assert_allclose(record.h, record.a_bar @ params[block].T, atol=1e-13)
        Dh = np.concatenate([each.records[block].Dh for each in alone])
        np.testing.assert_allclose(record.Dh, Dh, atol=1e-14)  # no 1/N in it
        mean = np.einsum("ntg,nta->ga", record.Dh, record.a_bar) / len(x)
        np.testing.assert_allclose(whole.grads[block], mean, atol=1e-14)


def test_arguments_come_back_unchanged(case):
    params, x, target = case
    for array in (*params, x, target):
        array.setflags(write=False)
    kf.forward_backward(CNN, params, x, target)


def test_initial_weights_fill_torchs_range():
    (W,) = kf.Network((kf.Linear(100, 400),), kf.MeanSquaredError()).init(np.random.default_rng(0))
    assert 0.099 < abs(W).max() < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params, x, t: (params[:-1], x, t), "params must have shapes"),
        (lambda params, x, t: ((params[0].T, *params[1:]), x, t), "params must have shapes"),
        (lambda params, x, t: (params, x[:0], t[:0]), "at least one sample"),
        (lambda params, x, t: (params, x[0], t), r"input must be \(N, 2, H, W\)"),
        (lambda params, x, t: (params, x, t[:-1]), r"target must be \(5,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(case, change, message):
    with pytest.raises(ValueError, match=message):
        kf.forward_backward(CNN, *change(*case))
