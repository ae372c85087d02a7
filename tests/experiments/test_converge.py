"""``kfqn converge`` end to end on a small setting: files, exit codes, a mutant that breaks the
bound.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from kfqn_ref.experiments.converge.run import Setup, running_mean, slope
from kfqn_ref.theory.theorem import Rate

from ..command import kfqn, words

SMALL = ["--iterations", 25, "--seeds", 2, "--samples", 20, "--batch-size", 4, "--workers", 1]


def test_both_sides_are_written_and_the_bound_holds(tmp_path: Path) -> None:
    result = kfqn("converge", "--out", tmp_path, *SMALL, "--b", 0.6, "--b", 0.8)
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "converge.json").read_text())
    assert [(r["task"], r["b"]) for r in written["results"]] == [
        (task, b) for task in ("softmax", "tanh conv") for b in (0.6, 0.8)
    ]
    for r in written["results"]:
        assert all(left <= right for left, right in zip(r["mean"], r["bound"], strict=True))
        assert r["slack"]["least"] == pytest.approx(min(np.array(r["bound"]) / r["mean"]), rel=0.05)
        assert (
            r["slope"]["steps"]["lo"] <= r["slope"]["steps"]["value"] <= r["slope"]["steps"]["hi"]
        )
        assert r["kappa"][0] <= r["spectrum"][0] < r["spectrum"][1] <= r["kappa"][1]
    for name in ("converge.png", "damping.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    against_H_k, against_H_0 = written["damping"]["against H_k"], written["damping"]["against H_0"]
    assert against_H_k[-1] > 1e10 * against_H_0[-1]


def test_a_broken_bound_is_reported_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Rate.running_mean

    def inverted(self, N):
        return right(self, N) * (self.kappa.lo / self.kappa.hi) ** 2

    monkeypatch.setattr(Rate, "running_mean", inverted)
    result = kfqn("converge", "--out", tmp_path, *SMALL, "--b", 0.6)
    assert result.exit_code == 1
    assert "broken" in words(result)
    assert "the bound at N = 1" in words(result)
    assert any(r["broken"] for r in json.loads((tmp_path / "converge.json").read_text())["results"])


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--b", 0.5, "(AS.4"),
        ("--gamma", 0, "(AS.5"),
        ("--damping", -1, "(AS.5"),
        ("--memory", 0, "(AS.5"),
        ("--mu1", 1, "mu1 must be in (0, 1)"),
        ("--batch-size", 999, "(AS.2"),
        ("--seeds", 1, "seeds must be at least 2"),
    ],
)
def test_bad_values_are_refused_with_exit_code_2(
    tmp_path: Path, option: str, value: float, reason: str
) -> None:
    result = kfqn("converge", "--out", tmp_path / "new", option, value)
    assert result.exit_code == 2
    assert reason in words(result)
    assert not (tmp_path / "new").exists()


def test_slope_of_an_exact_power_is_its_exponent() -> None:
    means = np.arange(1, 101) ** -0.3 * np.array([[1.0], [2.0], [0.5]])
    found = slope(means)
    assert (found.value, found.lo, found.hi) == pytest.approx((-0.3, -0.3, -0.3))


def test_running_mean_of_a_constant_is_the_constant() -> None:
    np.testing.assert_array_equal(running_mean(np.full((2, 5), 3.0)), np.full((2, 5), 3.0))


def test_the_default_setting_is_covered_by_the_theorem() -> None:
    assert Setup().method(0.7).gamma == 0.5
