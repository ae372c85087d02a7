"""What people do in their training scripts: exact, or refused with nothing moved; never silent."""

import copy
import io
import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

import kfqn_ref.optim
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.options import compile_problem

from . import patterns
from .models import close, closure_of, cnn, data, equal, mlp, run, tensors, weights
from .patterns import pattern

EXACT, REFUSED, NAMED = "exact", "refused", "named, takes AdamW's step"
F64 = torch.float64
X, Y = data()


def everything(opt: KFQN) -> list[Tensor]:
    """All that a step may change."""
    grads = [p.grad for p in opt.model.parameters() if p.grad is not None]
    kept = tensors(opt.state_dict()["state"])
    counts = torch.tensor([opt._k, opt.skipped_steps, len(opt.started)])
    buffers = [b.clone() for b in opt.model.buffers()]
    return [*weights(opt.model), *kept, *grads, *buffers, counts, torch.get_rng_state()]


def refused(opt: KFQN, closure: Callable[[], Any], error: type[Exception], words: str) -> None:
    """A step is refused in these words, and leaves everything bit for bit as it was."""
    before = [x.clone() for x in everything(opt)]
    with pytest.raises(error, match=words):
        opt.step(closure)
    assert equal(everything(opt), before)


def started(model: nn.Module | None = None, **options: Any) -> tuple[nn.Module, KFQN]:
    """A model and its optimizer after two steps."""
    model = cnn() if model is None else model
    opt = KFQN(model, lr=0.1, **options)
    run(opt, model, 2)
    return model, opt


# ------------------------------------------------------------------------------ copies and files


