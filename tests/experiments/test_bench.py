"""``kfqn bench``: its figures mean what they say, and a short run writes them."""

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from kfqn_ref.cli import app
from kfqn_ref.experiments.bench import growth, measure
from kfqn_ref.experiments.bench.kernels import Kernels, as_on_a_gpu
from kfqn_ref.optim import KFQN, options

from ..command import kfqn, words

SHORT = "--steps 2 --batch-size 8 --threads 1 --clock cpu --largest 256".split()


def small_cnn() -> nn.Sequential:
    """A convolution, and a layer that is wide enough for the lean form."""
    torch.manual_seed(0)
    shrink = nn.MaxPool2d(2)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), shrink, nn.Flatten(), nn.Linear(1568, 10)
    )


def test_a_short_run_writes_the_figures_and_a_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler only traces here, without C++: what it makes is held to the reference by the
    trajectories.
    """
    monkeypatch.setattr(measure, "reference_cnn", small_cnn)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(options, "compile_problem", lambda device: "")
    result = CliRunner().invoke(app, ["bench", "--out", str(tmp_path), *SHORT])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "bench.json").read_text())
    rows = found["rows"]
    assert set(rows) == {*measure.MAKERS, *measure.COMPILED}
    assert rows["SGD"]["mean_over_sgd"] == 1
    assert (
        rows["kfqn_cnn"]["mean_over_limit"] == rows["kfqn_cnn"]["mean"] / rows["kfqn_cnn"]["limit"]
    )
    assert (
        rows["SGD"]["kernels"] < rows["kfqn_cnn, every 10"]["kernels"] < rows["kfqn_cnn"]["kernels"]
    )
    assert all(("kernels" in row) != ("compiled" in name) for name, row in rows.items())
    assert rows["kfqn_cnn, lean"]["state_bytes"] < rows["kfqn_cnn"]["state_bytes"] / 4
    assert found["setup"]["steps"] == 2
    assert set(found["parts"]) == {part for _, part in measure.PARTS.values()} | {
        "both passes",
        "the rest",
    }
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_where_nothing_can_be_compiled_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    result = kfqn("bench", "--out", tmp_path / "none", *SHORT)
    assert result.exit_code == 2
    assert "compile=True needs" in words(result)
    assert "--no-compiled measures the rest" in words(result)
    assert not (tmp_path / "none").exists()


def test_a_missing_data_folder_is_a_wrong_option(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["bench", "--out", str(tmp_path), "--data-dir", str(tmp_path / "none")]
    )
    assert result.exit_code == 2


def test_the_exponent_of_a_power_law_is_its_power_and_its_interval_is_that_of_the_noise() -> None:
    sizes = [64.0, 128.0, 256.0, 512.0]
    exact = growth.exponent(sizes, [[3 * s**1.7, 3 * s**1.7] for s in sizes])
    assert list(exact.values()) == pytest.approx([1.7] * 3)
    noisy = growth.exponent(sizes, [[2 * s**1.7, 4 * s**1.7] for s in sizes])
    assert noisy["value"] == pytest.approx(1.7)
    assert noisy["low"] < 1.6 < 1.8 < noisy["high"]


def test_what_an_optimizer_keeps_grows_as_on_paper() -> None:
    """Bytes are counted in the optimizer, and on paper by the cost model of ``kfqn scale``."""
    ticks = iter(range(10**6))
    found = growth.growth(largest=512, steps=2, clock=lambda: float(next(ticks)))
    assert {*found} == {"width", "batch", "depth", "kernel"}
    for curves in found.values():
        for curve in curves["forms"].values():
            state = curve["exponent of bytes"]  # both are rounded to nine decimals
            assert state["value"] == pytest.approx(state["paper"], abs=1e-8)
    batch, depth = (
        found[axis]["forms"]["lean"]["exponent of bytes"] for axis in ("batch", "depth")
    )
    assert (batch["value"], depth["value"]) == pytest.approx((0, 1), abs=1e-12)


def test_the_parts_of_a_step_add_up_and_are_counted_once() -> None:
    ticks = iter(range(10**6))
    model = measure.reference_cnn()
    x, target = torch.rand(8, 1, 28, 28), torch.randint(0, 10, (8,))
    runner = measure.Runner(model, KFQN(model, lr=0.1), x, target, 8)
    spent = measure.parts(runner, 2, lambda: float(next(ticks)))
    calls = {"Hessian action": 4, "H_g M H_a": 4, "both passes": 2}
    calls |= {"update of H_a": 1, "damping, update of H_g": 1}  # of all layers at once
    rest = spent.pop("the rest")
    assert spent == calls  # a tick a call, four layers, two passes
    assert rest == 1 + sum(calls.values())  # and a tick from each reading of the clock to the next


@pytest.mark.parametrize(
    ("lean", "expected"), [([3, 3, 3], 256), ([1, 3, 3], 256), ([1, 1, 3], 64), ([3, 5, 9], None)]
)
def test_lean_pays_from_where_it_stays_faster(lean: list[float], expected: float | None) -> None:
    forms = {"dense": {"seconds": [2.0, 3.0, 5.0]}, "lean": {"seconds": lean}}
    assert growth.lean_pays_from({"sizes": [64, 128, 256], "forms": forms}) == expected


def test_the_limit_counts_passes_products_and_one_read_and_write() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Conv2d(2, 4, 1, groups=2, bias=False))
    rates = measure.Rates(gemm=10.0, memory=100.0)
    products = (9 * 5 + 3 * 25) + 2 * (4 * 1 + 2 * 1)
    factors = (9 + 25) + 2 * (4 + 1)
    for every in (1, 10):
        opt = KFQN(model, curvature_interval=every)
        expected = 7.0 + products / 10 + (5.0 + 8 * factors / 100) / every
        assert measure.limit(opt, 7.0, 5.0, rates) == pytest.approx(expected)
    alone = KFQN(model, "kfqn_input")  # one pass, no product with H_g, H_a alone is read
    expected = 7.0 + (3 * 25 + 2 * 2 * 1) / 10 + 8 * (25 + 2 * 1) / 100
    assert measure.limit(alone, 7.0, 5.0, rates) == pytest.approx(expected)


def test_kernels_are_counted_without_views() -> None:
    x = torch.ones(3, 2)
    with Kernels() as kernels:
        (x.T + 1).T.exp()
    assert kernels.count == 2


def test_kernels_are_counted_as_a_gpu_would_launch_them() -> None:
    """One addition for all parameters, a convolution and its gradient for an action; later as
    before.
    """
    model = nn.Conv2d(2, 3, 3)
    sgd, ours = torch.optim.SGD(model.parameters()), KFQN(model)
    a, v = torch.randn(2, 2, 5, 5), torch.randn(1, 19)
    counts = []
    for opt, work in ((sgd, sgd.step), (ours, lambda: ours.layers[0].geometry.action(a, v))):
        model(a).sum().backward()
        for way in (nullcontext(), as_on_a_gpu(opt), nullcontext()):
            with way, Kernels() as kernels, torch.no_grad():
                work()
            counts.append(kernels.count)
    assert counts[0] == counts[2] == 2
    assert counts[1] == 1
    assert counts[3] == counts[5] > 25
    assert counts[4] == 3  # with the concatenation
    with pytest.raises(KeyError), as_on_a_gpu(sgd):
        raise KeyError
    assert sgd.param_groups[0]["foreach"] is None


def test_the_state_is_counted_in_bytes() -> None:
    model = nn.Linear(4, 3)
    opt = KFQN(model)
    x = torch.randn(5, 4)
    opt.step(lambda: (loss := model(x).square().mean(), loss.backward())[0])
    floats = 3 * 5 + 5 * 5 + 3 * 3 + 3 + 3  # M, H_a, H_g, s_g, y_g
    assert measure.state_bytes(opt) == 4 * floats + 8 * 5  # and five counters
