"""``kfqn train`` as a user meets it: files, messages, exit codes, Ctrl-C."""

import errno
import json
import os
import signal
import threading
import time

import pytest
import torch

from kfqn_ref.experiments.train.command import line
from kfqn_ref.files import load

from .. import warm
from ..command import kfqn, words
from .idx_files import small_files

SHORT = ["--model", "mlp", "--train-size", "100", "--batch-size", "50"]


def test_a_run_writes_its_files_and_goes_on_with_the_options_it_had(tmp_path):
    out = tmp_path / "run"
    result = kfqn(
        "train", "--out", out, *SHORT, "--epochs", 1, "--optimizer", "kbfgs_2020", "--lr", 0.2
    )
    assert result.exit_code == 0, result.output
    assert "epoch   1  train loss" in result.output
    assert sorted(p.name for p in out.iterdir()) == ["checkpoint.pt", "curves.png", "metrics.jsonl"]
    result = kfqn("train", "--out", out, "--resume", "--epochs", 2)
    assert result.exit_code == 0, result.output
    records = [json.loads(text) for text in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    settings = load(out / "checkpoint.pt")["settings"]
    assert (settings["optimizer"], settings["lr"], settings["epochs"]) == ("kbfgs_2020", 0.2, 2)
    result = kfqn("train", "--out", out, "--resume")
    assert result.exit_code == 0
    assert "epoch " not in result.output
    assert result.stdout.startswith("2 epochs in")


def test_results_are_never_overwritten(tmp_path):
    assert kfqn("train", "--out", tmp_path, *SHORT, "--epochs", 1).exit_code == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    result = kfqn("train", "--out", tmp_path, *SHORT, "--epochs", 1)
    assert result.exit_code == 2
    assert "holds a run already" in result.output
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


FASHION = ["--data", "fashion-mnist"]
WRONG = {
    "no --out": (["--epochs", "1"], "Missing option '--out'"),
    "optimizer": (["--optimizer", "newton"], "must be one of"),
    "data": (["--data", "cifar"], "'digits'"),
    "model": (["--model", "vit"], "'autoencoder'"),
    "engine": (["--engine", "jax"], "'reference'"),
    "epochs": (["--epochs", "0"], "epochs must be at least 1, got 0"),
    "epochs in words": (["--epochs", "many"], "'--epochs'"),
    "batch": (["--batch-size", "2000"], "at most the 1500 training images, got 2000"),
    "train size": (["--train-size", "1501"], "1..1500, got 1501"),
    "lr": (["--lr=-1"], "lr must not be negative"),
    "lr nan": (["--lr", "nan"], "lr must be finite"),
    "damping": (["--damping", "0"], "damping must be"),
    "damping of sgd": (["--optimizer", "sgd", "--damping", "0.1"], "sgd takes lr"),
    "momentum": (["--momentum", "1"], "momentum must be in [0, 1)"),
    "memory": (["--memory", "0"], "memory must be"),
    "interval": (["--curvature-interval", "0"], "curvature_interval must be"),
    "convolutions in 2020": (["--optimizer", "kbfgs_2020", "--model", "cnn"], "linear"),
    "data folder": ([*FASHION, "--data-dir", "no/such"], "no/such does not exist; to get"),
    "digits in a folder": (["--data-dir", "somewhere"], "need no folder"),
    "nothing to resume": (["--resume"], "there is no checkpoint"),
    "unknown option": (["--speed", "9"], "No such option: --speed"),
}  # fmt: skip  # one case a line


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_explained_and_writes_nothing(tmp_path, case):
    arguments, expected = WRONG[case]
    out = [] if case == "no --out" else ["--out", str(tmp_path / "run")]
    result = kfqn("train", *out, *arguments)
    assert result.exit_code == 2, result.output
    assert expected in words(result)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_refuses_another_option_and_a_damaged_checkpoint(tmp_path):
    assert kfqn("train", "--out", tmp_path, *SHORT, "--epochs", 1).exit_code == 0
    result = kfqn("train", "--out", tmp_path, "--resume", "--lr", 0.7)
    assert result.exit_code == 2
    assert "has lr = None, got 0.7" in result.output
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[:100])
    result = kfqn("train", "--out", tmp_path, "--resume")
    assert result.exit_code == 2
    assert "not a readable checkpoint" in result.output


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert kfqn("train", "--out", tmp_path / "file").exit_code == 2
    assert kfqn("train", "--out", tmp_path / "file" / "below", *SHORT).exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_where_it_was(tmp_path, monkeypatch):
    """The disk is full when the second epoch is saved; with room, the run goes on."""
    assert kfqn("train", "--out", tmp_path / "whole", *SHORT, "--epochs", 2).exit_code == 0
    out = tmp_path / "run"
    assert kfqn("train", "--out", out, *SHORT, "--epochs", 1).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    written = []

    def full(number: int) -> None:
        written.append(number)
        if len(written) > 4:  # checkpoint, metrics and their folder, when the run begins
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = kfqn("train", "--out", out, "--resume", "--epochs", 2)
    monkeypatch.undo()
    assert result.exit_code == 2, result.output
    assert "checkpoint.pt cannot be written: No space left on device; the files" in words(result)
    assert {path.name: path.read_bytes() for path in out.iterdir()}.keys() == before.keys()
    assert kfqn("train", "--out", out, "--resume", "--epochs", 2).exit_code == 0
    lines = [
        (place / "metrics.jsonl").read_text().splitlines() for place in (out, tmp_path / "whole")
    ]
    losses = [[json.loads(text)["train_loss"] for text in each] for each in lines]
    assert losses[0] == losses[1]


