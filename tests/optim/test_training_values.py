"""Values and losses that change or mislead a step, and errors of one rank: refused, or without
effect.
"""

import copy
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.optim import KFQN
from kfqn_ref.optim.reduction import reductions

from . import ranks, worlds
from .models import close, closure_of, cnn, data, equal, mlp, weights
from .patterns import pattern
from .test_training_patterns import EXACT, REFUSED, everything, refused, started

X, Y = data()
NAN = float("nan")

# ---------------------------------------------------------------------------------------- values


@pattern("values of a group that leave their range in mid-training", REFUSED)
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("lr", NAN, "lr must not be negative, got nan"),
        ("lr", -0.1, "lr must not be negative"),
        ("lr", float("inf"), "lr must be finite"),
        ("momentum", NAN, "momentum must be in"),
        ("momentum", 1.0, "momentum must be in"),
        ("weight_decay", NAN, "weight_decay must not be negative"),
        ("step_decay", NAN, "step_decay must not be negative"),
    ],
)
def test_a_value_that_leaves_its_range_is_refused(key: str, value: float, words: str) -> None:
    model, opt = started()
    opt.param_groups[0][key] = value
    refused(opt, closure_of(model, X, Y), ValueError, words)


@pattern("a misspelt option of a parameter group, given, added or loaded", REFUSED)
@pytest.mark.parametrize(
    ("key", "nearest"),
    [("dampling", "damping"), ("weight_decy", "weight_decay"), ("betas", "other_betas")],
)
def test_a_misspelt_option_of_a_group_is_refused(key: str, nearest: str) -> None:
    model, opt = started()
    words = rf"must be among \['lr', 'damping', .*got \['{key}'\] \(did you mean '{nearest}'\?"
    with pytest.raises(ValueError, match=words):
        KFQN(cnn(), groups=[{"params": model.parameters(), key: 0.1}])
    saved = opt.state_dict()
    before = [x.clone() for x in everything(opt)]
    with pytest.raises(ValueError, match=words):
        opt.add_param_group({"params": nn.Parameter(torch.zeros(2)), key: 0.1})
    saved["param_groups"][0][key] = 0.1
    with pytest.raises(ValueError, match=words):
        opt.load_state_dict(saved)
    assert equal(everything(opt), before)
    assert len(opt.param_groups) == 1
    del saved["param_groups"][0][key], saved["param_groups"][0]["damping"]
    with pytest.raises(ValueError, match=r"must have all options, got no \['damping'\]"):
        opt.load_state_dict(saved)
    assert equal(everything(opt), before)


def test_keys_that_schedulers_and_users_write_are_taken() -> None:
    model, opt = started()
    opt.param_groups[0]["epoch"] = 3  # a user's own, after the group is there
    torch.optim.lr_scheduler.OneCycleLR(opt, 0.2, total_steps=9)
    torch.optim.swa_utils.SWALR(opt, 0.05)
    saved = copy.deepcopy(opt.state_dict())
    opt.load_state_dict(saved)
    assert opt.param_groups[0]["epoch"] == 3
    params = list(model.parameters())
    KFQN(cnn(), groups=[{"params": params, "initial_lr": 0.1, "swa_lr": 0.1, "name": "all"}])
    with pytest.raises(ValueError, match=r"got \['epoch'\]; write a key of your own into"):
        KFQN(cnn()).load_state_dict(saved)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": "0.1"}, "lr must be a number"),
        ({"lr": torch.tensor([0.1, 0.2])}, "lr must be a number"),
        ({"memory": 2.5}, "memory must be an integer"),
        ({"other_betas": 0.9}, "other_betas must be two numbers, got 0.9"),
        ({"other_betas": (0.9, 0.99, 0.999)}, "other_betas must be two numbers"),
        ({"exclude": "5"}, r"exclude must be a list of names, got a text: write \['5'\]"),
        ({"sample_axis": 1}, "sample_axis must be {name: axis}"),
        ({"curvature_interval": 1.5}, "curvature_interval must be an integer"),
    ],
)
def test_an_option_of_the_wrong_kind_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        KFQN(cnn(), **options)


@pattern("a step size that is a tensor", EXACT)
def test_a_tensor_as_step_size_is_the_number() -> None:
    one, other = cnn(), cnn()
    for model, lr in ((one, 0.25), (other, torch.tensor(0.25, dtype=torch.float64))):
        opt = KFQN(model, lr=lr)
        for _ in range(3):
            opt.step(closure_of(model, X, Y))
    assert equal(weights(one), weights(other))


# ---------------------------------------------------------------------------------------- losses