def saved_and_loaded(pair: Any) -> Any:
    file = io.BytesIO()
    torch.save(pair, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pattern("deepcopy or pickle of (model, optimizer)", EXACT)
@pytest.mark.parametrize("duplicate", [copy.deepcopy, saved_and_loaded])
@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_cnn_l", "kfqn_adam"])
def test_a_copy_goes_on_as_the_original(duplicate: Callable[[Any], Any], preset: str) -> None:
    model, opt = started(preset=preset)
    other, twin = duplicate((model, opt))
    run(opt, model, 3, first=2)
    run(twin, other, 3, first=2)
    assert equal(weights(other), weights(model))
    assert equal(tensors(twin.state_dict()), tensors(opt.state_dict()))


@pattern("a hook that changes the state while it is loaded", EXACT)
def test_a_pre_hook_of_loading_is_honoured() -> None:
    model, opt = started()
    saved, other = opt.state_dict(), KFQN(cnn())

    def renamed(opt: Any, given: dict[str, Any]) -> dict[str, Any]:
        state = {k: {**v, "T": 7} if "T" in v else v for k, v in given["state"].items()}
        return {**given, "state": state}

    after: list[int] = []
    other.register_load_state_dict_pre_hook(renamed)
    other.register_load_state_dict_post_hook(lambda o: after.append(o.curvature(o.model[0]).T))
    other.load_state_dict(saved)
    assert after == [7]
    assert opt.curvature(model[0]).T == 36


def distributed(model: nn.Module, opt: KFQN, keys: str) -> dict[str, Any]:
    """What ``torch.distributed.checkpoint`` saves, or fills; its own helper gives names."""
    optim: Any = opt.state_dict()
    if keys == "names":
        optim = get_optimizer_state_dict(model, opt)
    return {"model": model.state_dict(), "opt": optim}


def put(model: nn.Module, opt: KFQN, saved: Any, keys: str) -> None:
    """Load what :func:`distributed` returns into the optimizer."""
    if keys == "names":
        set_optimizer_state_dict(model, opt, saved)
    else:
        opt.load_state_dict(saved)


def saved_distributed(folder: Path, keys: str) -> tuple[nn.Module, KFQN]:
    """Save what two steps leave."""
    model, opt = started()
    # the usual writer asks the device for streams, which that of another test has not
    writer = dcp.FileSystemWriter(folder, per_thread_copy_ahead=0)
    dcp.save(distributed(model, opt, keys), storage_writer=writer)
    return model, opt


@pattern("a checkpoint through torch.distributed.checkpoint", EXACT)
@pytest.mark.filterwarnings("ignore")  # of torch, that one process saves
@pytest.mark.parametrize("keys", ["numbers", "names"])
def test_a_distributed_checkpoint_goes_on_as_the_run(tmp_path: Path, keys: str) -> None:
    model, opt = saved_distributed(tmp_path, keys)
    other, twin = started(cnn(seed=2))
    place = distributed(other, twin, keys)
    dcp.load(place, checkpoint_id=tmp_path)
    other.load_state_dict(place["model"])
    put(other, twin, place["opt"], keys)
    run(opt, model, 3, first=2)
    run(twin, other, 3, first=2)
    assert equal(weights(other), weights(model))


@pattern("torch.distributed.checkpoint.load into the state_dict() of a new optimizer", REFUSED)
@pytest.mark.filterwarnings("ignore")  # of torch, that one process saves
@pytest.mark.parametrize("keys", ["numbers", "names"])
def test_a_new_optimizer_that_a_distributed_checkpoint_cannot_fill_is_refused(
    tmp_path: Path, keys: str
) -> None:
    model, opt = saved_distributed(tmp_path / "saved", keys)
    other = cnn(seed=2)
    twin = KFQN(other, lr=0.1)
    place = distributed(other, twin, keys)
    dcp.load(place, checkpoint_id=tmp_path / "saved")  # there is nothing to fill
    with pytest.raises(ValueError, match=r"none for \['0\.weight'.*dcp_to_torch_save"):
        put(other, twin, place["opt"], keys)
    assert not any(twin.state.values())
    assert twin.state_dict()["kfqn"]["k"] == 0

    dcp_to_torch_save(tmp_path / "saved", tmp_path / "whole.pt")  # as the error says
    saved = torch.load(tmp_path / "whole.pt", weights_only=True)
    other.load_state_dict(saved["model"])
    put(other, twin, saved["opt"], keys)
    run(opt, model, 3, first=2)
    run(twin, other, 3, first=2)
    assert equal(weights(other), weights(model))
    assert equal(tensors(twin.state_dict()), tensors(opt.state_dict()))


@pattern("set_optimizer_state_dict with full_state_dict=True", REFUSED)
@pytest.mark.filterwarnings("ignore")  # of torch, that one process saves
def test_set_optimizer_state_dict_refuses_full_states_itself() -> None:
    model, opt = started()
    saved = get_optimizer_state_dict(model, opt, options=StateDictOptions(full_state_dict=True))
    other = cnn(seed=2)
    twin = KFQN(other, lr=0.1)
    with pytest.raises(AssertionError, match="Expected device to be set"):
        set_optimizer_state_dict(other, twin, saved, options=StateDictOptions(full_state_dict=True))
    assert not any(twin.state.values())
    set_optimizer_state_dict(other, twin, saved)  # whole states need no option
    assert equal(tensors(twin.state_dict()), tensors(opt.state_dict()))


@pattern("a checkpoint whose states have names in place of numbers", REFUSED)
def test_a_checkpoint_with_named_states_is_refused() -> None:
    _, opt = started()
    saved = opt.state_dict()
    saved["state"] = {f"layer{k}": state for k, state in saved["state"].items()}
    before = tensors(opt.state_dict())
    with pytest.raises(ValueError, match="must be numbered as state_dict"):
        opt.load_state_dict(saved)
    assert equal(tensors(opt.state_dict()), before)


@pattern("a checkpoint of another precision", REFUSED)
def test_a_checkpoint_of_another_precision_is_refused() -> None:
    _, opt = started()
    other = KFQN(cnn(dtype=torch.float32))
    with pytest.raises(ValueError, match="layers of the checkpoint must be .*float32.*float64"):
        other.load_state_dict(opt.state_dict())


# ------------------------------------------------------------------- gradients from somewhere else


@pattern("gradients of earlier passes that the closure does not clear", REFUSED)
def test_stale_gradients_are_refused() -> None:
    model, opt = started()
    F.cross_entropy(model(X), Y).backward()

    def closure() -> Tensor:
        loss = F.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    kept = weights(model)
    with pytest.raises(ValueError, match="must clear the gradients of earlier passes"):
        opt.step(closure)
    assert equal(weights(model), kept)


@pattern("gradients set to zero in place of None", EXACT)
def test_gradients_may_be_cleared_in_place() -> None:
    (one, plain), (other, opt) = started(), started()

    def closure() -> Tensor:
        opt.zero_grad(set_to_none=False)
        loss = F.cross_entropy(other(X), Y)
        loss.backward()
        return loss

    plain.step(closure_of(one, X, Y))
    opt.step(closure)
    assert equal(weights(other), weights(one))


@pattern("gradients that the closure changes in place before it fails", EXACT)
@pytest.mark.parametrize("call", [1, 2], ids=["first pass", "second pass"])
def test_gradients_come_back_after_an_error(call: int) -> None:
    model, opt = started()
    calls = []

    def closure() -> Tensor:
        opt.zero_grad(set_to_none=False)
        loss = closure_of(model, X, Y)()
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return loss

    F.cross_entropy(model(X + 1), Y).backward()
    old = [p.grad for p in model.parameters()]
    values = [grad.clone() for grad in old]  # type: ignore[union-attr]  # none is None
    with pytest.raises(KeyboardInterrupt):
        opt.step(closure)
    assert all(p.grad is grad for p, grad in zip(model.parameters(), old, strict=True))
    assert equal(old, values)  # type: ignore[arg-type]  # none is None


@pattern("autograd.grad in the closure, for a log", EXACT)
def test_a_gradient_for_a_log_changes_nothing() -> None:
    (one, plain), (other, opt) = started(), started()
    x = X.clone().requires_grad_()

    def closure() -> Tensor:
        opt.zero_grad()
        out = other(x)
        loss = F.cross_entropy(out, Y)
        torch.autograd.grad(out.sum(), x, retain_graph=True)
        loss.backward()
        return loss

    for _ in range(3):
        plain.step(closure_of(one, X, Y))
        opt.step(closure)
    assert close(weights(other), weights(one), 1e-14)


@pattern("gradient penalties, losses on derivatives, create_graph", REFUSED)
def test_a_gradient_that_is_differentiated_is_refused() -> None:
    model, opt = started()

    def closure() -> Tensor:
        opt.zero_grad()
        x = X.clone().requires_grad_()
        loss = F.cross_entropy(model(x), Y)
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + slope.square().sum()).backward()
        return loss

    before = weights(model)
    with pytest.raises(NotImplementedError, match="must not differentiate a gradient"):
        opt.step(closure)
    assert equal(weights(model), before)


