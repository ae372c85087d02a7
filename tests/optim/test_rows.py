"""Rows that the loss ignores count as if they were not there, and samples may have any axis."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

from .models import Closure, close, data, equal, weights
from .patterns import pattern
from .test_training_patterns import EXACT, REFUSED, refused

F64 = torch.float64
N, T, D, CLASSES = 6, 5, 4, 3
IGNORED = -100
PRESETS = ["kfqn_cnn", "kfqn_input", "kfqn_cnn_l", "kfqn_adam", "kbfgs_2022"]


def tokens(*, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (N, T, D) and a class for each."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(N, T, D, generator=rng, dtype=F64)
    return x, torch.randint(0, CLASSES, (N, T), generator=rng)


def net() -> nn.Sequential:
    """Two linear layers on every row."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(D, 7), nn.Tanh(), nn.Linear(7, CLASSES, bias=False)).to(F64)


def closure_on(opt: KFQN, x: Tensor, target: Tensor, keep: Tensor | None = None) -> Closure:
    """The usual closure of a model on rows, whose loss ignores those without a class."""

    def closure() -> Tensor:
        opt.zero_grad()
        if keep is None:
            logits = opt.model(x)
        else:
            with opt.row_weights(keep):
                logits = opt.model(x)
        loss = F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORED)
        loss.backward()
        return loss

    return closure


def pair(preset: str) -> tuple[KFQN, KFQN]:
    """Two optimizers of equal models."""
    one, other = (KFQN(net(), preset, lr=0.1, curvature_interval=1) for _ in range(2))
    return one, other


def rows_flattened(k: int) -> tuple[Tensor, Tensor, Tensor]:
    x, target = tokens(seed=k)
    keep = torch.rand(N * T, generator=torch.Generator().manual_seed(k)) < 0.6
    return x.flatten(0, 1), target.flatten(), keep


@pattern("rows that the loss ignores: padding, masks, ignore_index, by row_weights", EXACT)
@pytest.mark.parametrize("preset", PRESETS)
def test_rows_of_weight_zero_are_as_if_dropped(preset: str) -> None:
    dropped, opt = pair(preset)
    for k in range(5):
        x, target, keep = rows_flattened(k)
        dropped.step(closure_on(dropped, x[keep], target[keep]))
        masked = target.masked_fill(~keep, IGNORED)
        opt.step(closure_on(opt, x, masked, keep.double()))  # numbers and masks are both taken
    assert close(weights(opt.model), weights(dropped.model), 1e-11)


@pytest.mark.parametrize("preset", PRESETS)
def test_locations_and_samples_of_weight_zero_are_as_if_dropped(preset: str) -> None:
    dropped, opt = pair(preset)
    for k in range(4):
        x, target = tokens(seed=k)
        order = torch.rand(N, T, generator=torch.Generator().manual_seed(k)).argsort(1)
        keep = order < 3  # of every sample three locations, of the first sample none
        keep[0] = False
        size = N - 1, 3
        dropped.step(closure_on(dropped, x[keep].view(*size, D), target[keep].view(size)))
        opt.step(closure_on(opt, x, target.masked_fill(~keep, IGNORED), keep))
        assert opt.curvature(opt.model[0]).T == 3
    assert close(weights(opt.model), weights(dropped.model), 1e-11)


def test_rows_without_weights_are_another_step() -> None:
    """What the masks change: without them the ignored rows enter ``A`` and the means."""
    dropped, opt = pair("kfqn_cnn")
    x, target, keep = rows_flattened(0)
    for _ in range(2):
        dropped.step(closure_on(dropped, x[keep], target[keep]))
        opt.step(closure_on(opt, x, target.masked_fill(~keep, IGNORED)))
    assert not close(weights(opt.model), weights(dropped.model), 1e-4)


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_cnn_l"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_samples_of_convolutions_may_be_left_out(preset: str, reduction: str) -> None:
    def build() -> nn.Sequential:
        torch.manual_seed(2)
        conv = nn.Conv2d(2, 4, 3, padding=1, stride=2, dtype=F64)
        return nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(36, 5, dtype=F64))

    def closure_of(opt: KFQN, x: Tensor, target: Tensor, keep: Tensor | None) -> Closure:
        def closure() -> Tensor:
            opt.zero_grad()
            weight = torch.ones(len(x)) if keep is None else keep
            with opt.row_weights(weight):
                logits = opt.model(x)
            each = F.cross_entropy(logits, target, reduction="none")
            total = (each * weight).sum()
            loss = total / weight.sum() if reduction == "mean" else total
            loss.backward()
            return loss

        return closure

    options = {"lr": 0.1, "curvature_interval": 1, "loss_reduction": reduction}
    dropped, opt = (KFQN(build(), preset, **options) for _ in range(2))  # type: ignore[arg-type]  # options of many kinds
    for k in range(4):
        x, target = data(seed=k)
        keep = torch.rand(len(x), generator=torch.Generator().manual_seed(k)) < 0.5
        dropped.step(closure_of(dropped, x[keep], target[keep], None))
        opt.step(closure_of(opt, x, target, keep))
    assert close(weights(opt.model), weights(dropped.model), 1e-11)


