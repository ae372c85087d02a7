"""What a step does besides the formulas: the second pass leaves no trace, options do what they
say.
"""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN, PRESETS

from .models import close, closure_of, cnn, data, equal, model_for, run, tensors, weights

IMAGES, CLASSES = data()


def with_norm_and_dropout() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, dtype=torch.float64),
        nn.BatchNorm2d(4, dtype=torch.float64),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(64, 5, dtype=torch.float64),
    )


def covering(model: nn.Module, **options: object) -> KFQN:
    """The optimizer of a model that has parameters outside the layers."""
    with pytest.warns(UserWarning, match="these take (AdamW|momentum)'s step"):
        return KFQN(model, **options)  # type: ignore[arg-type]  # options of many kinds


def tracked(model: nn.Module) -> int:
    """How many batches the model's norm layer has counted."""
    return int(dict(model.named_buffers())["1.num_batches_tracked"])


class Watched:
    """A closure that remembers what it saw at each call."""

    def __init__(self, model: nn.Module, watched: nn.Module) -> None:
        self.inputs: list[Tensor] = []
        self.grads: list[list[Tensor | None]] = []
        self.closure, self.model = closure_of(model, IMAGES, CLASSES), model
        watched.register_forward_hook(lambda m, args, out: self.inputs.append(out.detach().clone()))

    def __call__(self) -> Tensor:
        loss = self.closure()
        self.grads.append(
            [None if p.grad is None else p.grad.clone() for p in self.model.parameters()]
        )
        return loss


def test_the_second_pass_draws_the_same_dropout_masks() -> None:
    model = with_norm_and_dropout()
    opt = covering(model)
    watch = Watched(model, model[3])
    torch.manual_seed(5)
    opt.step(watch)
    after = torch.random.get_rng_state()
    first, second = watch.inputs
    active = F.relu(model[1](model[0](IMAGES))) > 0  # an entry can be zero without being dropped
    assert torch.equal((first == 0) & active & (second != 0), torch.zeros_like(active))
    torch.manual_seed(5)
    closure_of(model, IMAGES, CLASSES)()
    assert torch.equal(torch.random.get_rng_state(), after)


def test_batchnorm_statistics_are_updated_once_a_step() -> None:
    model = with_norm_and_dropout()
    twin = copy.deepcopy(model)
    opt = covering(model)
    opt.step(closure_of(model, IMAGES, CLASSES))
    twin(IMAGES)  # one pass
    assert equal(list(model.buffers()), list(twin.buffers()))
    assert tracked(model) == 1


def test_the_gradients_left_behind_are_those_of_the_first_pass_and_the_second_has_none() -> None:
    model = with_norm_and_dropout()
    opt = covering(model)
    watch = Watched(model, model[3])
    opt.step(watch)
    first, second = watch.grads
    assert equal([p.grad for p in model.parameters()], first)  # type: ignore[misc]  # none is None
    assert all(grad is None for grad in second)


def test_an_exception_in_the_second_pass_leaves_nothing_frozen() -> None:
    model = with_norm_and_dropout()
    opt = covering(model)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return closure_of(model, IMAGES, CLASSES)()

    with pytest.raises(KeyboardInterrupt):
        opt.step(closure)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())  # as before
    assert not any(module._forward_hooks for module in model.modules())
    assert tracked(model) == 0
    run(opt, model, 2)


def test_the_closure_is_called_twice_every_interval_and_once_between() -> None:
    model = cnn()
    opt = KFQN(model, curvature_interval=3)
    calls = []
    for k in range(7):
        closure = closure_of(model, IMAGES, CLASSES)
        opt.step(lambda k=k, closure=closure: (calls.append(k), closure())[1])
    assert [calls.count(k) for k in range(7)] == [2, 1, 1, 2, 1, 1, 2]