@pattern("autograd.grad with respect to the weights, in both passes", REFUSED)
def test_a_gradient_of_frozen_weights_is_refused_with_the_way_out() -> None:
    model, opt = started()

    def closure(guarded: bool = False) -> Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(model(X), Y)
        if not (guarded and opt.in_second_pass):
            torch.autograd.grad(loss, model[0].weight, retain_graph=True)
        loss.backward()
        return loss

    before = weights(model)
    with pytest.raises(ValueError, match="only `if not opt.in_second_pass`"):
        opt.step(closure)
    assert equal(weights(model), before)
    opt.step(lambda: closure(guarded=True))


@pattern("several losses with several backward passes over one graph", EXACT)
def test_several_backward_passes_are_one_of_the_sum() -> None:
    (one, plain), (other, opt) = started(), started()

    def losses(model: nn.Module) -> tuple[Tensor, Tensor]:
        out = model(X)
        return F.cross_entropy(out, Y), out.square().mean()

    def at_once() -> Tensor:
        plain.zero_grad()
        total = sum(losses(one), torch.zeros((), dtype=F64))
        total.backward()
        return total

    def apart() -> Tensor:
        opt.zero_grad()
        first, second = losses(other)
        first.backward(retain_graph=True)
        second.backward()
        return first + second

    for _ in range(3):
        plain.step(at_once)
        opt.step(apart)
    assert close(weights(other), weights(one), 1e-11)


