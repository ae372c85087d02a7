"""The adapters: what the checks find in other people's implementations."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kfqn_ref as kf
from kfqn_ref.testing import Effort, run_checks
from kfqn_ref.testing.adapters.scipy_bfgs import ScipyBFGS
from kfqn_ref.testing.adapters.torch_lbfgs import TorchLBFGS
from kfqn_ref.testing.kill_matrix import diagnose
from kfqn_ref.testing.parametrize import parametrize_with_checks
from kfqn_ref.testing.peers import PEERS, short, table

FAST = Effort(50)
ZERO_STEP = "SciPy returns before damping where the step is zero"
SCIPY = {
    name: ZERO_STEP
    for name in (
        "damping.powell_formula",
        "damping.powell_curvature",
        "damping.powell_default",
        "damping.powell_covariant",
        "damping.powell_idempotent",
    )
}
# SciPy gives the damped step only as H⁺ y of its update
SCIPY |= dict.fromkeys(
    ("damping.powell_keeps", "damping.powell_scale", "damping.powell_narrow"),
    "the damped step is read from H⁺ y, with the rounding of the update",
)
needs_asdl = pytest.mark.skipif(
    importlib.util.find_spec("asdl") is None, reason="the extra `peers` is not installed"
)


@parametrize_with_checks(ScipyBFGS(), expected_failures=SCIPY, effort=Effort(100))
def test_scipy(check: Any) -> None:
    check()


@parametrize_with_checks(TorchLBFGS(), effort=FAST)
def test_torch_lbfgs(check: Any) -> None:
    check()


@needs_asdl
def test_both_defects_of_asdl_are_found() -> None:
    """It subtracts in Powell's damping, and its update works on a symmetrised copy, so that H never
    changes.
    """
    from kfqn_ref.testing.adapters.asdl import ASDL

    report = diagnose(run_checks(ASDL(), effort=FAST))
    failures = {result.check.name: result.failure for result in report.failed}
    assert {"bfgs.secant", "bfgs.formula", "damping.dp_dlm_composition"} <= set(failures)
    assert any("H never changes" in guess for guess in failures["bfgs.secant"].looks_like)
    assert any(
        "sign in Powell's damping" in guess
        for guess in failures["damping.dp_dlm_composition"].looks_like
    )
    H, s, y = np.eye(2), np.array([2.0, 0.0]), np.array([1.0, 0.0])
    adapter = ASDL()
    unchanged = adapter.bfgs_inverse_update(*map(adapter.to_native, (H, s, y)))
    assert np.array_equal(unchanged.numpy(), H)


def test_the_table_shows_every_report_and_every_broken_law() -> None:
    report = run_checks({"lm_damp": lambda s, y, *, lam: y - lam * s}, effort=FAST)
    text = table({"student": report}, 50)
    counts = report.counts()
    assert f"| student | {counts['passed']} | {counts['failed']} |" in text
    assert {result.check.name for result in report.failed} == {
        "damping.lm_formula",
        "damping.lm_narrow",
    }
    assert "**damping.lm_formula**" in text


def test_a_short_report_writes_out_the_broken_laws_only() -> None:
    functions = {"lm_damp": lambda s, y, *, lam: y - lam * s, "powell_theta": kf.powell_theta}
    report = run_checks(functions, effort=FAST)
    entries = json.loads(short(report.to_json()))["results"]
    written = {entry["outcome"] for entry in entries if "law" in entry}
    assert written == {"failed"}
    assert {entry["outcome"] for entry in entries} == {"passed", "failed", "not provided"}


def test_the_committed_reports_are_of_these_adapters() -> None:
    folder = Path(__file__).parents[2] / "book/data/conformance"
    assert {path.stem for path in folder.glob("*.json")} == set(PEERS)
