"""Cases in bulk: of every kind, as often as under hypothesis; a broken law is found and made
small.
"""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import strategies as st
from typer.testing import CliRunner

from kfqn_ref.testing import Effort, run_check, thorough
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.bulk import Draws, cases
from kfqn_ref.testing.checks.bfgs import product_form
from kfqn_ref.testing.checks.damping import powell_theta
from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import REGISTRY, Violation
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.strategies.kernels import damping_cases, identity_cases, lbfgs_cases, triples
from kfqn_ref.testing.strategies.networks import PRESETS, runs
from kfqn_ref.testing.tolerances import FLOAT64

sys.path.insert(0, str(Path(__file__).parent))
from alternatives import ALTERNATIVES  # a neighbour of this file, which is not a package


def drawn(strategy: Any, size: int = 400) -> list[Any]:
    return list(islice(cases(strategy, seed=0), size))


def share(holds: list[bool]) -> float:
    return sum(holds) / len(holds)


def test_kinds_of_cases_are_as_frequent_as_under_hypothesis() -> None:
    """The bounds are those of test_strategies."""
    updates = drawn(triples(FLOAT64))
    conds = [tol.cond(case["H"]) for case in updates]
    assert 0.08 < share([len(case["s"]) == 1 for case in updates]) < 0.45
    assert share([c > 1e4 for c in conds]) > 0.03
    assert share([c < 10 for c in conds]) > 0.2
    assert share([np.linalg.norm(case["s"]) < 1e-2 for case in updates]) > 0.05
    assert share([np.linalg.norm(case["s"]) > 1e2 for case in updates]) > 0.05
    damped = drawn(damping_cases(FLOAT64))
    assert 0.25 < share([powell_theta(c["H"], c["s"], c["y"], c["mu1"]) < 1 for c in damped]) < 0.75
    assert share([c["s"] @ c["y"] < 0 for c in damped]) > 0.15
    identity = drawn(identity_cases(FLOAT64))
    assert 0.25 < share([c["s"] @ c["y"] < c["mu2"] * (c["s"] @ c["s"]) for c in identity]) < 0.75
    sizes = [len(case["S"]) for case in drawn(lbfgs_cases(FLOAT64))]
    assert min(share([size == m for size in sizes]) for m in range(5)) > 0.08
    presets = [case["options"]["preset"] for case in drawn(runs(FLOAT64), 200)]
    assert min(share([name == preset for name in presets]) for preset in PRESETS) > 0.05


def test_integers_reach_their_bounds() -> None:
    few = drawn(st.integers(1, 5))
    assert set(few) == {1, 2, 3, 4, 5}
    wide = drawn(
        st.integers(0, 2**16)
    )  # hypothesis weighs both bounds with 2/128, their neighbours with 1/128
    assert {0, 2**16} <= set(wide)
    assert share([0 < k < 2**16 for k in wide]) > 0.9


def test_booleans_follow_their_probability() -> None:
    draws = Draws(np.random.default_rng(0))
    assert 0.15 < share([draws.draw_boolean(0.25) for _ in range(1000)]) < 0.35


def test_filters_hold_and_seeds_repeat() -> None:
    odd = st.integers(0, 9).filter(lambda k: k % 2)
    assert set(drawn(odd)) == {1, 3, 5, 7, 9}
    assert drawn(odd) == drawn(odd)
    assert list(islice(cases(odd, seed=1), 20)) != drawn(odd, 20)


def test_the_determinant_asks_nothing_of_an_update_that_rounds_to_a_singular_matrix() -> None:
    """Found by the thorough run: ‖s‖²/sᵀy is 10¹⁷ times ‖H‖, and the check inverted the product
    form.
    """
    H = np.array([[1e-8, -1e-8], [-1e-8, 1.1e-8]])
    s, y = np.array([1e6, 1.25e6]), np.array([0.00175, -0.00075])
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.inv(product_form(H, s, y))
    REGISTRY["bfgs.determinant"](load(thorough.REFERENCE), {"H": H, "s": s, "y": y})


