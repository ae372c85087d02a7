"""The training loop: an interrupted run, continued, is the uninterrupted one, bit for bit."""

import json
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kfqn_ref.experiments.data import digits
from kfqn_ref.experiments.train import run as training
from kfqn_ref.experiments.train.reference_engine import ReferenceEngine
from kfqn_ref.experiments.train.run import (
    CHECKPOINT,
    CURVES,
    METRICS,
    Diverged,
    Run,
    Stopped,
    epoch_batches,
)
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.files import CheckpointError, load
from kfqn_ref.method.presets import PRESETS

from .. import warm
from . import kills

DATA = digits().first(120)
SMALL = {"model": "mlp", "batch_size": 40, "epochs": 2}  # three steps an epoch
CASES = [
    *[("torch", name, {}) for name in (*PRESETS, "sgd", "adam")],
    ("torch", "kfqn_cnn_l", {"memory": 2, "model": "cnn", "dtype": "float64"}),
    ("torch", "kfqn_cnn", {"model": "autoencoder", "curvature_interval": 2}),
    *[("reference", name, {}) for name in ("kbfgs_l_2020", "kfqn_cnn", "kfac", "adam")],
]


@pytest.fixture(autouse=True)
def drawn_once(request, monkeypatch):
    """Draw no curves after every epoch, but in the test that looks at them."""
    if request.function is not test_a_record_says_what_was_measured:
        monkeypatch.setattr(training, "plot_run", lambda history, title, path: None)


def settings_of(engine: str, optimizer: str, options: dict) -> Settings:
    return Settings(engine=engine, optimizer=optimizer, **{**SMALL, **options})


def stop_after(steps: int):
    """A ``should_stop`` that says yes when asked for the ``steps``-th time."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) == steps


def numbers(run: Run) -> list[dict]:
    """The history without the time it took."""
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.position.history]


def flat(value, path=()):
    """All leaves of nested dicts and lists, by path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list | tuple):
            yield from flat(item, (*path, key))
        else:
            yield (*path, key), item


def assert_same_state(a: dict, b: dict) -> None:
    left, right = dict(flat(a)), dict(flat(b))
    assert left.keys() == right.keys()
    for path, value in left.items():
        same = (
            torch.equal(value, right[path])
            if isinstance(value, torch.Tensor)
            else value == right[path]
        )
        assert same, f"{path} differs"


@pytest.mark.parametrize(("engine", "optimizer", "options"), CASES)
def test_stopped_twice_and_resumed_equals_uninterrupted(tmp_path, engine, optimizer, options):
    settings = settings_of(engine, optimizer, options)
    whole = Run(settings, DATA, tmp_path / "whole")
    whole.train()
    for steps, resume in ((2, False), (1, True)):  # within the first epoch, and exactly at its end
        run = Run(settings, DATA, tmp_path / "parts", resume=resume)
        with pytest.raises(Stopped):
            run.train(should_stop=stop_after(steps))
    last = Run(settings, DATA, tmp_path / "parts", resume=True)
    assert (last.position.epoch, last.position.step) == (0, 3)
    last.train()
    assert numbers(last) == numbers(whole)
    assert_same_state(last.engine.state(), whole.engine.state())
    lines = (tmp_path / "parts" / METRICS).read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(last.position.history)


def test_more_epochs_continue_a_finished_run(tmp_path):
    settings = settings_of("torch", "kfqn_cnn", {})
    Run(settings_of("torch", "kfqn_cnn", {"epochs": 1}), DATA, tmp_path / "a").train()
    run = Run(settings, DATA, tmp_path / "a", resume=True)
    run.train()
    whole = Run(settings, DATA, tmp_path / "b")
    whole.train()
    assert numbers(run) == numbers(whole)


def test_an_epoch_is_a_function_of_seed_and_epoch(tmp_path):
    a, b = (
        Run(settings_of("torch", "sgd", {"seed": seed}), DATA, tmp_path / str(seed))
        for seed in (0, 1)
    )
    a.train()
    b.train()
    assert numbers(a)[0]["train_loss"] != numbers(b)[0]["train_loss"]


