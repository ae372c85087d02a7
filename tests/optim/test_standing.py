"""Steps without a closure, where no second pass is due: as with one to the last bit, or refused."""

import copy
import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from kfqn_ref.optim import KFQN

from .models import closure_of, cnn, data, equal, mlp, tensors, weights
from .patterns import pattern
from .test_training_patterns import EXACT, REFUSED, everything, saved_and_loaded

X, Y = data()
Batch = tuple[Tensor, Tensor]


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def clear_first(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    loss_of(model, batch).backward()
    opt.step()


def clear_after_the_forward_pass(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    loss = loss_of(model, batch)
    opt.zero_grad()
    loss.backward()
    opt.step()


def clear_after_the_step(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    loss_of(model, batch).backward()
    opt.step()
    model.zero_grad()


def fill_with_zeros(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    model.zero_grad(set_to_none=False)
    loss_of(model, batch).backward()
    opt.step()


def evaluate_in_between(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    loss = loss_of(model, batch)
    with torch.no_grad():
        model.eval()
        model(data(5, seed=98)[0])
        model.train()
    loss.backward()
    with torch.inference_mode():
        model(data(5, seed=98)[0])
    opt.step()


def forget_a_forward_pass(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    lost = loss_of(model, data(7, seed=98))
    loss_of(model, batch).backward()
    opt.step()
    assert lost.requires_grad


def log_a_gradient(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    x = data(7, seed=98)[0].requires_grad_()
    torch.autograd.grad(model(x).sum(), x)
    loss = loss_of(model, batch)
    torch.autograd.grad(loss, [*model.parameters()], retain_graph=True)
    loss.backward()
    opt.step()


def log_a_curvature(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    x = data(7, seed=98)[0].requires_grad_()
    (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    torch.autograd.grad(slope.sum(), x)
    loss_of(model, batch).backward()
    opt.step()


def skip_a_batch(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    loss_of(model, data(7, seed=98)).backward()
    clear_first(opt, model, batch)


def skip_a_batch_by_zeros(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    loss_of(model, data(7, seed=98)).backward()
    fill_with_zeros(opt, model, batch)


def clear_between_two_losses(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    loss = loss_of(model, batch)
    (3 * loss).backward(retain_graph=True)
    opt.zero_grad()
    loss.backward()
    opt.step()


def fail_and_try_again(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    opt.zero_grad()
    loss = loss_of(model, batch)
    loss.register_hook(fail_once())
    with pytest.raises(MemoryError):
        loss.backward()
    clear_first(opt, model, batch)


def fail_once() -> Callable[[Tensor], None]:
    def hook(grad: Tensor) -> None:
        raise MemoryError

    return hook


def fail_in_the_middle(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    """The last layer has its gradient, the first ones have not."""
    opt.zero_grad()
    assert isinstance(model, nn.Sequential)
    middle = model[:-1](data(7, seed=98)[0])
    middle.register_hook(fail_once())
    with pytest.raises(MemoryError):
        model[-1](middle).sum().backward()
    clear_first(opt, model, batch)


def sample_gradients(opt: KFQN, model: nn.Module, batch: Batch) -> None:
    """Of each sample, by transforms of torch.func."""
    opt.zero_grad()
    held = {name: p.detach() for name, p in model.named_parameters()}

    def loss(held: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
        out = torch.func.functional_call(model, held, (x[None],))
        return F.cross_entropy(out, target[None])

    torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(held, *batch)
    swapped = {name: p.clone().requires_grad_() for name, p in held.items()}
    torch.func.functional_call(model, swapped, (batch[0],)).sum().backward()
    loss_of(model, batch).backward()
    opt.step()


HABITS = [
    clear_first,
    clear_after_the_forward_pass,
    clear_after_the_step,
    fill_with_zeros,
    evaluate_in_between,
    forget_a_forward_pass,
    log_a_gradient,
    log_a_curvature,
    skip_a_batch,
    skip_a_batch_by_zeros,
    clear_between_two_losses,
    fail_and_try_again,
    fail_in_the_middle,
    sample_gradients,
]


@pattern("a step without a closure, where the preset has no second pass", EXACT)
@pattern("a forward pass without a backward pass, or a batch that is skipped, no closure", EXACT)
@pattern("an error in the backward pass, then another try, no closure", EXACT)
@pattern("gradients of each sample by torch.func, no closure", EXACT)
@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("options", [{}, {"curvature_interval": 3, "input_inverse": "lbfgs"}])
def test_a_step_without_a_closure_is_the_one_with_it(
    habit: Callable[[KFQN, nn.Module, Batch], None], options: dict[str, Any]
) -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, "kfqn_input", lr=0.1, **options)
    opt = KFQN(other, "kfqn_input", lr=0.1, **options)
    for k in range(4):
        batch = data(seed=k)
        plain.step(closure_of(one, *batch))
        habit(opt, other, batch)
    assert equal(weights(other), weights(one))
    assert equal(tensors(opt.state_dict()), tensors(plain.state_dict()))


Run = Callable[[KFQN, nn.Module], None]


def same_in_both_ways(build: Callable[[], nn.Module], passes: Run, **options: Any) -> KFQN:
    """Passes over a model give one step, in a closure and without it; return the optimizer."""
    models = build(), build()
    closed, opt = (KFQN(model, "kfqn_input", lr=0.1, **options) for model in models)
    for _ in range(3):

        def closure() -> float:
            closed.zero_grad()
            passes(closed, models[0])
            return 0.0

        closed.step(closure)
        opt.zero_grad()
        passes(opt, models[1])
        assert opt.step() is None
    assert equal(weights(models[1]), weights(models[0]))
    assert equal(tensors(opt.state_dict()), tensors(closed.state_dict()))
    return opt


@pattern("accumulation over micro-batches, no closure", EXACT)
def test_micro_batches_add_up() -> None:
    def passes(opt: KFQN, model: nn.Module) -> None:
        for x, target in zip(X.chunk(2), Y.chunk(2), strict=True):
            (loss_of(model, (x, target)) / 2).backward()

    same_in_both_ways(cnn, passes)
    one, other = cnn(), cnn()
    whole = KFQN(one, "kfqn_input", lr=0.1)
    halves = KFQN(other, "kfqn_input", lr=0.1)
    whole.step(closure_of(one, X, Y))
    passes(halves, other)
    halves.step()
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


@pattern("two forward passes before one backward pass, no closure", EXACT)
def test_uses_are_those_of_the_closure() -> None:
    def passes(opt: KFQN, model: nn.Module) -> None:
        first, second = (loss_of(model, data(seed=k)) for k in (3, 4))
        (first + second).backward()
        out = model(X)
        out.square().mean().backward(retain_graph=True)
        out.mean().backward()

    same_in_both_ways(cnn, passes)


@pattern("gradients that are clipped before a step without a closure", EXACT)
def test_clipping_changes_the_gradient_and_no_curvature() -> None:
    def clipped(most: float) -> Run:
        def passes(opt: KFQN, model: nn.Module) -> None:
            loss_of(model, (X, Y)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), most)

        return passes

    # at a step size of 0 both runs have the same inputs
    opts = [same_in_both_ways(cnn, clipped(most)) for most in (0.05, 100.0)]
    assert not equal(weights(opts[0].model), weights(opts[1].model))
    H = []
    for most in (0.05, 100.0):
        model = cnn()
        opt = KFQN(model, "kfqn_input", lr=0.0)
        clipped(most)(opt, model)
        opt.step()
        H.append(opt.curvature(model[0]).H_a)
    assert torch.equal(*H)


@pattern("rows that the loss ignores, by row_weights, no closure", EXACT)
def test_row_weights_hold_without_a_closure() -> None:
    def passes(opt: KFQN, model: nn.Module) -> None:
        keep = torch.arange(len(X)) < 11
        with opt.row_weights(keep):
            out = model(X)
        F.cross_entropy(out[keep], Y[keep]).backward()

    same_in_both_ways(cnn, passes)


@pattern("a summed loss, no closure", EXACT)
def test_a_sum_needs_no_closure_as_the_samples_are_seen() -> None:
    def passes(opt: KFQN, model: nn.Module) -> None:
        F.cross_entropy(model(X), Y, reduction="sum").backward()

    same_in_both_ways(cnn, passes, loss_reduction="sum", curvature_interval=2)


class Recomputed(nn.Module):
    """The CNN, its middle recomputed in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner = cnn()
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner[:2](x)
        middle: Any = checkpoint(self.inner[2:4], x, use_reentrant=self.reentrant)
        return self.inner[4:](middle)


@pattern("checkpointing with use_reentrant=False, no closure", EXACT)
def test_checkpointing_is_exact() -> None:
    def passes(opt: KFQN, model: nn.Module) -> None:
        loss_of(model, (X, Y)).backward()

    recomputed = same_in_both_ways(lambda: Recomputed(reentrant=False), passes)
    plain = same_in_both_ways(cnn, passes)
    assert equal(weights(recomputed.model), weights(plain.model))


@pattern("reentrant checkpointing, no closure", REFUSED)
def test_reentrant_checkpointing_is_refused_in_the_backward_pass() -> None:
    model = Recomputed(reentrant=True)
    opt = KFQN(model, "kfqn_input", lr=0.1)
    with pytest.raises(ValueError, match=r"'inner\.2' is: .* use_reentrant=False is exact"):
        loss_of(model, (X, Y)).backward()
    assert opt._k == 0


@pattern("layers that are frozen, or trained again, between steps without a closure", EXACT)
def test_frozen_layers_rest_and_come_back() -> None:
    count = itertools.count()

    def passes(opt: KFQN, model: nn.Module) -> None:
        assert isinstance(model, nn.Sequential)
        for p in model[0].parameters():
            p.requires_grad_(next(count) // 4 % 2 == 1)  # two parameters, two ways a step
        loss_of(model, (X, Y)).backward()

    opt = same_in_both_ways(cnn, passes)
    assert len(opt.started) == 3


@pytest.mark.filterwarnings("ignore")
@pattern("a compiled model, no closure", EXACT)
def test_a_compiled_model_needs_no_closure_either() -> None:
    one, other = mlp(), mlp()
    plain = KFQN(one, "kfqn_input", lr=0.1, curvature_interval=2)
    opt = KFQN(other, "kfqn_input", lr=0.1, curvature_interval=2)
    compiled: Any = torch.compile(other, backend="aot_eager")
    for k in range(4):
        batch = data(seed=k)
        plain.step(closure_of(one, *batch))
        opt.zero_grad()
        with torch.no_grad():
            compiled(X)
        loss_of(compiled, batch).backward()
        opt.step()
    for a, b in zip(tensors(opt.state_dict()), tensors(plain.state_dict()), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


# ------------------------------------------------------------------------------- gradient scaling


def scaled_step(
    opt: KFQN, model: nn.Module, batch: Batch, scaler: torch.amp.GradScaler, clip: float = 0.0
) -> None:
    opt.zero_grad()
    scaler.scale(loss_of(model, batch)).backward()
    if clip:
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    scaler.step(opt)
    scaler.update()


@pattern("an enabled GradScaler, no closure", EXACT)
@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("preset", ["kfqn_input", "kfqn_cnn"])
def test_a_scaler_is_exact_without_a_closure(preset: str, clip: float) -> None:
    """The scale is a power of 2, so that not even rounding differs."""
    one, other = cnn(), cnn()
    plain = KFQN(one, preset, lr=0.1, curvature_interval=5)
    opt = KFQN(other, preset, lr=0.1, curvature_interval=5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
    for k in range(5):
        batch = data(seed=k)
        plain.zero_grad()
        if preset == "kfqn_cnn" and k == 0:
            plain.step(closure_of(one, *batch))
            opt.step(closure_of(other, *batch))
            continue
        loss_of(one, batch).backward()
        if clip:
            nn.utils.clip_grad_norm_(one.parameters(), clip)
        plain.step()
        scaled_step(opt, other, batch, scaler, clip)
    assert scaler.get_scale() > 2.0**8
    assert equal(weights(other), weights(one))
    assert equal(tensors(opt.state_dict()), tensors(plain.state_dict()))


@pattern("a GradScaler whose scaled gradients are not finite, no closure", EXACT)
def test_an_overflow_skips_the_step_and_is_counted() -> None:
    model = cnn(dtype=torch.float32)
    opt = KFQN(model, "kfqn_input", lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    before = weights(model)
    batch = data(dtype=torch.float32)
    for _ in range(2):
        opt.zero_grad()
        scaler.scale(1e6 * loss_of(model, batch)).backward()
        scaler.step(opt)
        scaler.update()
    assert opt.skipped_steps == 2
    assert scaler.get_scale() == 2.0**118
    assert equal(weights(model), before)
    assert not opt.started


def test_a_scaler_leaves_nothing_behind_where_a_step_is_refused() -> None:
    model = cnn()
    opt = KFQN(model, lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    scaler.scale(loss_of(model, (X, Y))).backward()
    with pytest.raises(TypeError, match="step needs a closure"):
        scaler.step(opt)
    twin = cnn()
    plain = KFQN(twin, lr=0.1)
    opt.step(closure_of(model, X, Y))
    plain.step(closure_of(twin, X, Y))
    assert equal(weights(model), weights(twin))


# ------------------------------------------------------------------------------ what is not finite


def test_gradients_that_are_not_finite_are_skipped_and_counted() -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, "kfqn_input", lr=0.1)
    opt = KFQN(other, "kfqn_input", lr=0.1)
    bad = X * float("nan"), Y
    for batch in (bad, data(seed=1), bad, data(seed=2)):
        plain.step(closure_of(one, *batch))
        clear_first(opt, other, batch)
    assert opt.skipped_steps == 2
    assert equal(weights(other), weights(one))
    assert equal(tensors(opt.state_dict()), tensors(plain.state_dict()))


# -------------------------------------------------------------------------------- what is refused


def refused(opt: KFQN, words: str) -> None:
    """A step without a closure is refused in these words, and leaves everything as it was."""
    before = [x.clone() for x in everything(opt)]
    with pytest.raises(ValueError, match=words):
        opt.step()
    assert equal(everything(opt), before)


@pattern("an input that is changed in place between its call and the step", REFUSED)
@pytest.mark.parametrize("preset", ["kfqn_input", "kfqn_cnn"])
def test_an_input_that_was_changed_in_place_is_refused(preset: str) -> None:
    model = cnn()
    opt = KFQN(model, preset, lr=0.1)
    buffer = X.clone()

    def closure() -> Tensor:
        opt.zero_grad()
        loss = loss_of(model, (buffer, Y))
        loss.backward()
        buffer.copy_(data(seed=1)[0])
        return loss

    before = weights(model)
    with pytest.raises(ValueError, match="that of '0' was changed in place after the call"):
        opt.step(closure)
    assert equal(weights(model), before)
    if preset == "kfqn_input":
        closure()
        refused(opt, "that of '0' was changed in place after the call")
        clear_first(opt, model, (X, Y))


@pattern("a graph from before a step that is used again after it, no closure", REFUSED)
def test_a_graph_from_before_the_last_step_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3)).double()
    opt = KFQN(model, "kfqn_input", lr=0.1)
    loss = model(torch.ones(2, 4).double()).square().mean()
    loss.backward(retain_graph=True)
    opt.step()
    opt.zero_grad()
    loss.backward()
    refused(opt, "a graph of '0' from before it was used again")


@pattern("gradients from before the optimizer was made, or put there by hand, no closure", REFUSED)
def test_gradients_without_calls_are_refused() -> None:
    model = cnn()
    loss_of(model, (X, Y)).backward()
    opt = KFQN(model, "kfqn_input", lr=0.1)
    refused(opt, "no input was seen: run the model")
    model.zero_grad()
    refused(opt, r"call loss\.backward\(\) before step")
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    refused(opt, "no input was seen: run the model")
    clear_first(opt, model, (X, Y))


@pattern("a gradient penalty, no closure", REFUSED)
def test_a_penalty_on_a_gradient_is_refused() -> None:
    model = cnn()
    opt = KFQN(model, "kfqn_input", lr=0.1)
    x = X.clone().requires_grad_()
    loss = loss_of(model, (x, Y))
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    (loss + slope.square().sum()).backward()
    with pytest.raises(NotImplementedError, match="must not differentiate a gradient"):
        opt.step()
    assert opt._k == 0


def test_an_error_in_a_closure_leaves_no_calls_to_the_next_step() -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, "kfqn_input", lr=0.1)
    opt = KFQN(other, "kfqn_input", lr=0.1)

    def failing() -> Tensor:
        closure_of(other, *data(7, seed=9))()
        raise MemoryError

    with pytest.raises(MemoryError):
        opt.step(failing)
    clear_first(opt, other, (X, Y))
    clear_first(plain, one, (X, Y))
    assert equal(tensors(opt.state_dict()), tensors(plain.state_dict()))


# --------------------------------------------------------------------------------- memory, copies


def test_an_input_lives_no_longer_than_it_is_needed() -> None:
    model = mlp()
    opt = KFQN(model, "kfqn_input", lr=0.1)
    seen: list[weakref.ref[Tensor]] = []
    model[1].register_forward_pre_hook(lambda module, args: seen.append(weakref.ref(args[0])))

    def storage_kept(x: Tensor) -> bool:
        """Whether any tensor still holds the memory of this one."""
        address = x.untyped_storage().data_ptr()
        held = [t for t in gc.get_objects() if type(t) is Tensor and t is not x]
        return any(t.untyped_storage().data_ptr() == address for t in held)

    def passed() -> tuple[Tensor, Tensor]:
        x = torch.randn(9, 72, dtype=torch.float64)
        return x, model[1:](x).square().mean()

    x, lost = passed()
    del lost  # no backward pass came
    gc.collect()
    assert not storage_kept(x)
    x, loss = passed()
    loss.backward()
    gc.collect()
    assert storage_kept(x)
    opt.step()
    gc.collect()
    assert not storage_kept(x)  # though the loss is kept
    assert loss.requires_grad


def test_hooks_go_with_their_optimizer() -> None:
    model = cnn()
    opt = KFQN(model, "kfqn_input", lr=0.1)
    clear_first(opt, model, (X, Y))
    assert all(len(layer.module._forward_hooks) == 1 for layer in opt.layers)
    del opt
    gc.collect()
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())


@pattern("deepcopy or pickle of (model, optimizer) whose hooks stand", EXACT)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, saved_and_loaded])
def test_a_copy_goes_on_without_a_closure(duplicate: Callable[[Any], Any]) -> None:
    model = cnn()
    opt = KFQN(model, "kfqn_input", lr=0.1)
    clear_first(opt, model, (X, Y))
    other, twin = duplicate((model, opt))
    assert all(len(layer.module._forward_hooks) == 1 for layer in twin.layers)
    for k in range(2):
        for each, its in ((opt, model), (twin, other)):
            clear_first(each, its, data(seed=k))
    assert equal(weights(other), weights(model))
    assert equal(tensors(twin.state_dict()), tensors(opt.state_dict()))


@pattern("an average of the weights (EMA) in a copy of the model, no closure", EXACT)
def test_a_copy_of_the_model_records_nothing() -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, "kfqn_input", lr=0.1)
    opt = KFQN(other, "kfqn_input", lr=0.1)
    average = AveragedModel(other)
    for k in range(3):
        plain.step(closure_of(one, *data(seed=k)))
        opt.zero_grad()
        loss_of(other, data(seed=k)).backward()
        loss_of(average, data(7, seed=9)).backward()
        opt.step()
        average.update_parameters(other)
    assert equal(weights(other), weights(one))
    assert equal(tensors(opt.state_dict()), tensors(plain.state_dict()))


@pattern("a checkpoint that is loaded between steps without a closure", EXACT)
def test_a_loaded_state_goes_on() -> None:
    model = cnn()
    opt = KFQN(model, "kfqn_input", lr=0.1, curvature_interval=2)
    clear_first(opt, model, (X, Y))
    other = cnn()
    other.load_state_dict(model.state_dict())
    twin = KFQN(other, "kfqn_input", lr=0.1, curvature_interval=2)
    twin.load_state_dict(opt.state_dict())
    for k in range(3):
        for each, its in ((opt, model), (twin, other)):
            clear_first(each, its, data(seed=k))
    assert equal(tensors(twin.state_dict()), tensors(opt.state_dict()))


@pattern("schedulers of torch, no closure", EXACT)
def test_schedulers_drive_both_ways_alike() -> None:
    one, other = cnn(), cnn()
    plain = KFQN(one, "kfqn_input", lr=0.1)
    opt = KFQN(other, "kfqn_input", lr=0.1)
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(each, 0.2, total_steps=6) for each in (plain, opt)
    ]
    for k in range(5):
        plain.step(closure_of(one, *data(seed=k)))
        clear_first(opt, other, data(seed=k))
        for each in schedules:
            each.step()
    assert equal(weights(other), weights(one))