def reduced(model: nn.Module, how: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    """A closure whose loss is made by hand from one number a sample."""

    def closure() -> Tensor:
        model.zero_grad()
        each = nn.functional.cross_entropy(model(X), Y, reduction="none")
        loss = how(each)
        loss.backward()
        return loss

    return closure


def test_as_many_outputs_as_samples_hide_no_reduction() -> None:
    """The sum over outputs of means over samples is a mean, whatever the numbers of both."""
    outputs = torch.randn(16, 16) @ torch.randn(16, 16, requires_grad=True)
    assert reductions(outputs.square().mean(0).sum(), {16}) == {"mean"}
    assert reductions(outputs.square().sum(0).mean(), {16}) == {"sum"}
    assert reductions(outputs.square().sum(1).mean(), {16}) == {"mean"}
    assert reductions(outputs.square().mean(1).sum(), {16}) == {"sum"}


@pattern("another model than the optimizer's in the closure: traced by torch.jit", REFUSED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
def test_a_traced_model_in_the_closure_is_refused() -> None:
    model, opt = started()
    traced = torch.jit.trace(model, X)
    words = "on the outputs of the covered layers, but none was seen"
    refused(opt, closure_of(traced, X, Y), ValueError, words)


@pattern("a step inside torch.inference_mode()", REFUSED)
def test_a_step_in_inference_mode_is_refused() -> None:
    model, opt = started()
    before = weights(model)
    with (
        torch.inference_mode(),
        pytest.raises(ValueError, match=r"outside of torch\.inference_mode"),
    ):
        opt.step(closure_of(model, X, Y))
    assert equal(weights(model), before)


def mean_over_samples(each: Tensor) -> Tensor:
    """The mean, by a product that shows no reduction."""
    return each @ torch.full_like(each, 1 / len(each))


@pattern("a sum over the samples by sum() where the option says mean, or mean() by sum", REFUSED)
@pytest.mark.parametrize(
    ("option", "how"),
    [
        ("mean", torch.sum),
        ("sum", torch.mean),
        ("mean", lambda each: each.sum(0)),
        ("mean", lambda each: -(-each.float()).sum()),
        ("mean", lambda each: each.mean() + each.sum().squeeze()),
        ("sum", lambda each: torch.stack([each.sum(), each.mean()]).sum()),
    ],
)
def test_a_reduction_by_hand_is_seen(option: str, how: Callable[[Tensor], Tensor]) -> None:
    model = cnn()
    opt = KFQN(model, loss_reduction=option)
    words = f"must be a {option} over the samples"
    refused(opt, reduced(model, how), ValueError, words)


@pytest.mark.parametrize(
    "how",
    [
        lambda each: each.sum() / len(each),
        lambda each: each.sum() * (1 / len(each)),
        lambda each: torch.stack([each.mean(), each.mean()]).sum(),  # two losses, each a mean
        lambda each: mean_over_samples(each) + each.view(4, 4).mean(1).square().mean(),
    ],
)
def test_a_sum_that_is_none_over_samples_is_taken(how: Callable[[Tensor], Tensor]) -> None:
    model = cnn()
    before = weights(model)
    KFQN(model).step(reduced(model, how))
    assert not equal(weights(model), before)


def test_a_penalty_on_a_weight_with_as_many_rows_as_samples_is_taken() -> None:
    model = mlp()
    opt = KFQN(model)
    x, target = data(n=len(model[1].weight))

    def closure() -> Tensor:
        opt.zero_grad()
        penalty = model[1].weight.square().sum() + model[1].weight.abs().sum()
        loss = nn.functional.cross_entropy(model(x), target) + penalty
        loss.backward()
        return loss

    before = weights(model)
    opt.step(closure)
    assert not equal(weights(model), before)


@pattern("an empty first mini-batch", EXACT)
def test_an_empty_first_batch_changes_nothing() -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, lr=0.1)
    opt = KFQN(other, lr=0.1)
    before = weights(other)

    def nothing() -> Tensor:
        opt.zero_grad()
        loss = other(X[:0]).sum()  # finite, as a mean over no samples is not
        loss.backward()
        return loss

    opt.step(nothing)
    assert equal(weights(other), before)
    for k in range(3):
        plain.step(closure_of(one, *data(seed=k)))
        opt.step(closure_of(other, *data(seed=k)))
    assert equal(weights(other), weights(one))


@pattern("a loss that is not one number", REFUSED)
def test_a_loss_for_each_sample_is_refused() -> None:
    model = cnn()
    opt = KFQN(model)

    def closure() -> Tensor:
        each = nn.functional.cross_entropy(model(X), Y, reduction="none")
        each.mean().backward()
        return each

    refused(opt, closure, ValueError, r"as one number, got the shape \(16,\)")


# ------------------------------------------------------------------------- what is trained, and how


@pattern("named parameters, or one parameter, in a group", EXACT)
def test_groups_take_named_parameters_and_single_ones() -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, groups=[{"params": [one[5].weight, one[5].bias], "lr": 0.1}])
    named = [{"params": other[5].named_parameters(), "lr": 0.1}]
    opt = KFQN(other, groups=named)
    for k, (model, each) in enumerate(((one, plain), (other, opt))):
        model.append(nn.Linear(5, 5, bias=False, dtype=torch.float64))
        nn.init.eye_(model[6].weight)
        new = model[6].weight
        each.add_param_group({"params": new if k else [new]})
        for _ in range(2):
            each.step(closure_of(model, X, Y))
    assert equal(weights(one), weights(other))
    with pytest.raises(TypeError, match="must be parameters, got str"):
        KFQN(cnn(), groups=[{"params": ["weight"]}])