@pattern("gradients changed by hand in both passes", REFUSED)
def test_a_change_of_gradients_that_are_none_is_refused_with_the_way_out() -> None:
    model, opt = started()

    def closure() -> Tensor:
        loss = closure_of(model, X, Y)()
        for p in model.parameters():
            p.grad.clamp_(-1, 1)
        return loss

    refused_closure = closure
    before = weights(model)
    with pytest.raises(ValueError, match="gradients are None"):
        opt.step(refused_closure)
    assert equal(weights(model), before)


@pattern("an enabled GradScaler that is given a closure", REFUSED)
def test_an_enabled_scaler_is_refused_and_a_disabled_one_is_not() -> None:
    model, opt = started()
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    scaler.scale(torch.ones(()))
    before = weights(model)
    with pytest.raises(ValueError, match="must not be scaled"):
        scaler.step(opt, closure_of(model, X, Y))
    assert equal(weights(model), before)
    torch.amp.GradScaler("cpu", enabled=False).step(opt, closure_of(model, X, Y))
    assert not equal(weights(model), before)


@pattern("a loss that is summed where the option says mean, or the other way", REFUSED)
@pytest.mark.parametrize(("option", "loss"), [("mean", "sum"), ("sum", "mean")])
def test_a_loss_reduced_in_another_way_is_refused(option: str, loss: str) -> None:
    model = cnn()
    opt = KFQN(model, loss_reduction=option)
    words = f"must be a {option} over the samples"
    refused(opt, closure_of(model, X, Y, reduction=loss), ValueError, words)


