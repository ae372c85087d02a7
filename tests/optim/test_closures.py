"""The closure that ``kfqn_ref.optim.closure`` makes, and steps without one."""

import copy
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from kfqn_ref.optim import KFQN, closure

from .models import closure_of, cnn, data, equal, tensors, weights


def test_the_closure_is_the_one_written_by_hand() -> None:
    ours = cnn()
    theirs = cnn()
    one = KFQN(ours)
    other = KFQN(theirs)
    for k in range(3):
        batch = data(seed=k)
        loss = one.step(closure(ours, F.cross_entropy, batch))
        assert torch.equal(loss, other.step(closure_of(theirs, *batch)))
    assert equal(weights(ours), weights(theirs))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, F.cross_entropy, data()), TypeError, "model must be callable, got NoneType"),
        ((cnn(), "mse", data()), TypeError, "loss_fn must be callable, got str"),
        ((cnn(), F.cross_entropy, data()[0]), ValueError, "batch must be inputs and targets"),
        ((cnn(), F.cross_entropy, (1, 2, 3)), ValueError, "batch must be inputs and targets"),
    ],
)
def test_what_is_no_model_loss_or_batch_is_refused(
    arguments: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        closure(*arguments)


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_adam", "kfqn_input"])
def test_steps_without_a_closure_are_those_with_one(preset: str) -> None:
    """Wherever no update is due, both take the same gradients; two halves add up to a batch."""
    ours = cnn()
    theirs = cnn()
    one = KFQN(ours, preset, curvature_interval=3)
    other = KFQN(theirs, preset, curvature_interval=3)
    for k in range(7):
        x, target = data(seed=k)
        other.step(closure_of(theirs, x, target))
        if k % 3 == 0:
            one.step(closure_of(ours, x, target))
            continue
        one.zero_grad()
        F.cross_entropy(ours(x), target).backward()
        assert one.step() is None
    assert equal(weights(ours), weights(theirs))
    assert equal(tensors(dict(one.state)), tensors(dict(other.state)))


@pytest.mark.parametrize(
    ("preset", "options", "steps", "words"),
    [
        ("kfqn_cnn", {}, 0, "second pass"),
        ("kfqn_cnn", {"curvature_interval": 2}, 2, "second pass"),
        ("kfqn_cnn", {"curvature_interval": 2, "loss_reduction": "sum"}, 1, "number of samples"),
    ],
)
def test_a_step_that_needs_a_closure_says_so_and_moves_nothing(
    preset: str, options: dict[str, Any], steps: int, words: str
) -> None:
    model = cnn()
    reduction = options.get("loss_reduction", "mean")
    opt = KFQN(model, preset, **options)
    for k in range(steps):
        opt.step(closure_of(model, *data(seed=k), reduction=reduction))
    closure_of(model, *data(seed=9), reduction=reduction)()
    before = weights(model), copy.deepcopy(tensors(dict(opt.state)))
    with pytest.raises(TypeError, match=words) as error:
        opt.step()
    assert "kfqn_ref.optim.closure(model, loss_fn, batch)" in str(error.value)
    assert equal(weights(model), before[0])
    assert equal(tensors(dict(opt.state)), before[1])


def test_a_step_without_closure_and_without_gradients_is_refused() -> None:
    model = cnn()
    opt = KFQN(model, curvature_interval=5)
    opt.step(closure_of(model, *data()))
    opt.zero_grad()
    before = weights(model)
    with pytest.raises(ValueError, match=re.escape("call loss.backward() before step()")):
        opt.step()
    assert equal(weights(model), before)


def test_gradients_that_are_not_finite_move_nothing_without_a_closure() -> None:
    model = cnn()
    opt = KFQN(model, curvature_interval=5)
    opt.step(closure_of(model, *data()))
    before = weights(model)
    closure_of(model, *data(seed=1))()
    grad = next(model.parameters()).grad
    assert grad is not None
    grad.fill_(float("nan"))
    opt.step()
    assert equal(weights(model), before)
    assert opt.skipped_steps == 1