def test_divergence_is_exit_code_1_with_advice(tmp_path):
    options = ("--optimizer", "sgd", "--lr", "1e30", "--epochs", 3)
    result = kfqn("train", "--out", tmp_path, *SHORT, *options)
    assert result.exit_code == 1
    assert "not finite after epoch 1: lower --lr" in result.output


def test_ctrl_c_stops_after_the_step_saves_and_resumes(tmp_path):
    out = ("--out", str(tmp_path))
    process = warm.Process(warm.command, "train", *out, *SHORT, "--epochs", "100000")
    # the suite must not hang if the signal is lost
    killer = threading.Timer(240, process.send, [signal.SIGKILL])
    killer.start()
    while not (tmp_path / "curves.png").exists() and process.process.is_alive():
        time.sleep(0.02)
    process.send(signal.SIGINT)
    code, output = process.end()
    killer.cancel()
    assert code == 130, output
    assert "stopped and saved after step" in output
    position = load(tmp_path / "checkpoint.pt")["position"]
    assert position["epoch"] >= 1
    more = position["epoch"] + 1
    result = kfqn("train", "--out", tmp_path, "--resume", "--epochs", more)
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == more


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    """SIGKILL after an epoch is announced: in its last writes, or in the next epoch."""
    options = ("--model", "mlp", "--train-size", "300", "--batch-size", "50", "--epochs", "12")
    killed = tmp_path / "killed"
    for death in range(3):
        resume = ["--resume"] if (killed / "checkpoint.pt").exists() else options
        process = warm.Process(warm.command, "train", "--out", str(killed), *resume)
        printed = iter(process.output.readline, "")
        assert any(text.startswith("epoch") for text in printed), death
        time.sleep(0.004 * death)
        process.send(signal.SIGKILL)
        code, _ = process.end()
        assert code == -signal.SIGKILL
    assert kfqn("train", "--out", killed, "--resume").exit_code == 0
    assert kfqn("train", "--out", tmp_path / "whole", *options).exit_code == 0
    runs = [load(tmp_path / name / "checkpoint.pt") for name in ("killed", "whole")]
    assert equal(*runs)
    lines = [
        (tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("killed", "whole")
    ]
    told, expected = ([{**json.loads(text), "seconds": 0} for text in run] for run in lines)
    assert told == expected


def equal(a, b):
    """Whether two checkpoints are the same bit for bit, the clock aside."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_line_is_printed_for_what_is_known():
    record = {"epoch": 3, "train_loss": None, "test_loss": 1.25, "test_error": None, "seconds": 2.0}
    assert line(record) == "epoch   3  train loss not finite  test loss 1.2500  2.0 s"


def test_fashion_mnist_from_a_folder(tmp_path):
    small_files(tmp_path / "data", sizes=(40, 20))
    options = (
        "--data",
        "fashion-mnist",
        "--data-dir",
        tmp_path / "data",
        "--batch-size",
        20,
        "--epochs",
        1,
    )
    result = kfqn("train", "--out", tmp_path / "run", "--model", "mlp", *options)
    assert result.exit_code == 0, result.output
