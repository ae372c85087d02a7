"""Bad batches, long runs, sudden death: the estimates stay finite and definite, and training goes
on.
"""

import copy
import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from kfqn_ref import bridge, files
from kfqn_ref.layers import Blocks, Linear, Tanh
from kfqn_ref.losses import SoftmaxCrossEntropy
from kfqn_ref.method.presets import preset as reference_preset
from kfqn_ref.network import Network
from kfqn_ref.optim import KFQN, PRESETS

from .. import warm
from ..trajectories import batches, network_of
from . import deaths
from .models import closure_of, cnn, data, equal, mlp, model_for, run, tensors, weights

F32 = torch.float32


def sound(opt: KFQN) -> None:
    """What is kept of every layer is finite, and H_a and H_g are positive definite."""
    for layer in opt.layers:
        kept = opt.state[layer.weight].values()
        assert all(torch.isfinite(x).all() for x in kept if isinstance(x, Tensor))
        seen = opt.curvature(layer.module)
        for H in (seen.H_a, seen.H_g):
            assert torch.isfinite(H).all()
            assert float(torch.linalg.eigvalsh((H + H.mT) / 2).min()) > 0


def empty(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return x[:0], t[:0]


BAD: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "nan": lambda x, t: (x * float("nan"), t),
    "one inf": lambda x, t: (
        torch.where(torch.arange(x.numel()).view(x.shape) == 7, float("inf"), x),
        t,
    ),
    "empty": empty,
    "one sample": lambda x, t: (x[:1], t[:1]),
    "constant": lambda x, t: (torch.ones_like(x), t),
    "zero": lambda x, t: (torch.zeros_like(x), t),
    "huge": lambda x, t: (x * 1e20, t),
    "tiny": lambda x, t: (x * 1e-30, t),
}
UNSOUND = {"nan", "one inf", "empty"}


@pytest.mark.parametrize("when", [0, 3])
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_a_bad_batch_is_survived(preset: str, kind: str, when: int) -> None:
    model = model_for(preset, dtype=F32)
    opt = KFQN(model, preset, lr=0.1, curvature_interval=1)
    for k in range(8):
        x, target = data(seed=k, dtype=F32)
        x, target = BAD[kind](x, target) if k == when else (x, target)
        before = weights(model)
        opt.step(closure_of(model, x, target))
        if k == when and kind in UNSOUND:
            assert equal(weights(model), before)
    if kind != "huge":  # its own step is sound, but throws the weights out: what follows may not be
        assert opt.skipped_steps == (kind in UNSOUND)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    sound(opt)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_loss_spike_is_survived(preset: str) -> None:
    model = model_for(preset, dtype=F32)
    opt = KFQN(
        model, preset, lr=1e-24, curvature_interval=1
    )  # so that the spike does not throw the weights out
    for k in range(6):
        closure = closure_of(model, *data(seed=k, dtype=F32))

        def spiked(closure: Callable = closure, k: int = k) -> Tensor:
            loss = closure() * (1e20 if k == 2 else 1)
            for p in model.parameters():
                if k == 2 and p.grad is not None:
                    p.grad *= 1e20
            return loss

        opt.step(spiked)
    assert opt.skipped_steps == 0
    sound(opt)


def test_dead_units_are_counted_and_leave_H_g_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 6), nn.ReLU(), nn.Linear(6, 5))
    nn.init.constant_(dict(model.named_parameters())["1.bias"], -1e6)  # no unit is ever active
    opt = KFQN(model, weight_decay=0.1)  # the outputs move, so s is not zero where y is
    run(opt, model, 4)
    counts = opt.curvature(model[1]).counts
    assert (counts.updates_g, counts.skipped_g) == (0, 4)
    assert torch.equal(opt.curvature(model[1]).H_g, torch.eye(6))
    sound(opt)
    assert (
        opt.state[model[1].weight]["counts"].dtype == torch.int64
    )  # a float32 stops counting at 2^24


