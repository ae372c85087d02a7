"""Running checks: outcomes, shrinking, conversion at the boundary, arguments that come back
changed.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import kfqn_ref as ref
from kfqn_ref.testing import (
    Effort,
    Implementation,
    Report,
    UnusableImplementation,
    Violation,
    all_checks,
    run_check,
    run_checks,
)
from kfqn_ref.testing.implementation import UNCHANGED, load, outward
from kfqn_ref.testing.law import REGISTRY, Check, at_most, equal, holds, law
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.strategies.kernels import triples

FAST = Effort(30)


def _source(tmp_path: Any, text: str, name: str = "student.py") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


LM = "def lm_damp(s, y, *, lam):\n    return y + lam * s\n"


def test_what_is_missing_is_not_provided() -> None:
    report = run_checks({"lm_damp": ref.lm_damp}, effort=FAST)
    assert report.ok
    outcomes = {result.check.name: result.outcome for result in report.results}
    assert {name for name, outcome in outcomes.items() if outcome == "passed"} == {
        "arguments.lm_damp",
        "calls.lm_damp",
        "damping.lm_formula",
        "damping.lm_narrow",
        "layout.lm_damp",
        "state.lm_damp",
    }
    assert set(outcomes.values()) == {"passed", "not provided"}


def test_a_module_an_object_a_class_and_a_file_are_implementations(tmp_path: Any) -> None:
    class Student:
        lm_damp = staticmethod(ref.lm_damp)

    for target in (
        ref,
        SimpleNamespace(lm_damp=ref.lm_damp),
        Student,
        Student(),
        _source(tmp_path, LM),
    ):
        checks = [REGISTRY["damping.lm_formula"]]
        assert run_checks(target, checks, effort=FAST).counts()["passed"] == 1


def test_a_module_and_object_by_name() -> None:
    assert load("kfqn_ref.damping").provides(["powell_damp"])
    assert load("kfqn_ref.testing.adapters.torch_lbfgs:TorchLBFGS").provides(["lbfgs_two_loop"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "defines none"),
        ("lm_damp = 3", "defines none"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Any, text: str, message: str) -> None:
    with pytest.raises(UnusableImplementation, match=message):
        load(_source(tmp_path, text))


@pytest.mark.parametrize("target", ["/nowhere/x.py", "no_such_module", "kfqn_ref:no_such_object"])
def test_a_target_that_is_not_there_says_so(target: str) -> None:
    with pytest.raises(UnusableImplementation, match="cannot be loaded"):
        load(target)


def test_the_counterexample_is_the_smallest() -> None:
    result = run_check(
        REGISTRY["bfgs.secant"],
        MUTANTS["bfgs_inverse_update:rebinds"].implementation(),
        Effort(100),
    )
    assert result.failure is not None
    assert result.failure.counterexample == {"H": "[1]", "s": "[0.25]", "y": "[0.5]"}
    assert (result.failure.lhs, result.failure.rhs) == ("[0.5]", "[0.25]")
    assert result.failure.size == 0.25
    assert 0 < result.failure.tolerance < 1e-12


def test_the_same_examples_every_time_unless_seeded() -> None:
    seen: list[list[bytes]] = []
    for seed in (None, None, 1, 2):
        drawn: list[bytes] = []

        def record(s: Any, y: Any, *, lam: float, drawn: list[bytes] = drawn) -> Any:
            drawn.append(s.tobytes() + y.tobytes())
            return y + lam * s

        run_check(REGISTRY["damping.lm_formula"], load({"lm_damp": record}), Effort(30, seed))
        seen.append(drawn)
    assert seen[0] == seen[1]
    assert seen[2] != seen[3]


def test_an_exception_on_valid_input_is_a_failure_with_its_place() -> None:
    def lm_damp(s: Any, y: Any, *, lam: float) -> Any:
        raise KeyError("lost")

    result = run_check(REGISTRY["damping.lm_formula"], load({"lm_damp": lm_damp}), FAST)
    assert result.failure is not None
    assert result.failure.lhs.startswith("KeyError: 'lost' (lm_damp, line")


def test_a_mistake_of_the_suite_itself_is_not_blamed_on_the_implementation() -> None:
    def given(precision: Any) -> Any:
        raise RuntimeError("a broken strategy")

    check = Check("x.y", "", "", "bfgs", ("lm_damp",), given, lambda f: None)
    with pytest.raises(RuntimeError, match="a broken strategy"):
        run_check(check, load({"lm_damp": ref.lm_damp}), FAST)


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two checks are named bfgs\.secant"):
        law("", "", chapter="bfgs", requires="", given=triples)(REGISTRY["bfgs.secant"].statement)


def test_writing_into_an_argument_is_its_own_violation() -> None:
    def lm_damp(s: Any, y: Any, *, lam: float) -> Any:
        y += 1
        return y - 1 + lam * s

    for native in (None, torch.tensor):
        result = run_check(
            REGISTRY["damping.lm_formula"],
            Implementation({"lm_damp": lm_damp}, to_native=native),
            FAST,
        )
        assert result.failure is not None
        assert result.failure.law == UNCHANGED


def test_lists_that_were_changed_are_noticed() -> None:
    def lm_damp(s: Any, y: Any, *, lam: float) -> Any:
        result = [b + lam * a for a, b in zip(s, y, strict=True)]
        y[0] += 1
        return result

    implementation = Implementation({"lm_damp": lm_damp}, to_native=lambda X: X.tolist())
    assert run_check(REGISTRY["arguments.lm_damp"], implementation, FAST).outcome == "failed"


def test_results_come_back_as_float64_arrays() -> None:
    for value in ([1, 2.5], torch.tensor([1.0, 2.5]), np.array([1, 2.5], dtype=np.float32)):
        assert outward(value).dtype == np.float64
        assert outward(value).tolist() == [1, 2.5]
    pair = outward(ref.Pair(torch.ones(1), [2.0]))
    assert isinstance(pair, ref.Pair)
    assert pair.y.tolist() == [2.0]


@pytest.mark.parametrize("bad", [np.nan, [np.nan, 1.0], np.inf])
def test_nan_equals_nothing(bad: Any) -> None:
    with pytest.raises(Violation):
        equal("a", bad, "b", bad, 1.0)
    with pytest.raises(Violation):
        at_most("a", np.nan, "b", 1.0, 1.0)


def test_shapes_are_compared() -> None:
    with pytest.raises(Violation, match=r"a of shape \(1, 2\)"):
        equal("a", [[1.0, 2.0]], "b", [1.0, 2.0], 1.0)
    with pytest.raises(Violation):
        holds("a", 1, "b", 2)


def test_errors_are_off_by_default() -> None:
    assert not [check for check in all_checks() if check.group == "errors"]
    plain, full = run_checks({"lm_damp": lambda s, y, *, lam: y + lam * s}, effort=FAST), None
    full = run_checks({"lm_damp": lambda s, y, *, lam: y + lam * s}, errors=True, effort=FAST)
    assert plain.ok
    assert [result.check.name for result in full.failed] == ["errors.lm_lambda"]


def test_progress_is_told_of_each_result() -> None:
    names: list[str] = []
    report = run_checks(
        {"lm_damp": ref.lm_damp}, effort=FAST, progress=lambda r: names.append(r.check.name)
    )
    assert isinstance(report, Report)
    assert names == [check.name for check in all_checks()]


def test_shapes_are_checked_where_the_file_calls_and_not_where_the_law_does() -> None:
    seen: list[str] = []

    def given(precision: Any) -> Any:
        return st.just({"s": np.ones(2), "y": np.ones(2)})

    def statement(f: Any, s: np.ndarray, y: np.ndarray) -> None:
        ref.bfgs_inverse_update(np.eye(2), s.astype(int), y)  # refused where kinds are checked
        f.lm_damp(s, y, lam=1.0)

    def lm_damp(s: Any, y: Any, *, lam: float) -> Any:
        with pytest.raises(TypeError):
            ref.bfgs_inverse_update(np.eye(2), s.astype(int), y)
        seen.append("refused")
        return y + lam * s

    check = Check("x.shapes", "", "", "bfgs", ("lm_damp",), given, statement)
    assert run_check(check, load({"lm_damp": lm_damp}), Effort(1)).outcome == "passed"
    assert set(seen) == {"refused"}
    with pytest.raises(TypeError):
        ref.bfgs_inverse_update(np.eye(2), np.ones(2, dtype=int), np.ones(2))