@pytest.mark.parametrize(
    ("law", "alternative", "case"),
    [
        ("idempotence", "cholesky_updated", {"H": [[1e-8, -1e-8], [-1e-8, 1.1e-8]],
                                             "s": [1e6, 1.25e6], "y": [0.00175, -0.00075]}),
        ("scale", "through_B", {"H": [[1e-5, -5e-6, 5e-6], [-5e-6, 1.025e-4, -2.5e-6],
                                      [5e-6, -2.5e-6, 1.25e-5]],
                                "s": [1.25e6, -1.75e6, -1.25e6], "y": [2.5e-7, 0, 0], "c": 1000}),
    ],
)  # fmt: skip  # a case is read as a whole
def test_an_alternative_may_refuse_to_factorise_what_is_singular_to_working_precision(
    law: str, alternative: str, case: dict[str, Any]
) -> None:
    """Found by 10,000 cases: H⁺ has no Cholesky factor, or B⁺ no inverse, in float64."""
    case = {name: np.array(value, dtype=float) for name, value in case.items()}
    correct = load(ALTERNATIVES["bfgs_inverse_update"][alternative])
    REGISTRY[f"bfgs.{law}"](correct, case)
    wrong = load({"bfgs_inverse_update": lambda H, s, y: np.nan * H})
    with pytest.raises(Violation):  # what is returned is judged, there too
        REGISTRY[f"bfgs.{law}"](wrong, case)
    assert tol.singular(FLOAT64.u, product_form(case["H"], case["s"], case["y"]))


@pytest.mark.parametrize("law", ["idempotence", "scale"])
def test_who_refuses_what_can_be_factorised_breaks_the_law(law: str) -> None:
    def refuses(H: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
        raise np.linalg.LinAlgError("Singular matrix")

    case = {"H": np.eye(2), "s": np.ones(2), "y": np.ones(2)} | (
        {"c": 10.0} if law == "scale" else {}
    )
    with pytest.raises(np.linalg.LinAlgError):
        REGISTRY[f"bfgs.{law}"](load({"bfgs_inverse_update": refuses}), case)


def test_a_broken_law_is_made_small() -> None:
    wrong = MUTANTS["powell_damp:sign"].implementation()
    result = thorough.tally(REGISTRY["damping.powell_formula"], wrong, 1000, seed=0)
    assert result.outcome == "failed"
    assert result.failure is not None
    assert result.failure.counterexample["H"] == "[1]"


def test_the_report_is_resumed_law_by_law(tmp_path: Path) -> None:
    def run(examples: int) -> dict[str, Any]:
        asked = ["--out", str(tmp_path), "--examples", str(examples), "--only", "kron.cvec"]
        done = CliRunner().invoke(_app(), asked)
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "thorough.json").read_text(encoding="utf-8"))["laws"]

    first = run(20)
    assert {name: row["examples"] for name, row in first.items()} == {
        "kron.cvec_order": 20,
        "kron.cvec_back": 20,
    }
    assert run(10) == first
    assert {row["examples"] for row in run(30).values()} == {30}
    assert "| kron.cvec_back | 30 |" in (tmp_path / "thorough.md").read_text(encoding="utf-8")


def _app() -> Any:
    app = typer.Typer()
    app.command()(thorough.command)
    return app


@pytest.mark.parametrize("given", [triples, lbfgs_cases, damping_cases])
def test_the_short_way_draws_what_hypothesis_draws(
    given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = drawn(given(FLOAT64), 20)
    monkeypatch.setattr(Draws, "draw", lambda self, strategy, *_, **__: strategy.do_draw(self))
    for one, other in zip(short, drawn(given(FLOAT64), 20), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_laws_of_one_strategy_share_their_random_cases() -> None:
    efforts = Effort(5, seed=3)
    seen: dict[str, list[bytes]] = {}
    for name in ("bfgs.secant", "bfgs.symmetry"):
        found = seen.setdefault(name, [])

        def record(H: Any, s: Any, y: Any, found: list[bytes] = found) -> Any:
            found.append(H.tobytes() + s.tobytes() + y.tobytes())
            return product_form(H, s, y)

        assert (
            run_check(REGISTRY[name], load({"bfgs_inverse_update": record}), efforts).examples > 5
        )
    assert seen["bfgs.secant"][-5:] == seen["bfgs.symmetry"][-5:]
