"""What torch promises of its optimizers, held against KFQN: groups, hooks, names, schedulers,
averages.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler as schedulers
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn

from kfqn_ref.optim import KFQN

from .models import close, closure_of, data, equal, mlp, run, weights

pytestmark = pytest.mark.filterwarnings("ignore:covered:UserWarning")  # a norm is not covered

STEPS = 20
Build = Callable[[Any], Any]


def with_norm() -> nn.Sequential:
    """A model whose parameters make two groups: covered ones, and those of a norm."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(72, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5)
    )
    return model.double()


# ---------------------------------------------------------------------------- groups and errors


WRONG_GROUPS: list[tuple[Callable[[nn.Sequential], Any], type[Exception], str]] = [
    (lambda m: [3], TypeError, "a group must be a dictionary with params, got 3"),
    (lambda m: {"params": m[1].weight}, TypeError, "a group must be a dictionary with params"),
    (lambda m: [{"lr": 0.1}], TypeError, "a group must be a dictionary with params"),
    (lambda m: [{"params": [1]}], TypeError, "params of a group must be parameters, got int"),
    (
        lambda m: [{"params": {m[1].weight, m[1].bias}}],
        TypeError,
        "params of a group must have an order, got a set",
    ),
    (
        lambda m: [{"params": [m[1].weight, m[1].bias, m[1].weight]}],
        ValueError,
        "a parameter must be in a group once",
    ),
    (
        lambda m: [{"params": m[1].parameters()}, {"params": m[1].parameters()}],
        ValueError,
        "more than one parameter group",
    ),
    (
        lambda m: [{"params": [torch.ones(2, requires_grad=True) * 2]}],
        ValueError,
        "non-leaf",
    ),
]