def test_a_dead_group_leaves_its_own_H_g_alone() -> None:
    conv = nn.Conv2d(2, 4, 3, groups=2)
    nn.init.constant_(conv.bias[:2], -1e6)  # type: ignore[index]  # there is a bias
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    opt = KFQN(model, weight_decay=0.1)
    run(opt, model, 4)
    dead, alive = opt.curvature(conv).H_g
    assert torch.equal(dead, torch.eye(2))
    assert not torch.equal(alive, torch.eye(2))
    counts = opt.curvature(conv).counts
    assert (counts.updates_g, counts.skipped_g) == (4, 4)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_loss_that_is_not_finite_leaves_all_as_it_is_though_the_gradients_are(
    preset: str,
) -> None:
    model = model_for(preset)
    opt = KFQN(model, preset, curvature_interval=1)
    run(opt, model, 3)
    before = copy.deepcopy([*opt.state.values()]), weights(model)
    opt.step(lambda: closure_of(model, *data(seed=3))() * float("inf"))
    for old, new in zip(before[0], opt.state.values(), strict=True):
        old.pop("counts", None)  # skipped pairs are counted
        assert equal(tensors(old), tensors({key: new[key] for key in old}))
    assert equal(weights(model), before[1])
    assert opt.skipped_steps == 1


def test_a_second_pass_that_overflows_is_skipped_and_not_averaged() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)).double()
    opt = KFQN(model, lr=1e300)

    def closure() -> Tensor:
        model.zero_grad()
        loss = model(torch.ones(4, 4).double()).square().mean()
        loss.backward()
        return loss

    opt.step(closure)
    assert opt.skipped_steps == 0
    for layer in opt.layers:
        assert opt.curvature(layer.module).counts.skipped_g == 1
        assert not any(opt.state[layer.weight][name].any() for name in ("s_g", "y_g"))


def test_zero_gradients_skip_every_output_pair() -> None:
    model = mlp()
    opt, before = KFQN(model), weights(model)
    x, _ = data()

    def closure() -> Tensor:
        model.zero_grad()
        loss = 0 * model(x).sum()
        loss.backward()
        return loss

    for _ in range(3):
        opt.step(closure)
    assert equal(weights(model), before)
    assert all(opt.curvature(x.module).counts.skipped_g == 3 for x in opt.layers)
    sound(opt)


@pytest.mark.parametrize("unsound", [0, 2])
@pytest.mark.parametrize("preset", PRESETS)
def test_reference_and_torch_skip_the_same_unsound_iteration(preset: str, unsound: int) -> None:
    network, method = network_of(preset), reference_preset(preset, lr=0.1)
    params: Blocks = network.init(np.random.default_rng(3))
    model, state = bridge.build(network, params), method.init(params)
    opt = KFQN(model, preset, lr=0.1)
    for k, (x, target) in enumerate(batches(network, 6)):
        x = x * np.nan if k == unsound else x
        params, state, _ = method.step(network, params, state, x, target)
        opt.step(bridge.closure_of(model, network, x, target))
    assert max(bridge.deviation(opt, model, network, params, state)) < 1e-9
    assert opt.skipped_steps == state.skipped_steps == 1


@pytest.mark.filterwarnings(
    "ignore:overflow", "ignore:invalid value"
)  # of the reference's matrix A
@pytest.mark.parametrize("unsound", [0, 2])
@pytest.mark.parametrize("preset", PRESETS)
def test_reference_and_torch_survive_the_same_overflow_of_a_factor(
    preset: str, unsound: int
) -> None:
    """Behind a saturated tanh neither loss nor gradient tells of inputs whose squares are too
    large.
    """
    network = Network((Linear(5, 4), Tanh(), Linear(4, 3)), SoftmaxCrossEntropy())
    method = reference_preset(preset, lr=0.1)
    params: Blocks = network.init(np.random.default_rng(3))
    model, state = bridge.build(network, params), method.init(params)
    opt = KFQN(model, preset, lr=0.1)
    rng = np.random.default_rng(4)
    for k in range(6):
        x, target = rng.standard_normal((7, 5)), rng.integers(0, 3, 7)
        x = x * 1e200 if k == unsound else x
        params, state, _ = method.step(network, params, state, x, target)
        opt.step(bridge.closure_of(model, network, x, target))
    assert opt.skipped_steps == state.skipped_steps == 0
    assert max(bridge.deviation(opt, model, network, params, state)) < 1e-9