def test_a_warm_start_leaves_rows_out_too() -> None:
    dropped, opt = pair("kfqn_cnn")
    batches = [rows_flattened(k) for k in range(2)]

    def masked(batch: tuple[Tensor, Tensor, Tensor]) -> None:
        with opt.row_weights(batch[2]):
            opt.model(batch[0])

    opt.warm_start(batches, masked)
    dropped.warm_start([x[keep] for x, _, keep in batches])
    for layer, other in zip(opt.layers, dropped.layers, strict=True):
        H_a = opt.state[layer.weight]["H_a"]["H"]
        torch.testing.assert_close(
            H_a, dropped.state[other.weight]["H_a"]["H"], rtol=1e-12, atol=1e-12
        )


@pattern("row weights that fit no layer, or are neither 0 nor 1", REFUSED)
@pytest.mark.parametrize(
    ("keep", "words"),
    [
        (torch.ones(N + 1), r"for '0' these are \(6, 5\) and \(6,\), got \(7,\)"),
        (torch.ones(T, N), r"for '0' these are \(6, 5\) and \(6,\), got \(5, 6\)"),
        (torch.full((N,), 0.5), "row weights must be 0 or 1"),
        (torch.full((N,), float("nan")), "row weights must be 0 or 1"),
    ],
)
def test_row_weights_that_do_not_fit_are_refused(keep: Tensor, words: str) -> None:
    opt = KFQN(net())
    refused(opt, closure_on(opt, *tokens(seed=0), keep), ValueError, words)
    with pytest.raises(TypeError, match="row weights must be a tensor, got list"):
        opt.row_weights([1.0, 0.0]).__enter__()  # type: ignore[arg-type]  # the wrong kind


@pattern("samples on the second axis, (T, N, d), by sample_axis", EXACT)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_sample_axis_is_the_transposed_computation(preset: str, masked: bool) -> None:
    first = KFQN(net(), preset, lr=0.1, curvature_interval=1)
    second = KFQN(net(), preset, lr=0.1, curvature_interval=1, sample_axis={"": 1})
    for k in range(4):
        x, target = tokens(seed=k)
        keep = torch.ones(N, T, dtype=torch.bool)
        if masked:
            keep[0] = False
            keep[1:, k] = False
        target = target.masked_fill(~keep, IGNORED)
        first.step(closure_on(first, x, target, keep))
        second.step(closure_on(second, x.transpose(0, 1), target.T.contiguous(), keep.T))
        T_left = T - 1 if masked else T
        assert first.curvature(first.model[0]).T == second.curvature(second.model[0]).T == T_left
    assert close(weights(second.model), weights(first.model), 1e-11)


def test_the_first_axis_is_another_method() -> None:
    """Why the option is needed: with the time axis first, time steps would be the samples."""
    right, wrong = pair("kfqn_cnn")
    for k in range(2):
        x, target = tokens(seed=k)
        right.step(closure_on(right, x, target))
        wrong.step(closure_on(wrong, x.transpose(0, 1), target.T.contiguous()))
    assert not close(weights(wrong.model), weights(right.model), 1e-4)


@pytest.mark.filterwarnings("ignore:covered")
@pattern("torch's Transformer layers with batch_first=False", EXACT)
def test_transformer_layers_know_their_axis() -> None:
    x = torch.randn(6, 7, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = []
    for batch_first in (True, False):
        torch.manual_seed(2)
        model = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=batch_first).double()
        opt = KFQN(model, lr=0.1)
        seen = x if batch_first else x.transpose(0, 1)

        def closure(model: nn.Module = model, opt: KFQN = opt, seen: Tensor = seen) -> Tensor:
            opt.zero_grad()
            loss = (model(seen) - 1).square().mean()
            loss.backward()
            return loss

        for _ in range(4):
            opt.step(closure)
        found.append(weights(model))
    assert close(*found, 1e-10)


@pattern("a sample axis that a layer's output does not have, or of no linear layer", REFUSED)
def test_a_sample_axis_that_does_not_fit_is_refused() -> None:
    opt = KFQN(net(), sample_axis={"2": 1})
    x, target, _ = rows_flattened(0)
    refused(opt, closure_on(opt, x, target), ValueError, r"sample_axis=1 must be an axis")
    for axes, words in (
        ({"7": 1}, "must name modules of the model, got '7'"),
        ({"0": -1}, "must be an integer from 0 on, got -1"),
        ({"1": 1}, "but '1' has none"),
    ):
        with pytest.raises(ValueError, match=words):
            KFQN(net(), sample_axis=axes)


def test_the_context_ends_after_an_error() -> None:
    opt = KFQN(net())
    with pytest.raises(KeyError), opt.row_weights(torch.ones(N)):
        raise KeyError
    twin = KFQN(net())
    x, target = tokens(seed=0)
    opt.step(closure_on(opt, x[:4], target[:4]))
    twin.step(closure_on(twin, x[:4], target[:4]))
    assert equal(weights(opt.model), weights(twin.model))
