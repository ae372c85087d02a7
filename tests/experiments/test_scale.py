"""``kfqn scale``: the tables are the networks, the counts are those of real steps, the command says
so.
"""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kfqn_ref.experiments.bench import measure as bench_measure
from kfqn_ref.experiments.scale import measure as scale_measure
from kfqn_ref.experiments.scale import model
from kfqn_ref.experiments.scale import rank as scale_rank
from kfqn_ref.experiments.scale import show as scale_show
from kfqn_ref.experiments.scale.command import Assumptions, _launched
from kfqn_ref.experiments.scale.networks import (
    Network,
    large,
    linear,
    reference_cnn,
    resnet50,
    vgg16,
    vit_b16,
)
from kfqn_ref.optim import KFQN, PRESETS
from kfqn_ref.optim.coverage import covered_layers, survey
from kfqn_ref.optim.update import direction

from ..command import kfqn, words

PUBLISHED = [
    (resnet50, 25_557_032, 4.089),
    (vgg16, 138_357_544, 15.470),
    (vit_b16, 86_567_656, 17.564),
]
MACHINE = model.Machine(1e12, 1e12, 1e11, 1e12, 1e10, 1e-5, 1e-6)
TINY = Network("tiny", (linear("fc1", 29, 4), linear("fc2", 4, 3)))


@pytest.mark.parametrize(("network", "parameters", "billions"), PUBLISHED)
def test_the_tables_have_the_published_parameters_and_multiply_adds(
    network: Any, parameters: int, billions: float
) -> None:
    """Source: torchvision, its num_params and its count of operations."""
    assert network().parameters == parameters
    assert round(network().macs / 1e9, 3) == billions


def test_the_table_of_the_reference_cnn_is_the_module() -> None:
    cnn, seen = bench_measure.reference_cnn(), {}
    layers = covered_layers(survey(cnn, ()), cnn, PRESETS["kfqn_cnn"])
    for layer in layers:
        layer.module.register_forward_hook(
            lambda m, a, h, x=layer: seen.update({x: x.geometry.counts(h)[1]})
        )
    cnn(torch.zeros(2, 1, 28, 28))
    table = reference_cnn().layers
    assert [(1, x.d_g, x.d_a) for x in table] == [layer.shape for layer in layers]
    assert [x.T for x in table] == [seen[layer] for layer in layers]
    assert reference_cnn().parameters == sum(p.numel() for p in cnn.parameters())


def test_the_passes_have_the_operations_that_torch_counts() -> None:
    training = scale_rank.runner("SGD", 1, 6)
    with FlopCounterMode(display=False) as counter:
        training.passes(lambda: 0.0)
    counted = model.first_pass(reference_cnn(), 6) + model.second_pass(reference_cnn(), 6)
    assert counter.get_total_flops() == 2 * counted


def trained(factor: str, preset: str = "kfqn_cnn") -> KFQN:
    net = nn.Sequential(nn.Linear(29, 4), nn.Linear(4, 3))
    opt = KFQN(net, preset, input_inverse=factor, memory=3)
    x = torch.randn(8, 29)
    for _ in range(2):
        opt.step(lambda: (loss := net(x).square().mean(), net.zero_grad(), loss.backward())[0])
    return opt


@pytest.mark.parametrize(("factor", "pairs"), [("dense", None), ("lbfgs", 3)])
def test_directions_have_the_operations_that_torch_counts(factor: str, pairs: int | None) -> None:
    opt = trained(factor)
    for shape, layer in zip(TINY.layers, opt.layers, strict=True):
        with FlopCounterMode(display=False) as counter:
            direction(opt.state[layer.weight], opt.state[layer.weight]["M"], None)
        counted = model.direction(shape, shape.d_g, pairs)
        if pairs and shape.d_a > 2 * pairs:
            counted -= shape.d_g * pairs**2  # torch does not count triangular solves
        assert counter.get_total_flops() == 2 * counted


@pytest.mark.parametrize(
    ("method", "factor", "preset"),
    [("dense", "dense", "kfqn_cnn"), ("lean", "lbfgs", "kfqn_cnn"),
     ("input", "dense", "kfqn_input")],
)  # fmt: skip  # a table
def test_the_state_is_that_of_the_optimizer(method: str, factor: str, preset: str) -> None:
    work = model.work(TINY, method, batch=8, ranks=1, pairs=3)
    assert work.state == bench_measure.state_bytes(trained(factor, preset))


def test_the_input_side_has_one_pass_and_no_output_messages() -> None:
    both, one = (model.work(vgg16(), m, batch=8, ranks=8) for m in ("dense", "input"))
    assert one.passes == model.first_pass(vgg16(), 8) < both.passes
    assert one.sent < both.sent
    assert one.state < both.state