@pytest.mark.parametrize("skip_below", [0.4, 2.0])
@pytest.mark.parametrize("preset", ["kbfgs_2020", "kbfgs_l_2020"])
def test_reference_and_torch_skip_the_same_pairs_of_little_curvature(
    preset: str, skip_below: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of 2020, 1e-4, is almost never met; higher ones divide the pairs of both sides."""
    monkeypatch.setitem(PRESETS, preset, replace(PRESETS[preset], skip_below=skip_below))
    network, method = network_of(preset), reference_preset(preset, lr=0.1, skip_below=skip_below)
    params: Blocks = network.init(np.random.default_rng(3))
    model, state = bridge.build(network, params), method.init(params)
    opt = KFQN(model, preset, lr=0.1)
    for x, target in batches(network, 8):
        params, state, _ = method.step(network, params, state, x, target)
        opt.step(bridge.closure_of(model, network, x, target))
    assert max(bridge.deviation(opt, model, network, params, state)) < 1e-9
    counts = [opt.curvature(layer.module).counts for layer in opt.layers]
    assert [tuple(c) for c in counts] == [
        tuple(vars(block.counts).values()) for block in state.blocks
    ]
    assert 0 < sum(c.skipped_a for c in counts) < 8 * len(counts)
    assert (0 < sum(c.skipped_g for c in counts) < 8 * len(counts)) == (skip_below == 2.0)


def test_five_thousand_float32_steps_keep_symmetry_and_definiteness() -> None:
    """Asymmetry comes from rounding alone, u = 6e-8 a step; here it stays at a few u and does not
    grow.
    """
    images, labels = load_digits(return_X_y=True)
    x, target = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    opt = KFQN(model, lr=0.1)
    for k in range(5000):
        chosen = torch.randint(0, len(x), (16,))
        opt.step(closure_of(model, x[chosen], target[chosen]))
        if k % 500 == 499:
            seen = opt.diagnostics(eigenvalues=True)
            assert min(value for name, value in seen.items() if "min_eig" in name) > 0
            assert max(value for name, value in seen.items() if "asymmetry" in name) < 1e-5
    assert float(F.cross_entropy(model(x), target).detach()) < 0.1


def test_twenty_deaths_in_steps_and_in_checkpoint_writes_change_nothing(tmp_path: Path) -> None:
    """A warm process forks the lives: autograd's threads, which this one has used, survive no
    fork.
    """
    code, told = warm.Process(deaths.main, tmp_path).end()
    assert code == 0, told
    ends = json.loads((tmp_path / "ends.json").read_text())
    assert ends == [-signal.SIGKILL] * deaths.DEATHS + [0]
    model = cnn(dtype=F32)
    opt = KFQN(model, lr=0.1)
    run(opt, model, deaths.LENGTH)
    resumed = files.load(tmp_path / "checkpoint.pt")
    assert equal([*resumed["model"].values()], weights(model))
    assert resumed["opt"]["kfqn"]["k"] == deaths.LENGTH


def test_diagnostics_are_flat_numbers_for_json_and_tensorboard() -> None:
    model = cnn()
    opt = KFQN(model)
    assert opt.diagnostics() == {"k": 0.0, "skipped_steps": 0.0}
    run(opt, model, 3)
    seen = json.loads(json.dumps(opt.diagnostics(eigenvalues=True)))
    assert all(isinstance(value, float) and math.isfinite(value) for value in seen.values())
    assert (seen["k"], seen["0/updates_a"], seen["2/updates_g"]) == (3.0, 3.0, 3.0)
    assert 0 < seen["5/theta"] <= 1
    assert seen["5/sy_g"] > 0
    eigenvalues = torch.linalg.eigvalsh(opt.curvature(model[5]).H_g)
    assert seen["5/min_eig_H_g"] == pytest.approx(float(eigenvalues[0]), rel=1e-10)
    assert seen["5/max_eig_H_g"] == pytest.approx(float(eigenvalues[-1]), rel=1e-10)
    assert seen["0/norm_s_a"] > 0


def test_diagnostics_show_an_input_pair_where_there_is_one() -> None:
    for preset, paired in (("kfqn_cnn", True), ("convergent", False)):  # there H_a is exact
        model = cnn()
        opt = KFQN(model, preset)
        run(opt, model, 2)
        assert all((f"0/{name}" in opt.diagnostics()) == paired for name in ("norm_y_a", "sy_a"))