def test_a_schedule_changes_the_step() -> None:
    model = cnn()
    opt = KFQN(model, lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(opt, lambda k: 1.0 if k < 2 else 0.0)
    moved = []
    for _ in range(4):
        before = weights(model)
        opt.step(closure_of(model, IMAGES, CLASSES))
        schedule.step()
        moved.append(not equal(weights(model), before))
    assert moved == [True, True, False, False]


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_adam"])
def test_other_parameters_take_the_step_of_torch_s_AdamW(preset: str) -> None:
    model = with_norm_and_dropout().eval()
    model.register_parameter("scale", nn.Parameter(torch.ones(2, 3, dtype=torch.float64)))
    options = {"other_lr": 0.02, "other_betas": (0.8, 0.95), "other_weight_decay": 0.3}
    opt = covering(model, preset=preset, lr=0.1, weight_decay=0.01, **options)
    others = [p for group in opt.param_groups if group["other"] for p in group["params"]]
    assert len(others) == 3
    twins = [nn.Parameter(p.detach().clone()) for p in others]
    groups = [{"params": [p], "weight_decay": 0.3 * (p.ndim > 1)} for p in twins]
    adamw = torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.95))
    for k in range(20):
        scheduled = 0.02 / (k + 1)
        for group in [*adamw.param_groups, *(g for g in opt.param_groups if g["other"])]:
            group["lr"] = scheduled

        def closure() -> Tensor:
            loss = closure_of(model, IMAGES, CLASSES)() + model.scale.square().sum()
            model.scale.grad = 2 * model.scale.detach()
            return loss

        opt.step(closure)
        for p, twin in zip(others, twins, strict=True):
            twin.grad = p.grad.clone()
        adamw.step()
        assert close([p.detach() for p in others], [p.detach() for p in twins], 1e-13)


def test_with_convergent_other_parameters_take_the_plain_gradient_step() -> None:
    model = with_norm_and_dropout().eval()
    opt = covering(model, preset="convergent", lr=0.1)
    norm = dict(model.named_parameters())["1.weight"]
    W = norm.detach().clone()
    for k in range(3):
        opt.step(closure_of(model, IMAGES, CLASSES))
        assert norm.grad is not None
        W = W - 0.1 * (k + 1) ** -0.7 * norm.grad
        assert close([norm.detach()], [W], 1e-14)


def test_a_step_that_is_not_finite_leaves_other_parameters_alone() -> None:
    model = with_norm_and_dropout().eval()
    opt = covering(model)
    opt.step(lambda: closure_of(model, IMAGES, CLASSES)() * float("nan"))
    opt.step(closure_of(model, IMAGES, CLASSES))
    norm = dict(model.named_parameters())["1.weight"]
    kept, before = copy.deepcopy(opt.state[norm]["other"]), weights(model)
    opt.step(lambda: closure_of(model, IMAGES * float("inf"), CLASSES)())
    assert equal(weights(model), before)
    assert equal(tensors(opt.state[norm]["other"]), tensors(kept))
    assert int(kept["t"]) == 1  # the two bad ones do not count


def test_every_parameter_moves_by_a_step_size_of_its_own_precision() -> None:
    model = nn.Linear(3, 2)
    model.single = nn.Parameter(torch.zeros(2))
    model.double_ = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    x = torch.randn(4, 3)

    def closure() -> Tensor:
        model.zero_grad()
        loss = model(x).square().mean() + model.single.sum() + model.double_.sum()
        loss.backward()
        return loss

    covering(model, preset="convergent", lr=0.3).step(closure)
    assert model.single.tolist() == [-float(torch.tensor(0.3))] * 2
    assert model.double_.tolist() == [-0.3] * 2  # and not what 0.3 is in single precision


def test_averages_and_pairs_of_a_half_precision_model_are_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2)).bfloat16()
    opt = covering(model, preset="kfqn_adam")
    x, target = torch.randn(6, 4).bfloat16(), torch.arange(6) % 2
    for _ in range(2):
        opt.step(closure_of(model, x, target))
    kept = [state.get("other", state) for state in opt.state.values() if state]
    assert all(state[name].dtype == torch.float32 for state in kept for name in ("M", "V"))
    gathered = [x for seen in opt._latest.values() for x in seen.output]
    assert {x.dtype for x in gathered} == {
        torch.float32
    }  # their means were taken in wide arithmetic