def test_two_ranks_send_and_keep_what_the_model_says() -> None:
    """Real processes. The gradient, which DistributedDataParallel sends, is counted by the model
    alone.
    """
    first, second = scale_measure.on_ranks(2, 1, 4)
    network, steps = reference_cnn(), first["steps"]
    dense = ("dense", "owned", "input")
    starts = {method: sum(x.d_a**2 for x in network.layers) for method in dense}
    starts["lean"] = sum(x.d_a for x in network.layers)  # a diagonal
    for method, start in starts.items():
        work = model.work(network, method, batch=4, ranks=2)
        sent = work.sent - 4 * network.parameters
        assert first["methods"][method]["reduced"] == steps * sent + 4 * start
        assert work.state == max(rank["methods"][method]["state"] for rank in (first, second))
    sgd = model.work(network, "SGD", batch=4, ranks=2)
    assert (sgd.sent, sgd.state) == (4 * network.parameters, first["methods"]["SGD"]["state"])


def test_ranks_with_shards_keep_what_the_model_says() -> None:
    """Real processes."""
    rows = scale_measure.check_shards(steps=1, batch=4)
    assert [(row["ranks"], row["method"]) for row in rows] == [
        (1, "SGD"), (1, "dense"), (2, "SGD"), (2, "dense"),
    ]  # fmt: skip
    for row in rows:
        for part in ("weights", "gradients", "state"):
            assert row[part] == row[f"{part}_predicted"] > 0
    assert rows[2]["weights"] == rows[0]["weights"] / 2  # all layers have an even number of rows
    assert scale_show.shards_table(rows).row_count == len(rows)


def test_kfac_keeps_and_sends_matrices() -> None:
    training = scale_rank.runner("KFAC", 1, 4)
    training.step(lambda: 0.0)
    work = model.work(reference_cnn(), "KFAC", batch=4, ranks=8)
    assert work.state == bench_measure.state_bytes(training.opt)
    triangles = sum(
        len(np.tril_indices(n)[0]) for x in reference_cnn().layers for n in (x.d_a, x.d_g)
    )
    assert work.sent == 4 * (reference_cnn().parameters + triangles)
    rare = model.work(reference_cnn(), "KFAC", batch=4, ranks=8, interval=10)
    assert rare.sent == pytest.approx(4 * (reference_cnn().parameters + triangles / 10))
    assert rare.inverses == pytest.approx(work.inverses / 10)


def test_a_ring_takes_the_turns_and_bytes_of_the_formula() -> None:
    """A ring is run: every rank passes one chunk a turn; first sums travel, then results."""
    R = 5
    held = [np.random.default_rng(r).standard_normal(R) for r in range(R)]
    total, turns = np.sum(held, axis=0), 0
    for lap in (0, 1):
        for k in range(R - 1):
            moving = [(r, (r + lap - k) % R, held[r][(r + lap - k) % R]) for r in range(R)]
            for r, chunk, value in moving:
                held[(r + 1) % R][chunk] = value if lap else held[(r + 1) % R][chunk] + value
            turns += 1
    assert all(np.allclose(x, total) for x in held)
    size = 1e9  # long enough for a ring
    assert model.all_reduce(size, R, MACHINE) == pytest.approx(
        turns * (MACHINE.latency + size / R / MACHINE.link)
    )
    assert model.all_reduce(4, R, MACHINE) < turns * MACHINE.latency  # a short message doubles


@pytest.mark.parametrize("network", [*large()], ids=lambda n: n.name)
@pytest.mark.parametrize("method", model.METHODS)
def test_more_ranks_never_shorten_the_wire_nor_add_state(network: Network, method: str) -> None:
    works = {R: model.work(network, method, batch=8, ranks=R) for R in (1, 2, 8, 64, 1024)}
    wires = [model.wire_seconds(work, R, MACHINE) for R, work in works.items()]
    busy = [model.busy_seconds(work, R, MACHINE, 100) for R, work in works.items()]
    assert all(a <= b for a, b in pairwise(wires))
    assert all(a.state >= b.state for a, b in pairwise(works.values()))
    assert all(a >= b for a, b in pairwise(busy))
    assert (works[8].state < works[1].state) == (method == "owned")
    assert wires[0] == 0


def test_ownership_pays_one_message_and_lean_shrinks_the_state() -> None:
    dense, lean, owned = (
        model.work(vgg16(), m, batch=8, ranks=8) for m in ("dense", "lean", "owned")
    )
    assert owned.sent - dense.sent == owned.broadcast > 4 * vgg16().covered
    assert lean.state < owned.state < dense.state  # one layer cannot be divided
    assert owned.state > 4 * 25089**2


def test_ranks_take_turns_on_shared_cores() -> None:
    work, shared = model.work(TINY, "dense", batch=8, ranks=4), replace(MACHINE, cores=2)
    assert model.busy_seconds(work, 4, shared, 9) == 2 * model.busy_seconds(work, 4, MACHINE, 9)
    assert model.wire_seconds(work, 4, shared) == 2 * model.wire_seconds(work, 4, MACHINE)
    assert model.busy_seconds(work, 2, shared, 9) == model.busy_seconds(work, 2, MACHINE, 9)


