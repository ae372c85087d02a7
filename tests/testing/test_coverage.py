"""Every law visits every pair of classes of its axes; a failure says in which classes it lives."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from kfqn_ref.testing import Effort, all_checks, run_check
from kfqn_ref.testing.coverage import axes_of, covering, largest_size, rows
from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.strategies.axes import AXES
from kfqn_ref.testing.strategies.kernels import REST
from kfqn_ref.testing.tolerances import FLOAT64

LAWS = [check.name for check in all_checks() if check.group == "laws"]


def update(H: Any, s: Any, y: Any) -> Any:
    rho = 1 / (s @ y)
    V = np.eye(len(s)) - rho * np.outer(y, s)
    return V.T @ H @ V + rho * np.outer(s, s)


@pytest.mark.parametrize("name", LAWS)
def test_every_pair_of_classes_is_in_a_row(name: str) -> None:
    check = REGISTRY[name]
    axes = axes_of(check, FLOAT64)
    met = {frozenset(pair) for row in rows(check, FLOAT64) for pair in combinations(row.items(), 2)}
    for a, b in combinations(axes, 2):
        for x in AXES[a].classes:
            for y in AXES[b].classes:
                sizes = [value for axis, value in ((a, x), (b, y)) if axis == "n"]
                if max(sizes, default=0) <= largest_size(check):
                    assert frozenset([(a, x), (b, y)]) in met


def test_a_case_is_of_the_classes_of_its_row() -> None:
    for row, case in covering(REGISTRY["bfgs.formula"], FLOAT64, seed=3):
        n = row["n"] + (min(row["n"], REST) if row["spread"].startswith("rest") else 0)
        assert case["H"].shape == (n, n)
        assert case["s"] @ case["y"] > 0


def test_cases_repeat_with_the_seed_and_change_with_it() -> None:
    def drawn(seed: int) -> list[bytes]:
        found = covering(REGISTRY["damping.powell_formula"], FLOAT64, seed)
        return [case["s"].tobytes() for _, case in found]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("wrong_when", "region"),
    [
        (lambda H, s, y: len(s) >= 6, "n ≥ 6"),
        (lambda H, s, y: len(s) == 1, "n = 1"),
        (lambda H, s, y: len(s) <= 4, "n ≤ 4"),
        (lambda H, s, y: s @ y < 1e-3 * np.linalg.norm(s) * np.linalg.norm(y), "cosine 1e-4"),
    ],
)
def test_a_failure_says_where_it_lives(wrong_when: Any, region: str) -> None:
    def wrong(H: Any, s: Any, y: Any) -> Any:
        return 1.0 * H if wrong_when(H, s, y) else update(H, s, y)

    result = run_check(REGISTRY["bfgs.formula"], load({"bfgs_inverse_update": wrong}), Effort(30))
    assert result.failure is not None
    assert region in result.failure.region


def test_a_failure_everywhere_has_no_region() -> None:
    stranger = load({"bfgs_inverse_update": lambda H, s, y: 2 * update(H, s, y)})
    result = run_check(REGISTRY["bfgs.formula"], stranger, Effort(30))
    assert result.failure is not None
    assert result.failure.region == ""