def test_the_damped_pair_that_is_shown_is_the_one_that_H_g_has_learnt() -> None:
    model = cnn()
    opt = KFQN(model, lr=0.1)
    opt.step(closure_of(model, *data()))
    shown = opt.diagnostics()
    for layer in opt.layers:
        _, s, y = opt._latest[layer].damped
        H_g = opt.state[layer.weight]["H_g"]["H"]
        torch.testing.assert_close((H_g @ y[..., None])[..., 0], s)
        assert shown[f"{layer.name}/sy_g"] == pytest.approx(float((s * y).sum(-1).amin()))
        assert not torch.equal(s, y)


def test_decoupled_weight_decay_shrinks_the_weights_and_leaves_the_direction_alone() -> None:
    plain, shrunk = cnn(), cnn()
    KFQN(plain, lr=0.1).step(closure_of(plain, IMAGES, CLASSES))
    KFQN(shrunk, lr=0.1, weight_decay=0.5, decoupled=True).step(closure_of(shrunk, IMAGES, CLASSES))
    expected = [p - 0.05 * start for p, start in zip(weights(plain), weights(cnn()), strict=True)]
    assert close(weights(shrunk), expected, 1e-14)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sum_loss_with_its_option_equals_a_mean_loss(preset: str) -> None:
    mean, total = model_for(preset), model_for(preset)
    one = KFQN(mean, preset, lr=0.1, curvature_interval=2)
    other = KFQN(total, preset, lr=0.1, curvature_interval=2, loss_reduction="sum")
    for k in range(6):
        x, target = data(seed=k)
        one.step(closure_of(mean, x, target))
        other.step(closure_of(total, x, target, reduction="sum"))
    assert close(weights(total), weights(mean), 1e-10)


@pytest.mark.parametrize("options", [{}, {"input_inverse": "lbfgs", "lean_above": 13}])
def test_warm_start_with_the_first_batch_is_the_ordinary_start(options: dict[str, Any]) -> None:
    ordinary, warm = cnn(), cnn()
    one, other = KFQN(ordinary, **options), KFQN(warm, **options)
    other.warm_start([IMAGES])
    for opt, model in ((one, ordinary), (other, warm)):
        opt.step(closure_of(model, IMAGES, CLASSES))
    assert equal(weights(warm), weights(ordinary))


def test_warm_start_averages_the_factors_and_leaves_statistics_and_random_numbers_alone() -> None:
    model = with_norm_and_dropout()
    opt = covering(model)
    before, random = copy.deepcopy(list(model.buffers())), torch.random.get_rng_state()
    halves = [IMAGES[:8], IMAGES[8:]]
    opt.warm_start(halves)
    assert equal(list(model.buffers()), before)
    assert torch.equal(torch.random.get_rng_state(), random)
    patches = F.unfold(IMAGES, 3)  # (N, C·9, T)
    a_bar = torch.cat((patches, torch.ones_like(patches[:, :1])), 1)
    A = torch.einsum("nit,njt->ij", a_bar, a_bar) / len(IMAGES)
    curvature = opt.curvature(model[0])
    expected = torch.linalg.inv(A + curvature.lambda_a * torch.eye(len(A), dtype=A.dtype))
    assert close([curvature.H_a], [expected], 1e-12)


def test_the_split_of_the_damping_and_the_locations_are_shown() -> None:
    model = cnn()
    opt = KFQN(model, "kbfgs_2022", damping=0.04)
    opt.step(closure_of(model, IMAGES, CLASSES))
    seen = [opt.curvature(model[i]) for i in (0, 2, 5)]
    assert [c.T for c in seen] == [36, 4, 1]
    assert [c.lambda_a for c in seen] == [math.sqrt(0.04 * T) for T in (36, 4, 1)]
    assert [c.lambda_g for c in seen] == [math.sqrt(0.04 / T) for T in (36, 4, 1)]
    assert [tuple(c.H_a.shape) for c in seen] == [(19, 19), (36, 36), (13, 13)]
    assert [tuple(c.H_g.shape) for c in seen] == [(4, 4), (3, 3), (5, 5)]