@pytest.mark.filterwarnings("ignore:covered")
@pattern("only biases, or only norms, of a model are trained", EXACT)
@pytest.mark.parametrize("part", ["bias", "1."])
def test_parameters_beside_frozen_layers_take_the_step_of_AdamW(part: str) -> None:
    def build() -> nn.Sequential:
        model = cnn()
        model[1] = nn.BatchNorm2d(4, dtype=torch.float64)
        for name, p in model.named_parameters():
            p.requires_grad_(part in name)
        return model

    one, other = build(), build()
    trained = [p for p in one.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0)
    opt = KFQN(other)
    for k in range(3):
        adamw.step(closure_of(one, *data(seed=k)))
        opt.step(closure_of(other, *data(seed=k)))
    assert close(weights(other), weights(one), 1e-12)


def test_a_sum_over_samples_that_no_trained_layer_counts_is_refused() -> None:
    model = cnn()
    for name, p in model.named_parameters():
        p.requires_grad_("bias" in name)
    opt = KFQN(model, loss_reduction="sum")
    closure = closure_of(model, X, Y, reduction="sum")
    refused(opt, closure, ValueError, "the number of samples is read there")


@pattern("a trained parameter that is not the model's", EXACT)
def test_a_parameter_beside_the_model_keeps_the_gradient_of_the_first_pass() -> None:
    model = cnn()
    scale = nn.Parameter(torch.ones((), dtype=torch.float64))
    opt = KFQN(model, groups=[{"params": scale}])
    first: list[Tensor | None] = []

    def closure() -> Tensor:
        model.zero_grad()
        scale.grad = None
        loss = nn.functional.cross_entropy(model(X) * scale, Y)
        loss.backward()
        first.append(scale.grad)
        return loss

    opt.step(closure)
    assert scale.grad is first[0] is not None
    assert first[1] is None
    assert scale != 1


@pattern("clip_grad_value_ in both passes; a model scripted by torch.jit", REFUSED)
def test_what_torch_cannot_do_without_gradients_is_refused_in_our_words() -> None:
    model = cnn()
    opt = KFQN(model)

    def closure() -> Tensor:
        loss = closure_of(model, X, Y)()
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        return loss

    before = weights(model)
    with pytest.raises(ValueError, match="only `if not opt.in_second_pass`"):
        opt.step(closure)
    assert equal(weights(model), before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its script old
        scripted = torch.jit.script(mlp())
    with pytest.raises(ValueError, match=r"scripted by torch\.jit: make the optimizer for"):
        KFQN(scripted)


# ----------------------------------------------------------------------------------------- ranks


def rank_with_an_error(rank: int, folder: Path, call: int) -> None:
    """Two ranks; a call of the closure ends with an error on rank 0 alone."""
    worlds.meet(rank, 2, folder / f"meeting-{call}", timedelta(seconds=60))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DistributedDataParallel(ranks.model_for("kfqn_cnn"))
        opt = KFQN(model, lr=0.1, curvature_interval=1)
    closure = closure_of(model, *ranks.batch(rank))
    worlds.until_an_error(rank, folder, call, opt, closure, everything)


@pattern("a closure that fails on one of two ranks: both end with an error, unmoved", EXACT)
@pytest.mark.parametrize("call", [3, 4], ids=["first pass", "second pass"])
def test_an_error_of_one_rank_ends_the_others(tmp_path: Path, call: int) -> None:
    worlds.assert_both_end_unmoved(rank_with_an_error, tmp_path, call)