@pytest.mark.parametrize(("groups", "error", "words"), WRONG_GROUPS)
def test_wrong_groups_are_refused(groups: Build, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        KFQN(model := mlp(), groups=groups(model))


NEW = nn.Parameter(torch.zeros(3, dtype=torch.float64))

WRONG_ADDITIONS: list[tuple[Any, type[Exception], str]] = [
    (3, TypeError, "a group must be a dictionary with params, got 3"),
    ({"lr": 0.1}, TypeError, "a group must be a dictionary with params"),
    ({"params": [1]}, TypeError, "params of a group must be parameters, got int"),
    ({"params": {NEW}}, TypeError, "params of a group must have an order, got a set"),
    ({"params": [NEW, NEW]}, ValueError, "a parameter must be in a group once"),
    ({"params": [NEW], "lr": -1.0}, ValueError, "lr must not be negative"),
    ({"params": [NEW * 2]}, ValueError, "non-leaf"),
]


@pytest.mark.parametrize(("group", "error", "words"), WRONG_ADDITIONS)
def test_a_wrong_added_group_is_refused_and_changes_nothing(
    group: Any, error: type[Exception], words: str
) -> None:
    opt = KFQN(model := mlp(), lr=0.1)
    with pytest.raises(error, match=words):
        opt.add_param_group(group)
    with pytest.raises(ValueError, match="more than one parameter group"):
        opt.add_param_group({"params": model[1].weight})
    assert len(opt.param_groups) == 1
    assert NEW not in opt._dtypes


def test_an_added_group_has_every_default() -> None:
    opt = KFQN(mlp())
    opt.add_param_group({"params": nn.Parameter(torch.zeros(3, dtype=torch.float64))})
    first, added = opt.param_groups
    assert added.keys() == first.keys()
    assert added["lr"] == opt.defaults["other_lr"]


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_cleared_as_asked(to_none: bool) -> None:
    model, twin = mlp(), mlp()
    opt, plain = KFQN(model, lr=0.1), KFQN(twin, lr=0.1)
    run(opt, model, 1)
    opt.zero_grad(set_to_none=to_none)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert bool(grads) is not to_none
    assert not any(grad.any() for grad in grads)

    for k in range(3):
        x, target = data(seed=k)

        def closure(x: Tensor = x, target: Tensor = target) -> Tensor:
            opt.zero_grad(set_to_none=to_none)
            loss = nn.functional.cross_entropy(model(x), target)
            loss.backward()
            return loss

        opt.step(closure)
    run(plain, twin, 1)
    run(plain, twin, 3)
    assert equal(weights(model), weights(twin))


# ------------------------------------------------------------------------------ hooks and names


def test_hooks_of_a_step_fire_once_though_the_closure_runs_twice() -> None:
    model = mlp()
    opt = KFQN(model, lr=0.1)
    passes, events = [], []

    def note(name: str) -> Callable[..., None]:
        return lambda opt, args, kwargs: events.append(name)

    handles = [
        register_optimizer_step_pre_hook(note("before any")),
        register_optimizer_step_post_hook(note("after any")),
        opt.register_step_pre_hook(note("before")),
        opt.register_step_post_hook(note("after")),
    ]
    inner = closure_of(model, *data())

    def closure() -> Tensor:
        passes.append(opt.in_second_pass)
        return inner()

    try:
        opt.step(closure)
    finally:
        for handle in handles:
            handle.remove()
    assert passes == [False, True]
    assert sorted(events) == ["after", "after any", "before", "before any"]
    assert all(name.startswith("before") for name in events[:2])
    opt.step(closure)
    assert len(events) == 4  # they were removed


def test_a_pre_hook_may_give_another_closure() -> None:
    model, twin = mlp(), mlp()
    opt, plain = KFQN(model, lr=0.1), KFQN(twin, lr=0.1)
    other = closure_of(model, *data(seed=3))
    opt.register_step_pre_hook(lambda opt, args, kwargs: ((opt, other), kwargs))
    opt.step(closure_of(model, *data()))
    plain.step(closure_of(twin, *data(seed=3)))
    assert equal(weights(model), weights(twin))


def test_hooks_of_checkpoints_fire_in_the_order_of_torch() -> None:
    model = mlp()
    opt = KFQN(model, lr=0.1)
    run(opt, model, 2)
    events = []
    opt.register_state_dict_pre_hook(lambda opt: events.append("saving"))
    opt.register_state_dict_post_hook(lambda opt, saved: {**saved, "note": 7})
    opt.register_load_state_dict_pre_hook(lambda opt, given: events.append("loading"))
    opt.register_load_state_dict_post_hook(lambda opt: events.append(f"{len(opt.state)} states"))
    saved = opt.state_dict()
    assert saved["note"] == 7
    opt.state.clear()
    opt.load_state_dict(saved)
    assert events == ["saving", "loading", "4 states"]


def test_a_step_has_its_name_in_a_profile() -> None:
    model = mlp()
    opt = KFQN(model, lr=0.1)
    closure = closure_of(model, *data())
    with torch.autograd.profiler.profile() as profile:
        opt.step(closure)
        opt.zero_grad()
    averages = profile.key_averages()  # type: ignore[union-attr]  # it is there once it has run
    names = [event.key for event in averages if "#KFQN" in event.key]
    assert sorted(names) == ["Optimizer.step#KFQN.step", "Optimizer.zero_grad#KFQN.zero_grad"]


def test_the_representation_shows_every_option_of_every_group() -> None:
    opt = KFQN(with_norm(), lr=0.125)
    shown = repr(opt)
    assert shown.startswith("KFQN (\nParameter Group 0\n")
    for i, group in enumerate(opt.param_groups):
        part = shown.split(f"Parameter Group {i}\n")[1].split("\n\n")[0]
        assert all(f"    {key}: {group[key]}" in part for key in group if key != "params")


def test_the_state_hangs_on_the_parameters() -> None:
    model = with_norm()
    opt = KFQN(model, lr=0.1)
    assert not any(opt.state.values())
    run(opt, model, 1)
    linear = {model[1].weight, model[4].weight}
    assert {p for p in opt.state if opt.state[p]} == linear | {*model[2].parameters()}
    numbers = {i for group in opt.state_dict()["param_groups"] for i in group["params"]}
    assert numbers == set(range(len(list(model.parameters()))))


# ----------------------------------------------------------------------------------- schedulers


SCHEDULERS: dict[str, Build] = {
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.5, 4), schedulers.ExponentialLR(o, 0.9)]
    ),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 4),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, STEPS),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 6),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.2, 5),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda k: 1 / (1 + k)),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.3, 1.0, 7),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [5, 11], 0.3),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda k: 0.95),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.2, total_steps=STEPS + 1),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, STEPS),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.3, 1.0, 7), schedulers.ExponentialLR(o, 0.9)], [7]
    ),
    "StepLR": lambda o: schedulers.StepLR(o, 3, 0.5),
    "SWALR": lambda o: SWALR(o, 0.05, anneal_epochs=5),
}
"""Every scheduler of torch, by its name."""