class WithQuery(nn.Module):
    """The first layer sees one row, the rest of the model the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.net = nn.Linear(3, 72, dtype=F64), mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1) + self.query(torch.ones(1, 3, dtype=F64)))


@pattern("a summed loss where layers see different numbers of samples", REFUSED)
def test_a_sum_needs_one_number_of_samples() -> None:
    model = WithQuery()
    opt = KFQN(model, loss_reduction="sum")
    closure = closure_of(model, X, Y, reduction="sum")
    refused(opt, closure, ValueError, r"got \{1: 'query', 16: 'net.1'\}")


# ----------------------------------------------------------------------------- models that change


CHANGES: dict[str, tuple[Callable[[nn.Sequential], Any], str]] = {
    "pruned": (lambda m: prune.l1_unstructured(m[2], "weight", 0.5), "'2' has its weight computed"),
    "weight norm": (
        lambda m: nn.utils.parametrizations.weight_norm(m[2]),
        "'2' has its weight computed",
    ),
    "replaced": (
        lambda m: m.__setitem__(5, nn.Linear(12, 5, dtype=F64)),
        "'5' was replaced by another module",
    ),
    "new parameter": (
        lambda m: setattr(m[5], "weight", nn.Parameter(m[5].weight.detach().clone())),
        "'5' has other parameters",
    ),
    "cast": (lambda m: m.float(), "was cast from torch.float64 to torch.float32"),
}


@pattern("layers pruned, parametrised, replaced, assigned anew or cast in mid-training", REFUSED)
@pytest.mark.parametrize("name", CHANGES)
def test_a_layer_that_was_changed_is_refused_by_name(name: str) -> None:
    model, opt = started()
    change, words = CHANGES[name]
    change(model)  # type: ignore[arg-type]  # cnn() is a Sequential
    before, k = weights(model), opt._k
    with pytest.raises(ValueError, match=words):
        opt.step(closure_of(model, X, Y))
    assert equal(weights(model), before)
    assert opt._k == k


OUTSIDE: dict[str, tuple[Callable[[nn.Sequential], Any], str]] = {
    "replaced": (lambda m: m.__setitem__(3, nn.BatchNorm2d(3, dtype=F64)), "'3.weight', '3.bias'"),
    "added": (lambda m: m.append(nn.Linear(5, 5, dtype=F64)), "'6.weight', '6.bias'"),
    "cast": (lambda m: m[1].float(), "1.weight from torch.float64 to torch.float32"),
}


@pytest.mark.filterwarnings("ignore:covered")
@pattern("a module outside the covered layers that is replaced, added or cast", REFUSED)
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_new_parameter_is_refused_by_name(name: str) -> None:
    model = cnn()
    model[1] = nn.BatchNorm2d(4, dtype=F64)
    model[3] = nn.BatchNorm2d(3, dtype=F64)
    model, opt = started(model)
    change, words = OUTSIDE[name]
    change(model)  # type: ignore[arg-type]  # cnn() is a Sequential
    refused(opt, closure_of(model, X, Y), ValueError, words)


@pattern("a module that is added, and given to add_param_group or frozen", EXACT)
def test_a_new_parameter_that_is_known_or_frozen_is_taken() -> None:
    model, opt = started()
    model.append(nn.BatchNorm1d(5, dtype=F64))
    model.append(nn.Linear(5, 5, dtype=F64).requires_grad_(False))
    opt.add_param_group({"params": model[6].parameters(), "lr": 0.5})
    before = weights(model)
    run(opt, model, 1)
    moved = [not torch.equal(a, b) for a, b in zip(weights(model), before, strict=True)]
    assert moved == [True] * 7 + [False] * 2


@pattern("layers that are lazy before the first forward pass; complex parameters", REFUSED)
def test_what_cannot_be_covered_is_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="those of '0' are not: run the model once"):
        KFQN(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match="must be real, but those of '0' are complex"):
        KFQN(nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64)))
    with pytest.raises(TypeError, match=r"call KFQN\(model, lr=...\), not KFQN\(model.parameters"):
        KFQN(cnn().parameters())  # type: ignore[arg-type]  # the usual slip
    for value in (float("nan"), -1.0):
        with pytest.raises(ValueError, match="lr must not be negative, got"):
            KFQN(cnn(), lr=value)


@pattern("a sparse embedding", REFUSED)
def test_a_sparse_gradient_is_refused() -> None:
    table = nn.Embedding(9, 72, sparse=True, dtype=F64)
    model = nn.Sequential(table, mlp()[1:])
    with pytest.warns(UserWarning, match="1 Embedding"):
        opt = KFQN(model)
    closure = closure_of(model, torch.arange(16) % 9, Y)
    before = weights(model)
    with pytest.raises(ValueError, match=r"sparse ones for \['0.weight'\]"):
        opt.step(closure)
    assert equal(weights(model), before)


@pattern("a transposed convolution called with output_size", REFUSED)
def test_an_output_size_of_a_call_is_refused() -> None:
    class Up(nn.Module):
        """Asks for its output's size in the call."""

        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(2, 1, 3, stride=2, dtype=F64)
            self.last = nn.Linear(196, 5, dtype=F64)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.up(x, output_size=[14, 14]).flatten(1))

    model = Up()
    opt = KFQN(model)
    refused(opt, closure_of(model, X, Y), ValueError, "'up' got more .output_size.")


@pattern("a parameter without elements", EXACT)
def test_a_parameter_without_elements_does_no_harm() -> None:
    one, other = cnn(), cnn()
    other.register_parameter("nothing", nn.Parameter(torch.zeros(0, 4, dtype=F64)))
    plain = KFQN(one, lr=0.1)
    with pytest.warns(UserWarning, match="covered: 3 layers"):
        opt = KFQN(other, lr=0.1)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(other(X), Y) + other.nothing.sum()
        loss.backward()
        return loss

    plain.step(closure_of(one, X, Y))
    opt.step(closure)
    assert equal(weights(other)[1:], weights(one))