@given(st.integers(0, 3), st.integers(0, 5), st.integers(1, 60), st.data())
def test_batches_are_a_deterministic_partition(seed, epoch, size, data):
    batch_size = data.draw(st.integers(1, size))
    batches = epoch_batches(seed, epoch, size, batch_size)
    assert batches.shape == (size // batch_size, batch_size)
    assert max(Counter(batches.ravel().tolist()).values()) == 1
    assert set(batches.ravel()) <= set(range(size))
    np.testing.assert_array_equal(batches, epoch_batches(seed, epoch, size, batch_size))


def test_epochs_are_ordered_differently():
    orders = {
        epoch_batches(seed, epoch, 50, 50).tobytes() for seed in range(5) for epoch in range(5)
    }
    assert len(orders) == 25


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at most the 120 training images, got 121"):
        Run(settings_of("torch", "sgd", {"batch_size": 121}), DATA, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_record_says_what_was_measured(tmp_path):
    seen: list[dict] = []
    steps: list[int] = []
    run = Run(settings_of("torch", "kfqn_cnn", {}), DATA, tmp_path)
    run.train(on_epoch=seen.append, on_step=lambda done, loss: steps.append(done))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert seen == list(run.position.history)
    score = run.engine.evaluate(DATA.test)
    assert (seen[-1]["test_loss"], seen[-1]["test_error"]) == score
    assert seen[-1]["steps"] == 6
    assert (
        seen[-1]["pairs_damped"] + seen[-1]["pairs_skipped"] <= 2 * 3 * 6
    )  # two pairs, three layers, six steps
    assert (tmp_path / CURVES).read_bytes().startswith(b"\x89PNG")


def test_evaluation_in_chunks_equals_evaluation_at_once(tmp_path):
    data = digits().first(1103)  # two whole chunks and a rest
    run = Run(settings_of("reference", "sgd", {"batch_size": 100}), data, tmp_path)
    engine = run.engine
    assert isinstance(engine, ReferenceEngine)
    value = engine.network.value(engine.params, *data.train)
    outputs = engine.network.predict(engine.params, data.train.x)
    score = engine.evaluate(data.train)
    assert score.loss == pytest.approx(value, rel=1e-13)
    assert score.error == pytest.approx((outputs.argmax(1) != data.train.y).mean(), abs=1e-15)


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_divergence_is_reported_and_saved_as_json(tmp_path, engine):
    run = Run(settings_of(engine, "sgd", {"lr": 1e200, "dtype": "float64"}), DATA, tmp_path)
    with np.errstate(all="ignore"), pytest.raises(Diverged, match="not finite after epoch 1"):
        run.train()
    record = json.loads((tmp_path / METRICS).read_text())
    assert record["train_loss"] is None
    assert load(tmp_path / CHECKPOINT)["position"]["epoch"] == 1


def test_other_data_are_refused(tmp_path):
    settings = settings_of("torch", "sgd", {})
    Run(settings, DATA, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(CheckpointError, match="belongs to other data"):
        Run(settings, digits().first(121), tmp_path, resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize(("where", "count"), [("fsync", 5), ("rename", 4), ("epoch", 2)])
def test_killed_at_a_bad_moment_the_run_goes_on_as_if_nothing_had_been(tmp_path, where, count):
    code, told = warm.Process(kills.train_and_die, where, count, tmp_path / "killed").end()
    assert code == -signal.SIGKILL, told
    settings = Settings(model="mlp", batch_size=40, epochs=2, dtype="float64")
    assert load(tmp_path / "killed" / CHECKPOINT)["position"]["epoch"] < 2
    resumed = Run(settings, DATA, tmp_path / "killed", resume=True)
    resumed.train()
    whole = Run(settings, DATA, tmp_path / "whole")
    whole.train()
    assert numbers(resumed) == numbers(whole)
    assert_same_state(resumed.engine.state(), whole.engine.state())
    assert not [p for p in Path(tmp_path / "killed").iterdir() if p.suffix == ".part"]
