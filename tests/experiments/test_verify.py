"""``kfqn verify``: passes on the code as it is, and notices each mistake put into one of the two
sides.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch

import kfqn_ref.bfgs
import kfqn_ref.factors
import kfqn_ref.method.presets
import kfqn_ref.method.step
import kfqn_ref.optim.inverses
import kfqn_ref.optim.presets
import kfqn_ref.optim.update
from kfqn_ref.experiments.data import digits
from kfqn_ref.experiments.verify import side_by_side
from kfqn_ref.experiments.verify.command import finite
from kfqn_ref.experiments.verify.side_by_side import (
    DEVIATION,
    STEPS,
    broken_bounds,
    compare,
    one_roundoff,
)
from kfqn_ref.method.presets import PRESETS

from ..command import kfqn, words

TRAIN = digits().train
LEARNS_OUTPUT = {name for name, each in PRESETS.items() if each.options.output_inverse.learns}


def test_verify_passes_and_writes_what_it_measured(tmp_path):
    result = kfqn("verify", "--out", tmp_path / "new" / "folder")
    assert result.exit_code == 0, result.output
    assert "reference and torch agree" in result.output
    content = json.loads((tmp_path / "new" / "folder" / "verify.json").read_text())
    assert content["verdict"] == "agree"
    rows = {row["preset"]: row for row in content["presets"]}
    assert rows.keys() == PRESETS.keys()
    for name, row in rows.items():
        assert name in result.output
        for key in ("deviation_W", "deviation_H_a", "deviation_H_g"):
            assert len(row[key]) == STEPS
            assert max(row[key]) <= DEVIATION
            # exactly 0 would mean that one side was compared with itself
            assert max(row[key]) > 0 or (key == "deviation_H_g" and name not in LEARNS_OUTPUT)
        assert min(row["smallest_H_a"], row["smallest_H_g"]) > 0
        assert 0 < row["secant_over_bound"] <= 1
        assert (row["damped"] > 0) == (name in LEARNS_OUTPUT)
        assert row["updates"] > 0
        assert np.allclose(row["reference_loss"], row["torch_loss"], rtol=1e-9)
    assert set(content["baselines"]["CNN"]) == {"SGD", "Adam", "KFAC"}
    assert (tmp_path / "new" / "folder" / "verify.png").read_bytes().startswith(b"\x89PNG")


def never_updated(Hs, s, y, Hy, accept):  # "in place", but the arguments are rebound
    Hs = [H + 1.0 for H in Hs]
    return accept


def minus_in_powell(s, y, Hy, *, mu1):
    sy, yHy = torch.linalg.vecdot(s, y), torch.linalg.vecdot(y, Hy)
    theta = torch.where(sy >= mu1 * yHy, 1.0, (1 - mu1) * yHy / (yHy - sy))
    s.mul_(theta[:, None]).sub_(Hy * (1 - theta)[:, None])
    return theta


def swapped_average(mean, new, decay, accept):
    mean.copy_(torch.where(accept, (1 - decay) * mean + decay * new, mean))


def transposed_update(H, s, y):
    V = np.eye(s.size) - np.outer(s, y) / (s @ y)
    return V.T @ H @ V + np.outer(s, s) / (s @ y)


def halved_pair(first, second):
    pair = kfqn_ref.factors.output_pair(first, second)
    return type(pair)(pair.s, pair.y / 2)


MUTANTS = {
    "torch: H is never updated": (kfqn_ref.optim.inverses, "bfgs_inverse_update_", never_updated),
    "torch: minus in Powell's damping": (kfqn_ref.optim.presets, "powell_damp_", minus_in_powell),
    "torch: weights of the average swapped": (kfqn_ref.optim.update, "average_", swapped_average),
    "reference: transposed update": (kfqn_ref.bfgs, "bfgs_inverse_update", transposed_update),
    "reference: y halved": (kfqn_ref.method.step, "output_pair", halved_pair),
}  # fmt: skip  # one mutant a line


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_breaks_a_bound_by_far(name, monkeypatch):
    module, attribute, mutant = MUTANTS[name]
    assert hasattr(module, attribute)
    monkeypatch.setattr(module, attribute, mutant)
    with np.errstate(all="ignore"):
        comparison = compare("kfqn_cnn", TRAIN, steps=6)
    assert comparison.broken
    assert not comparison.deviation <= 1e3 * DEVIATION


def test_a_mutated_kernel_makes_the_command_exit_with_1(tmp_path, monkeypatch):
    monkeypatch.setattr(*MUTANTS["torch: H is never updated"])
    monkeypatch.setattr(side_by_side, "STEPS", 4)
    monkeypatch.setattr(kfqn_ref.method.presets, "PRESETS", {"kfqn_cnn": PRESETS["kfqn_cnn"]})
    result = kfqn("verify", "--out", tmp_path)
    assert result.exit_code == 1
    assert "broken kfqn_cnn: reference and torch differ by" in words(result)
    assert json.loads((tmp_path / "verify.json").read_text())["verdict"] == "broken"


def test_the_same_mistake_on_both_sides_breaks_the_secant_bound(monkeypatch):
    """Two implementations that agree may both be wrong: the secant equation is checked on its
    own.
    """
    monkeypatch.setattr(kfqn_ref.bfgs, "bfgs_inverse_update", lambda H, s, y: H.copy())
    monkeypatch.setattr(kfqn_ref.optim.inverses, "bfgs_inverse_update_", never_updated)
    comparison = compare("kfqn_cnn", TRAIN, steps=4)
    assert comparison.deviation <= DEVIATION
    assert [text for text in comparison.broken if "secant residual" in text]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"deviation_H_a": [np.nan]}, "differ by"),
        ({"deviation_W": [2 * DEVIATION]}, "differ by"),
        ({"rounding": DEVIATION}, "ill-conditioned"),
        ({"eigenvalues_positive": False}, "positive definite"),
        ({"secant_over_bound": np.nan}, "secant"),
        ({"secant_over_bound": 1.01}, "secant"),
        ({"updates": 0}, "no pair"),
        ({"events_agree": False}, "the same pairs"),
        ({"reference_loss": [1.0, np.nan]}, "did not fall"),
    ],
)
def test_each_bound_is_enforced_and_nan_is_no_pass(change, text):
    values: dict[str, Any] = {
        **dict.fromkeys(("deviation_W", "deviation_H_a", "deviation_H_g"), [0.0]),
        **dict.fromkeys(("rounding", "secant", "secant_over_bound"), 0.0),
        **dict.fromkeys(("smallest_H_a", "smallest_H_g", "damped", "skipped", "updates"), 1),
        **dict.fromkeys(("reference_loss", "torch_loss"), [2.0, 1.0]),
        "eigenvalues_positive": True,
        "events_agree": True,
        "preset": "x",
    }
    good = side_by_side.Comparison(**values)
    assert broken_bounds(good, 30) == []
    broken = broken_bounds(side_by_side.Comparison(**{**asdict(good), **change}), 30)
    assert len(broken) == 1
    assert text in broken[0]


def test_positive_definite_needs_more_than_rounding():
    H = np.diag([1.0, 1.0, 0.0])
    assert not side_by_side.positive_definite(H)
    H[2, 2] = 1e-16
    assert not side_by_side.positive_definite(H)
    H[2, 2] = 1e-14
    assert side_by_side.positive_definite(H)
    assert not side_by_side.positive_definite(np.full((2, 2), np.nan))


def test_a_nan_in_any_block_is_seen():
    blocks = [np.eye(2), np.full((2, 2), np.nan), np.eye(2)]
    good = side_by_side.Snapshot([np.eye(2)] * 3, [np.eye(2)] * 3, [np.eye(2)] * 3, 1.0, 0, 0, 1)
    bad = side_by_side.Snapshot([np.eye(2)] * 3, blocks, [np.eye(2)] * 3, 1.0, 0, 0, 1)
    assert np.isnan(side_by_side.deviations(good, bad)[1])
    assert np.isnan(side_by_side.smallest(blocks))


def test_one_roundoff_changes_every_weight_by_one_neighbour():
    (W,) = one_roundoff((np.random.default_rng(0).standard_normal((4, 5)),))
    original = np.random.default_rng(0).standard_normal((4, 5))
    assert (W != original).all()
    assert ((np.nextafter(W, original)) == original).all()


def test_json_has_null_for_what_is_not_finite():
    assert finite({"a": [1.0, np.nan], "b": (np.inf, 2), "c": "x"}) == {
        "a": [1.0, None],
        "b": [None, 2],
        "c": "x",
    }


def test_wrong_use_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert kfqn("verify", "--out", tmp_path / "file").exit_code == 2
    assert kfqn("verify", "--out", tmp_path / "file" / "below").exit_code == 2
    assert kfqn("verify", "--steps", "3").exit_code == 2
    assert (tmp_path / "file").read_text() == "mine"