def test_launches_hide_behind_computing_only_where_they_overlap() -> None:
    work = model.work(TINY, "SGD", batch=8, ranks=1)
    alone, waits = model.busy_seconds(work, 1, MACHINE, 0), replace(MACHINE, overlaps=False)
    assert model.busy_seconds(work, 1, MACHINE, 1e6) == pytest.approx(1e6 * MACHINE.launch)
    assert model.busy_seconds(work, 1, waits, 1e6) == pytest.approx(1e6 * MACHINE.launch + alone)


@pytest.mark.parametrize(
    ("change", "words_"),
    [
        ({"method": "Adam"}, "must be one of SGD"),
        *(({k: 0}, k) for k in ("batch", "ranks", "interval", "pairs")),
    ],
)
def test_the_model_refuses_what_it_cannot_count(change: dict[str, Any], words_: str) -> None:
    with pytest.raises(ValueError, match=words_):
        model.work(TINY, **{"method": "dense", "batch": 8, "ranks": 2, **change})


def test_the_check_puts_predictions_beside_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(world: int, steps: int, batch: int) -> list[dict[str, Any]]:
        seen = {"wall": 0.5, "processor": 0.25, "state": 7}
        methods = {m: seen | {"wall": 0.5 + r} for r in range(world) for m in ("SGD", "dense")}
        return [
            {"methods": methods, "collectives": {"bytes": [4.0, 404.0], "seconds": [0.1, 0.3]}}
        ] * world

    monkeypatch.setattr(scale_measure, "on_ranks", fake)
    found = scale_measure.check(steps=1, batch=2)
    assert (found["machine"]["latency"], found["machine"]["link"]) == (0.1, pytest.approx(2000))
    assert [(row["ranks"], row["method"]) for row in found["rows"]] == [
        (world, method) for world in (1, 2, 4) for method in ("SGD", "dense")
    ]
    for row in found["rows"]:
        assert row["wall_ratio"] == row["wall_predicted"] / row["wall_measured"]
        assert row["wall_measured"] == row["ranks"] - 0.5  # the slowest rank
        assert row["processor_predicted"] < row["wall_predicted"] or row["ranks"] == 1


def test_a_failing_rank_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_rank, "__name__", "kfqn_ref.no_such_module")
    with pytest.raises(RuntimeError, match="every rank must end well"):
        scale_measure.on_ranks(1, 1, 1)


def test_the_command_writes_tables_of_eighty_columns_json_and_a_plot(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from kfqn_ref.cli import app

    options = ["--no-measure", "--gpus", "8", "--gpus", "16", "--interval", "10"]
    result = CliRunner().invoke(
        app, ["scale", "--out", str(tmp_path), *options], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.split("written to")[0].splitlines())) <= 80
    assert "nothing ran on a GPU" in " ".join(result.output.split())
    found = json.loads((tmp_path / "scale.json").read_text())
    assert set(found["networks"]) == {n.name for n in large()}
    assert set(found["networks"]["VGG-16"]) == {"8", "16"}
    assert found["assumptions"] == vars(replace(Assumptions(), interval=10))
    assert found["dear_layers"]["VGG-16"][0]["d_a"] == 25089
    assert found["reference_cnn_sent"]["dense"] < found["reference_cnn_sent"]["KFAC"]
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--efficiency", "0"], "efficiency must be in (0, 1], got 0.0"),
        (["--efficiency", "1.5"], "efficiency must be in (0, 1], got 1.5"),
        (["--link", "nan"], "link must be positive and finite, got nan"),
        (["--peak", "inf"], "peak must be positive and finite, got inf"),
        (["--latency", "-1"], "latency must be positive and finite, got -1.0"),
        (["--gpus", "64", "--gpus", "8"], "the numbers of GPUs must increase, got [64, 8]"),
        (["--gpus", "0"], "Invalid value for '--gpus'"),
        (["--pairs", "0"], "Invalid value for '--pairs'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: list[str], said: str, tmp_path: Path) -> None:
    result = kfqn("scale", "--out", tmp_path / "out", "--no-measure", *options)
    assert result.exit_code == 2
    assert said in words(result)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("gpu", [False, True])
def test_operations_grow_by_the_layer(gpu: bool) -> None:
    """Counted on two networks; a third one is met."""
    counted = scale_measure.operations(gpu=gpu)
    for method in ("SGD", "KFAC", "dense", "lean", "input", "passes"):
        layers, operations = scale_measure._counted(method, 3, gpu)
        assert layers == 13
        assert operations == pytest.approx(model.dispatched(counted, method, layers))
    launched = _launched(counted, "dense", 10, 54)
    sgd, ours = (once + 54 * each for once, each in (counted["SGD"], counted["dense"]))
    assert launched == pytest.approx(0.9 * sgd + 0.1 * ours)
