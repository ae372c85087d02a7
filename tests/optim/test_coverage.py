"""What people do with a model: kinds of layers, groups, freezing, micro-batches, autocast,
checkpointing.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kfqn_ref import bridge
from kfqn_ref.layers import Conv2d, Flatten, Layer, Linear, ReLU, Sigmoid, Tanh
from kfqn_ref.losses import MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.method.presets import preset as reference_preset
from kfqn_ref.network import Network
from kfqn_ref.optim import KFQN
from kfqn_ref.pooling import AvgPool2d, MaxPool2d

from .models import Closure, close, closure_of, cnn, data, equal, model_for, run, weights


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, tuple[int, ...]]:
    """Random small CNNs and their input's shape without the batch."""
    channels, size = draw(st.integers(1, 3)), draw(st.integers(5, 8))
    shape = (channels, size, size)
    layers: list[Layer] = []
    for _ in range(draw(st.integers(0, 2))):
        groups = channels if draw(st.booleans()) else 1
        out, kernel = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3))
        stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 2))
        bias, dilation = draw(st.booleans()), draw(st.integers(1, 2))
        size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        if size < 2:
            break
        layers.append(Conv2d(channels, out, kernel, stride, padding, dilation, groups, bias))
        layers.append(draw(st.sampled_from([ReLU(), Tanh(), Sigmoid()])))
        channels = out
        if size >= 4 and draw(st.booleans()):
            layers.append(draw(st.sampled_from([MaxPool2d(2), AvgPool2d(2)])))
            size //= 2
    size = size if layers and size >= 2 else shape[1] if not layers else max(size, 1)
    features = _features(layers, shape)
    layers += [Flatten(), Linear(features, 4, draw(st.booleans())), Tanh(), Linear(4, 3)]
    return Network(
        tuple(layers), draw(st.sampled_from([SoftmaxCrossEntropy(), MeanSquaredError()]))
    ), shape


def _features(layers: list[Layer], shape: tuple[int, ...]) -> int:
    x = np.zeros((1, *shape))
    for layer in layers:
        x, _ = layer.forward(tuple(np.zeros(block) for block in layer.block_shapes), x)
    return x.size


@settings(max_examples=30)
@given(
    networks(),
    st.sampled_from(["kfqn_cnn", "kfqn_cnn_l", "kbfgs_2022"]),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.01]),
)
def test_random_networks_step_as_the_reference(
    case: tuple[Network, tuple[int, ...]], name: str, N: int, decay: float
) -> None:
    network, shape = case
    rng = np.random.default_rng(0)
    params = network.init(rng)
    method = reference_preset(name, lr=0.1, weight_decay=decay)
    model, state = bridge.build(network, params), method.init(params)
    opt = KFQN(model, name, lr=0.1, weight_decay=decay)
    for _ in range(2):
        x = rng.standard_normal((N, *shape))
        softmax = isinstance(network.loss, SoftmaxCrossEntropy)
        target = rng.integers(0, 3, N) if softmax else rng.standard_normal((N, 3))
        params, state, _ = method.step(network, params, state, x, target)
        opt.step(bridge.closure_of(model, network, x, target))
        found = bridge.deviation(opt, model, network, params, state)
        assert found.W < 1e-9
        assert found.H_a < 1e-9


class Kinds(nn.Module):
    """Convolutions of one, two and three axes, and a linear layer on sequence positions, side by
    side.
    """

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv1d(2, 3, 3, padding="same", padding_mode="circular")
        self.two = nn.Conv2d(2, 3, (3, 1), padding=(1, 0), padding_mode="reflect", stride=2)
        self.three = nn.Conv3d(1, 2, 2, dilation=2, bias=False)
        self.positions = nn.Linear(6, 4)
        self.up = nn.ConvTranspose2d(2, 1, 2)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            self.one(x.flatten(2)),
            self.two(x),
            self.three(x[:, None, :, :, :].repeat(1, 1, 2, 1, 1)),
        ]
        return sum(
            p.tanh().flatten(1).mean(1) for p in [*parts, self.positions(x), self.up(self.norm(x))]
        )  # type: ignore[return-value]  # a sum of tensors