def test_no_scheduler_of_torch_is_left_out() -> None:
    public = {
        name
        for name, kind in vars(schedulers).items()
        if isinstance(kind, type)
        and issubclass(kind, schedulers.LRScheduler)
        and not name.startswith("_")
    }
    assert {*SCHEDULERS} == (public | {"SWALR"}) - {"LRScheduler"}


def losses_for(schedule: Any, k: int) -> tuple[float, ...]:
    """What ``schedule.step`` wants: a loss that stalls, or nothing."""
    if isinstance(schedule, schedulers.ReduceLROnPlateau):
        return (max(1.0, 3.0 - k),)
    return ()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_gives_the_steps_of_its_rates_set_by_hand(name: str) -> None:
    """The rates are those that the scheduler gives to torch's SGD with the same groups."""
    model, twin = with_norm(), with_norm()
    opt, by_hand = KFQN(model, lr=0.1), KFQN(twin, lr=0.1)
    like = [
        {"params": nn.Parameter(torch.zeros(1)), "lr": group["lr"], "momentum": group["momentum"]}
        for group in opt.param_groups
    ]
    sgd = torch.optim.SGD(like, momentum=0.9)
    schedule, wanted = SCHEDULERS[name](opt), SCHEDULERS[name](sgd)
    seen = []
    for k in range(STEPS):
        for group, right in zip(by_hand.param_groups, sgd.param_groups, strict=True):
            group["lr"] = right["lr"]
            group["momentum"] = right["momentum"]
        run(opt, model, 1, first=k)
        run(by_hand, twin, 1, first=k)
        seen.append([group["lr"] for group in opt.param_groups])
        assert seen[-1] == [group["lr"] for group in sgd.param_groups]
        sgd.step()
        schedule.step(*losses_for(schedule, k))
        wanted.step(*losses_for(wanted, k))
    assert equal(weights(model), weights(twin))
    assert len({rates[0] for rates in seen}) > 1  # the schedule did something


@pytest.mark.parametrize("name", ["OneCycleLR", "CosineAnnealingLR", "ReduceLROnPlateau"])
def test_a_scheduler_and_its_optimizer_resume_together(name: str) -> None:
    model = with_norm()
    opt = KFQN(model, lr=0.1)
    schedule = SCHEDULERS[name](opt)
    kept: dict[str, Any] = {}
    for k in range(STEPS):
        if k == STEPS // 2:
            parts = {"model": model, "opt": opt, "schedule": schedule}
            kept = copy.deepcopy({key: part.state_dict() for key, part in parts.items()})
        run(opt, model, 1, first=k)
        schedule.step(*losses_for(schedule, k))
    again = with_norm()
    resumed = KFQN(again, lr=0.1)
    continued = SCHEDULERS[name](resumed)
    again.load_state_dict(kept["model"])
    resumed.load_state_dict(kept["opt"])
    continued.load_state_dict(kept["schedule"])
    for k in range(STEPS // 2, STEPS):
        run(resumed, again, 1, first=k)
        continued.step(*losses_for(continued, k))
    assert equal(weights(again), weights(model))


# ------------------------------------------------------------------------------ averaged models


def test_averaged_weights_are_the_mean_of_the_steps_and_leave_the_run_alone() -> None:
    model, twin = with_norm(), with_norm()
    opt, plain = KFQN(model, lr=0.1), KFQN(twin, lr=0.1)
    averaged = AveragedModel(model)
    seen = []
    for k in range(4):
        run(opt, model, 1, first=k)
        run(plain, twin, 1, first=k)
        averaged.update_parameters(model)
        seen.append(weights(model))
    means = [torch.stack(each).mean(0) for each in zip(*seen, strict=True)]
    assert close(weights(averaged.module), means, 1e-14)
    update_bn([data(seed=k)[0] for k in range(3)], averaged)
    run(opt, model, 2, first=4)
    run(plain, twin, 2, first=4)
    assert equal(weights(model), weights(twin))
