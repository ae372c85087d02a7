"""SGD and Adam step by step beside torch's, and the training loop."""

import numpy as np
import pytest
import torch

import kfqn_ref as kf

NET = kf.Network((kf.Linear(4, 5), kf.Tanh(), kf.Linear(5, 3)), kf.SoftmaxCrossEntropy())
PAIRS = {
    "sgd": (kf.SGD(0.1, 0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
    "sgd without momentum": (kf.SGD(0.1, 0.0), lambda p: torch.optim.SGD(p, 0.1)),
    "adam": (
        kf.Adam(0.01, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ten_steps_are_those_of_torch(name):
    ours, make = PAIRS[name]
    rng = np.random.default_rng(0)
    params = NET.init(rng)
    leaves = [torch.from_numpy(W.copy()).requires_grad_() for W in params]
    theirs = make(leaves)
    x, t = rng.standard_normal((8, 4)), rng.integers(0, 3, 8)
    for step in kf.fit(ours, NET, params, [(x, t)] * 10):
        grads = kf.forward_backward(
            NET, tuple(leaf.detach().numpy().copy() for leaf in leaves), x, t
        ).grads
        for leaf, grad in zip(leaves, grads, strict=True):
            leaf.grad = torch.from_numpy(grad)
        theirs.step()
        for W, leaf in zip(step.params, leaves, strict=True):
            np.testing.assert_allclose(W, leaf.detach(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kf.SGD(lr=-1), "lr must not be negative, got -1"),
        (lambda: kf.SGD(momentum=1), r"momentum must be in \[0, 1\), got 1"),
        (lambda: kf.SGD(weight_decay=float("nan")), "weight_decay must not be negative, got nan"),
        (lambda: kf.Adam(lr=-1), "lr must not be negative"),
        (lambda: kf.Adam(betas=(0.9, 1.0)), r"betas must be in \[0, 1\), got \(0.9, 1.0\)"),
        (lambda: kf.Adam(eps=0), "eps must be positive"),
        (lambda: kf.Adam(weight_decay=-1), "weight_decay must not be negative"),
    ],
)
def test_values_outside_their_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_epoch_visits_every_sample_once_and_leaves_the_rest_out():
    x = np.arange(10)
    batches = list(kf.minibatches(x, -x, 3, np.random.default_rng(0)))
    seen = np.concatenate([a for a, _ in batches])
    assert len(batches) == 3
    assert len(set(seen.tolist())) == 9
    assert all((a == -b).all() for a, b in batches)
    again = np.concatenate([a for a, _ in kf.minibatches(x, -x, 3, np.random.default_rng(0))])
    assert (again == seen).all()


def test_batches_that_cannot_be_are_refused():
    x = np.arange(10)
    with pytest.raises(ValueError, match="same length, got 10 and 9"):
        next(kf.minibatches(x, x[1:], 3, np.random.default_rng(0)))
    for size in (0, 11):
        with pytest.raises(ValueError, match=r"batch_size must be in \[1, 10\]"):
            next(kf.minibatches(x, x, size, np.random.default_rng(0)))


def test_fit_continues_from_a_state():
    rng = np.random.default_rng(1)
    params, batches = (
        NET.init(rng),
        [(rng.standard_normal((8, 4)), rng.integers(0, 3, 8)) for _ in range(6)],
    )
    optimizer = kf.preset("kfqn_cnn")
    *_, whole = kf.fit(optimizer, NET, params, batches)
    *_, half = kf.fit(optimizer, NET, params, batches[:3])
    *_, rest = kf.fit(optimizer, NET, half.params, batches[3:], half.state)
    for one, two in zip(whole.params, rest.params, strict=True):
        np.testing.assert_array_equal(one, two)