def test_every_kind_of_layer_trains_and_the_rest_is_listed_in_one_warning() -> None:
    torch.manual_seed(0)
    model = Kinds().double()
    said = r"covered: 5 layers, 89% of the weights; other parameters: 11% \(1 LayerNorm\)"
    with pytest.warns(UserWarning, match=said) as seen:
        opt = KFQN(model, lr=0.1)
    assert len(seen) == 1
    x, goal = data()[0], torch.ones(16, dtype=torch.float64)

    def closure() -> Tensor:
        opt.zero_grad()
        loss = F.mse_loss(model(x), goal)
        loss.backward()
        return loss

    losses = [float(opt.step(closure).detach()) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]
    assert [opt.curvature(m).T for m in model.children() if m is not model.norm] == [
        36,
        9,
        32,
        12,
        49,
    ]


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_cnn_l", "kbfgs_2020"])
def test_micro_batches_inside_the_closure_step_as_one_batch(preset: str) -> None:
    whole, parts = model_for(preset), model_for(preset)
    one, other = KFQN(whole, preset, lr=0.1), KFQN(parts, preset, lr=0.1)
    for k in range(6):
        x, target = data(seed=k)

        def accumulate(x: Tensor = x, target: Tensor = target) -> Tensor:
            other.zero_grad()
            total = torch.zeros((), dtype=x.dtype)
            for piece, wanted in zip(x.split(4), target.split(4), strict=True):
                loss = F.cross_entropy(parts(piece), wanted) / 4
                loss.backward()
                total += loss.detach()
            return total

        one.step(closure_of(whole, x, target))
        other.step(accumulate)
    assert close(weights(parts), weights(whole), 1e-10)


def test_clipping_inside_the_closure_clips_the_step_and_not_the_pairs() -> None:
    free, clipped = cnn(), cnn()
    one, other = KFQN(free, lr=0.0), KFQN(clipped, lr=0.0)
    x, target = data()

    def closure() -> Tensor:
        loss = closure_of(clipped, x, target)()
        nn.utils.clip_grad_norm_(clipped.parameters(), 1e-3)
        return loss

    one.step(closure_of(free, x, target))
    other.step(closure)
    big, small = (opt.state[opt.layers[0].weight]["M"] for opt in (one, other))
    assert float(small.norm()) < 0.01 * float(big.norm())
    ours, theirs = ([opt.curvature(x.module).H_a for x in opt.layers] for opt in (other, one))
    assert equal(ours, theirs)


def test_groups_have_their_own_options() -> None:
    model = cnn()
    frozen, damped = (
        {"params": model[0].parameters(), "lr": 0.0},
        {"params": model[2].parameters(), "damping": 0.9},
    )
    opt = KFQN(model, lr=0.1, damping=0.1, groups=[frozen, damped])
    before = weights(model)
    run(opt, model, 2)
    moved = [not torch.equal(a, b) for a, b in zip(weights(model), before, strict=True)]
    assert moved == [False, False, True, True, True]
    assert [opt.curvature(model[i]).lambda_a for i in (0, 2, 5)] == [0.1**0.5, 0.9**0.5, 0.1**0.5]


def test_a_frozen_layer_stays_and_starts_when_it_is_unfrozen() -> None:
    model = cnn()
    model[0].requires_grad_(False)
    opt = KFQN(model, lr=0.1)
    before = weights(model)
    run(opt, model, 2)
    assert equal(weights(model)[:2], before[:2])
    assert not model[0].weight.requires_grad
    with pytest.raises(ValueError, match="must have been through one iteration"):
        opt.curvature(model[0])
    model[0].requires_grad_(True)
    run(opt, model, 2, first=2)
    assert not torch.equal(weights(model)[0], before[0])
    assert opt.curvature(model[0]).counts.updates_g == 2


def test_a_frozen_bias_stays_while_its_weight_moves() -> None:
    model = cnn()
    model[5].bias.requires_grad_(False)
    opt, before = KFQN(model, lr=0.1, weight_decay=0.1), weights(model)
    run(opt, model, 2)
    assert torch.equal(weights(model)[-1], before[-1])
    assert not torch.equal(weights(model)[-2], before[-2])


@pytest.mark.parametrize("half_weights", [False, True])
def test_bf16_trains_with_factors_in_float32(half_weights: bool) -> None:
    model = cnn(dtype=torch.float32)
    model = model.bfloat16() if half_weights else model
    opt = KFQN(model, lr=0.1)
    x, target = data(dtype=torch.bfloat16 if half_weights else torch.float32)
    plain = closure_of(model, x, target)

    def closure() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not half_weights):
            return plain()

    with torch.autocast(
        "cpu", dtype=torch.bfloat16
    ):  # a step inside autocast computes in float32 all the same
        losses = [float(opt.step(closure).detach()) for _ in range(30)]
    assert losses[-1] < 0.9 * losses[0]
    kept = [opt.curvature(m) for m in (model[0], model[2], model[5])]
    assert all(c.H_a.dtype == c.H_g.dtype == torch.float32 for c in kept)
    assert all(float(torch.linalg.eigvalsh(c.H_a).min()) > 0 for c in kept)


