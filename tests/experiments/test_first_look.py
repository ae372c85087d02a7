"""``kfqn first-look``: the table and the files say what was run; the best of a grid is the best."""

import json
import math

from kfqn_ref.experiments.first_look.command import GRID, OURS, Trial, best

from ..command import kfqn, words


def test_a_small_look_reports_every_trial(tmp_path):
    options = ("--data", "digits", "--train-size", 100, "--batch-size", 50, "--epochs", 2)
    result = kfqn("first-look", "--out", tmp_path, *options)
    content = json.loads((tmp_path / "first_look.json").read_text())
    tried = {(trial["optimizer"], trial["lr"]) for trial in content["trials"]}
    assert tried == {
        ("kfqn_cnn", OURS["lr"]),
        *((name, lr) for name, grid in GRID.items() for lr in grid),
    }
    last = {t["optimizer"]: t["train_loss"][-1] for t in content["trials"] if t["chosen"]}
    for trial in content["trials"]:
        assert len(trial["train_loss"]) == 3
        assert (
            trial["train_loss"][0] == content["trials"][0]["train_loss"][0]
        )  # the same initial weights
        assert trial["train_loss"][-1] >= last[trial["optimizer"]]
    below = last["kfqn_cnn"] < min(last["sgd"], last["adam"])
    assert result.exit_code == (0 if below else 1)
    assert ("not below both" in words(result)) != below
    assert f"kfqn_cnn {last['kfqn_cnn']:.3f}" in result.output
    assert (tmp_path / "first_look.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_of_a_grid_is_the_lowest_finite_last_loss():
    trials = [
        Trial("sgd", 0.1, (2.0, 0.1, 1.0), ()),
        Trial("sgd", 0.2, (2.0, 1.0, 0.5), ()),
        Trial("sgd", 0.3, (2.0, 1.0, math.nan), ()),
        Trial("adam", 0.1, (2.0, 1.0, math.nan), ()),
    ]
    assert best(trials) == [trials[1], trials[3]]
    assert best(trials[::-1]) == [trials[3], trials[1]]


def test_wrong_use_is_refused(tmp_path):
    for options, text in (
        (("--data", "digits", "--train-size", 1501), "1..1500, got 1501"),
        (
            ("--data", "digits", "--train-size", 10, "--batch-size", 11),
            "at most the 10 training images, got 11",
        ),
        (("--data", "fashion-mnist", "--data-dir", tmp_path), "has none of the files"),
        (("--epochs", 0), "epochs must be at least 1"),
        (("--data", "cifar"), "'digits'"),
    ):
        result = kfqn("first-look", "--out", tmp_path / "out", *options)
        assert result.exit_code == 2
        assert text in words(result)
        assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine")
    below = tmp_path / "file" / "below"
    result = kfqn(
        "first-look", "--data", "digits", "--train-size", 100, "--batch-size", 10, "--out", below
    )
    assert result.exit_code == 2