class Uses(nn.Module):
    """One layer on two inputs: in two calls, or in one call on both as locations."""

    def __init__(self, together: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Linear(36, 6, dtype=F64)
        self.outer = nn.Linear(12, 5, dtype=F64)
        self.together = together

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.flatten(2).unbind(1)
        if self.together:
            h = self.inner(torch.stack((first, second), 1)).flatten(1)
        else:
            h = torch.cat((self.inner(first), self.inner(second)), 1)
        return self.outer(h.tanh())


@pattern("a layer used several times before a backward pass", EXACT)
@pytest.mark.parametrize("preset", ["kfqn_cnn", "kbfgs_2022", "kbfgs_2020"])
def test_two_uses_of_a_layer_are_two_locations(preset: str) -> None:
    one, other = Uses(together=True), Uses(together=False)
    for model in (one, other):
        opt = KFQN(model, preset, lr=0.1, curvature_interval=1)
        run(opt, model, 4)
        assert opt.curvature(model.inner).T == 2
    assert close(weights(other), weights(one), 1e-11)


@pattern("uses of a layer with different numbers of samples", REFUSED)
def test_uses_need_equally_many_samples() -> None:
    class Uneven(Uses):
        """The second use sees half of the samples."""

        def forward(self, x: Tensor) -> Tensor:
            first, second = x.flatten(2).unbind(1)
            h = self.inner(first), self.inner(second[:8]).repeat(2, 1)
            return self.outer(torch.cat(h, 1).tanh())

    model = Uneven(together=False)
    opt = KFQN(model)
    words = "'inner' saw 16 and 8; exclude="
    refused(opt, closure_of(model, X, Y), ValueError, words)


class Wrapped(nn.Module):
    """The CNN, its middle recomputed in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = cnn(), reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner[:2](x)
        middle = checkpoint(self.inner[2:4], x, use_reentrant=self.reentrant)
        return self.inner[4:](middle)


@pattern("reentrant checkpointing (the other kind is exact)", REFUSED)
def test_reentrant_checkpointing_is_refused_by_name() -> None:
    model = Wrapped(reentrant=True)
    opt, before = KFQN(model), weights(model)
    with pytest.raises(ValueError, match=r"'inner\.2' is: .* use_reentrant=False is exact"):
        opt.step(closure_of(model, X, Y))
    assert equal(weights(model), before)


@pattern("an in-place activation behind a linear layer with bias on three axes", EXACT)
def test_an_in_place_activation_behind_a_view_is_seen() -> None:
    def positions(inplace: bool) -> nn.Sequential:
        torch.manual_seed(5)
        first, last = nn.Linear(36, 6, dtype=F64), nn.Linear(12, 5, dtype=F64)
        return nn.Sequential(nn.Flatten(2), first, nn.ReLU(inplace), nn.Flatten(), last)

    one, other = positions(False), positions(True)
    for model in (one, other):
        opt = KFQN(model, lr=0.1)
        run(opt, model, 3)
        assert len(opt.started) == 2
    assert equal(weights(other), weights(one))


class Attending(nn.Module):
    """torch's attention, whose output projection is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(36, 8, dtype=F64)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=F64)
        self.outer = nn.Linear(16, 5, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x.flatten(2))
        return self.outer(self.attention(h, h, h)[0].flatten(1))


@pattern("torch's MultiheadAttention", NAMED)
def test_attention_of_torch_takes_the_step_of_adamw_and_is_described() -> None:
    model = Attending()
    with pytest.warns(UserWarning, match="1 MultiheadAttention, 1 NonDynamicallyQuantizable"):
        opt = KFQN(model, lr=0.1)
    run(opt, model, 2)
    assert [layer.name for layer in opt.layers] == ["inner", "outer"]
    assert "AdamW: MultiheadAttention reads its weight without calling it" in opt.describe()


@pattern("a bias that is frozen in mid-training", EXACT)
def test_a_frozen_bias_leaves_no_push() -> None:
    model, opt = started(momentum=0.9)
    model[5].bias.requires_grad_(False)
    run(opt, model, 1, first=2)
    M = opt.state[model[5].weight]["M"]
    assert not M[..., -1].any()


@pattern("a first mini-batch that is not finite", EXACT)
@pytest.mark.parametrize("preset", ["kfqn_cnn", "kbfgs_2020", "convergent"])
def test_a_bad_first_batch_changes_nothing(preset: str) -> None:
    build = mlp if preset == "kbfgs_2020" else cnn
    one, other = build(), build()
    decay = 0.6 * (preset == "convergent")
    plain, opt = (KFQN(model, preset, lr=0.1, step_decay=decay) for model in (one, other))
    if preset == "convergent":
        plain._k = 1  # its step sizes count iterations, a skipped one too
    opt.step(closure_of(other, X * float("nan"), Y))
    for k in range(3):
        plain.step(closure_of(one, *data(seed=k)))
        opt.step(closure_of(other, *data(seed=k)))
    assert opt.skipped_steps == 1
    assert equal(weights(other), weights(one))


# --------------------------------------------------------------------- random numbers, other users


@pattern("random numbers of NumPy and Python in the model", EXACT)
def test_global_random_numbers_are_drawn_again() -> None:
    model, seen = cnn(), []
    opt = KFQN(model)

    def closure() -> Tensor:
        opt.zero_grad()
        noise = np.random.rand() + random.random()  # noqa: NPY002  # the global one is meant
        seen.append(noise)
        loss = F.cross_entropy(model(X + noise), Y)
        loss.backward()
        return loss

    opt.step(closure)
    opt.step(closure)
    assert seen[0] == seen[1] != seen[2] == seen[3]


@pattern("noise of a generator of one's own, or a new mini-batch, in each pass", REFUSED)
def test_other_inputs_in_the_second_pass_are_refused() -> None:
    model, opt = started()
    generator = torch.Generator().manual_seed(0)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = F.cross_entropy(model(X + torch.randn(X.shape, generator=generator, dtype=F64)), Y)
        loss.backward()
        return loss

    before = weights(model)
    with pytest.raises(ValueError, match="both passes of the closure must have the same inputs"):
        opt.step(closure)
    assert equal(weights(model), before)


@pattern("two KFQN that take turns on one model, or on a part of it", REFUSED)
@pytest.mark.parametrize("part", [slice(0, 6), slice(5, 6), slice(2, 3)])
def test_a_second_optimizer_on_the_model_is_refused(part: slice) -> None:
    model, opt = started()
    other = KFQN(model[part], lr=0.1)
    other.step(closure_of(model, X, Y))
    number = part.stop - 1
    words = f"must have one KFQN at a time, but another one has moved .*'{number}.weight'"
    refused(opt, closure_of(model, X, Y), ValueError, words)
    twin = KFQN(model, lr=0.1)
    twin.load_state_dict(opt.state_dict())  # a run that goes on in a new optimizer is one
    run(twin, model, 1)


def drift(model: nn.Module) -> list[Tensor]:
    """Move the weights as users do between steps."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.3)
    sgd.step(closure_of(model, *data(seed=9)))
    model.zero_grad()
    with torch.no_grad():
        model[2].weight.clamp_(-0.1, 0.1)
        model[5].weight.div_(model[5].weight.norm())
    model.load_state_dict({name: 1.01 * x for name, x in model.state_dict().items()})
    return weights(model)


@pattern("weights that are changed between steps: clamped, projected, loaded, by an SGD", EXACT)
@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_cnn_l", "kfqn_adam"])
def test_a_step_begins_at_the_weights_that_it_finds(preset: str) -> None:
    """The changed run equals one whose weights were there from the start, state loaded."""
    model, opt = started(preset=preset)
    saved = copy.deepcopy(opt.state_dict())
    there = drift(model)
    run(opt, model, 2, first=2)
    other = cnn(seed=7)
    with torch.no_grad():
        for p, value in zip(other.parameters(), there, strict=True):
            p.copy_(value)
    twin = KFQN(other, lr=0.1, preset=preset)
    twin.load_state_dict(saved)
    run(twin, other, 2, first=2)
    assert equal(weights(model), weights(other))
    assert equal(tensors(opt.state_dict()), tensors(twin.state_dict()))


@pattern("a damping that is changed in a group", REFUSED)
def test_a_changed_damping_is_refused() -> None:
    model, opt = started()
    opt.param_groups[0]["damping"] = 100.0
    refused(opt, closure_of(model, X, Y), ValueError, "but the group now says 100")


@pattern("a scheduler that gives convergent a momentum", REFUSED)
def test_a_scheduler_that_breaks_an_assumption_is_refused() -> None:
    model = cnn()
    opt = KFQN(model, "convergent", lr=0.1)
    torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=9)
    refused(opt, closure_of(model, X, Y), ValueError, r"momentum must be 0 \(AS\.2")


@pattern("a log that must count once a step", EXACT)
def test_the_closure_knows_its_pass() -> None:
    model, passes = cnn(), []
    opt = KFQN(model, curvature_interval=2)

    def closure() -> Tensor:
        passes.append(opt.in_second_pass)
        return closure_of(model, X, Y)()

    for _ in range(3):
        opt.step(closure)
    assert passes == [False, True, False, False, True]


@pattern("a model that is compiled, and called so in the closure", EXACT)
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_steps_as_the_plain_one() -> None:
    if problem := compile_problem(torch.device("cpu")):
        pytest.skip(problem)
    one, other = mlp(), mlp()
    plain, opt = KFQN(one, lr=0.1), KFQN(other, lr=0.1)
    compiled = torch.compile(other)
    for _ in range(2):
        plain.step(closure_of(one, X, Y))
        opt.step(closure_of(compiled, X, Y))
    assert close(weights(other), weights(one), 1e-12)


# --------------------------------------------------------------------------------- after an error


def calls_of_a_step() -> list[str]:
    """Every function of the optimizer that a step calls, found by tracing one."""
    folder, found = str(Path(kfqn_ref.optim.__file__).parent), []

    def trace(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(folder):
            name = f"{Path(code.co_filename).stem}.{code.co_qualname}"
            if name not in found and "<" not in name:
                found.append(name)

    model, opt = started(preset="kfqn_adam", curvature_interval=1)
    sys.setprofile(trace)
    try:
        opt.step(closure_of(model, X, Y))
    finally:
        sys.setprofile(None)
    undoing = {"optimizer.KFQN.step", "guards.Snapshot.__init__", "guards.leaves", "guards.copy_"}
    return [name for name in found if name not in undoing]


class Injected(Exception):
    """An error from a place that tracing found."""


@pattern("an error at any place of a step", EXACT)
@pytest.mark.parametrize("options", [{"preset": "kfqn_adam"}, {"preset": "kfqn_cnn_l"}])
def test_an_error_anywhere_leaves_everything_as_it_was(options: dict[str, Any]) -> None:
    places = calls_of_a_step()
    assert len(places) > 40
    folder = str(Path(kfqn_ref.optim.__file__).parent)
    model, opt = started(curvature_interval=1, **options)
    reached = 0
    for place in places:
        before = [x.clone() for x in everything(opt)]

        def raising(frame: Any, event: str, argument: Any, place: str = place) -> None:
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(folder):
                if f"{Path(code.co_filename).stem}.{code.co_qualname}" == place:
                    sys.setprofile(None)
                    raise Injected(place)

        sys.setprofile(raising)
        try:
            opt.step(closure_of(model, X, Y))
        except Injected:
            reached += 1
            assert equal(everything(opt), before), place
            assert all(p.requires_grad for p in model.parameters())
            assert not any(module._forward_hooks for module in model.modules())
        finally:
            sys.setprofile(None)
    assert reached > 40


def test_the_committed_table_is_what_the_tests_declare() -> None:
    # their rows, too
    from . import (
        test_attention,
        test_distributed,
        test_embedding,
        test_rows,
        test_sharded,
        test_standing,
        test_training_values,
    )

    assert test_attention
    assert test_distributed
    assert test_embedding
    assert test_rows
    assert test_sharded
    assert test_standing
    assert test_training_values
    rows = sorted(patterns.TABLE, key=lambda row: row["test"])
    if os.environ.get("KFQN_WRITE_PATTERNS"):
        patterns.write(rows)
    assert patterns.stored() == rows


def test_nothing_is_silent_in_the_warnings_of_a_plain_model() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KFQN(cnn())