def test_the_casts_of_autocast_are_those_of_the_new_weights_in_the_second_pass() -> None:
    inside, outside = cnn(dtype=torch.float32), cnn(dtype=torch.float32)
    one, other = KFQN(inside, lr=0.5), KFQN(outside, lr=0.5)
    for k in range(3):
        x, target = data(seed=k, dtype=torch.float32)
        with torch.autocast(
            "cpu", dtype=torch.bfloat16
        ):  # its cache of casts outlives the first pass
            one.step(closure_of(inside, x, target))

        def closure(x: Tensor = x, target: Tensor = target) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return closure_of(outside, x, target)()

        other.step(closure)
    assert equal(weights(inside), weights(outside))


def test_evaluation_between_steps_changes_nothing() -> None:
    plain, evaluated = cnn(), cnn()
    one, other = KFQN(plain), KFQN(evaluated)
    for k in range(4):
        run(one, plain, 1, first=k)
        run(other, evaluated, 1, first=k)
        evaluated.eval()
        with torch.no_grad():
            evaluated(data()[0])
        evaluated.train()
    assert equal(weights(evaluated), weights(plain))


def test_a_forward_without_gradients_inside_the_closure_is_not_recorded() -> None:
    plain, teacher = cnn(), cnn()
    one, other = KFQN(plain), KFQN(teacher)
    x, target = data()

    def closure() -> Tensor:
        with torch.no_grad():
            teacher(x + 1)
        return closure_of(teacher, x, target)()

    for _ in range(3):
        one.step(closure_of(plain, x, target))
        other.step(closure)
    assert equal(weights(teacher), weights(plain))


class Checkpointed(nn.Module):
    """The CNN with its layers recomputed in the backward pass."""

    def __init__(self, cut: list[int]) -> None:
        super().__init__()
        self.inner, self.cut = cnn(), [0, *cut, 6]

    def forward(self, x: Tensor) -> Tensor:
        for first, last in zip(self.cut[:-1], self.cut[1:], strict=True):
            x = checkpoint(self.inner[first:last], x, use_reentrant=False)
        return x


@pytest.mark.parametrize("cut", [[], [2], [1, 3, 5]])
def test_activation_checkpointing_changes_nothing(cut: list[int]) -> None:
    plain, recomputed = cnn(), Checkpointed(cut)
    one, other = KFQN(plain, lr=0.1), KFQN(recomputed, lr=0.1)
    run(one, plain, 4)
    run(other, recomputed, 4)
    assert close(weights(recomputed), weights(plain), 1e-13)


def test_a_layer_that_is_never_called_is_named_and_takes_the_step_of_AdamW() -> None:
    class Bypassed(nn.Module):
        """Uses a layer's weight, not the layer."""

        def __init__(self) -> None:
            super().__init__()
            self.used, self.weight_only = nn.Linear(72, 6).double(), nn.Linear(6, 5).double()

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(
                self.used(x.flatten(1)).tanh(), self.weight_only.weight, self.weight_only.bias
            )

    torch.manual_seed(0)
    model = Bypassed()
    opt, parameter = KFQN(model, lr=0.1), model.weight_only.weight
    twin = nn.Parameter(parameter.detach().clone())
    adamw = torch.optim.AdamW([twin], lr=1e-3, weight_decay=0.01)
    with pytest.warns(UserWarning, match=r"outputs were not seen: \['weight_only'\]"):
        run(opt, model, 1)
    for k in range(1, 4):
        assert parameter.grad is not None
        twin.grad = parameter.grad.clone()
        adamw.step()
        assert close([parameter.detach()], [twin.detach()], 1e-14)
        run(opt, model, 1, first=k)
    assert "AdamW: its output was not seen in the first iteration" in opt.describe()
    with pytest.raises(ValueError, match="'weight_only' must have been through one iteration"):
        opt.curvature(model.weight_only)


def scheduled(build: Callable[[KFQN], torch.optim.lr_scheduler.LRScheduler]) -> list[float]:
    model = cnn()
    opt = KFQN(model, lr=0.4)
    schedule = build(opt)
    rates = []
    for k in range(4):
        closure: Closure = closure_of(model, *data(seed=k))
        opt.step(closure)
        schedule.step()
        rates.append(opt.param_groups[0]["lr"])
    return rates


def test_schedulers_of_torch_drive_the_rate() -> None:
    schedulers = torch.optim.lr_scheduler
    assert scheduled(lambda o: schedulers.StepLR(o, 2, 0.5)) == [0.4, 0.2, 0.2, 0.1]
    assert scheduled(lambda o: schedulers.CosineAnnealingLR(o, 4))[-1] == pytest.approx(
        0, abs=1e-12
    )
    assert scheduled(lambda o: schedulers.OneCycleLR(o, 0.4, total_steps=5))[-1] < 0.4
