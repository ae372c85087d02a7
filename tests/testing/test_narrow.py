"""Pairs that are almost orthogonal: what the laws draw, that a skip is found, and that correct
forms are accepted.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kfqn_ref.testing import Effort, run_check
from kfqn_ref.testing.checks import narrow
from kfqn_ref.testing.coverage import covering
from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.tolerances import FLOAT32, FLOAT64, cosine

sys.path.insert(0, str(Path(__file__).parent))
from alternatives import ALTERNATIVES  # a neighbour of this file, which is not a package

LAWS = [name for name in REGISTRY if name.endswith("narrow")]
FAST = Effort(20, shrink=False)


def through_the_inverse(B: Any, s: Any, y: Any) -> Any:
    left = np.eye(len(s)) - np.outer(s, y) / (s @ y)
    return np.linalg.inv(left @ np.linalg.inv(B) @ left.T + np.outer(s, s) / (s @ y))


def test_cosines_from_1e_4_to_1e_9_are_drawn() -> None:
    cases = [case for _, case in covering(narrow.direct_narrow, FLOAT64, 0)]
    sizes = [1 / cosine(case["s"], case["y"]) for case in cases]
    assert min(sizes) < 2e-9
    assert max(sizes) < 1.3e-4
    damped = [case for _, case in covering(REGISTRY["damping.powell_narrow"], FLOAT64, 0)]
    signs = {np.sign(case["s"] @ case["y"]) for case in damped}
    assert signs == {-1.0, 1.0}
    assert all(1 / cosine(case["s"], case["y"]) < 1.1e-4 for case in damped)


@pytest.mark.parametrize("law", LAWS)
def test_correct_forms_are_accepted(law: str) -> None:
    check = REGISTRY[law]
    (kernel,) = check.requires
    forms: dict[str, Any] = dict(ALTERNATIVES[kernel])
    if kernel == "bfgs_direct_update":
        forms["through the inverse"] = {kernel: through_the_inverse}
    for name, form in forms.items():
        assert run_check(check, load(form), FAST).outcome == "passed", name


@pytest.mark.parametrize("threshold", [1e-8, 3e-7, 1e-5])
def test_a_narrower_skip_is_found_too(threshold: float) -> None:
    def skips(B: Any, s: Any, y: Any) -> Any:
        if s @ y < threshold * np.linalg.norm(s) * np.linalg.norm(y):
            return 1.0 * B
        Bs = B @ s
        return B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)

    def inverse(H: Any, s: Any, y: Any) -> Any:
        return (
            skips(H, y, s)
            if s @ y < threshold * np.linalg.norm(s) * np.linalg.norm(y)
            else (np.linalg.inv(skips(np.linalg.inv(H), s, y)))
        )

    assert run_check(narrow.direct_narrow, load({"bfgs_direct_update": skips}), FAST).failure
    assert run_check(narrow.narrow, load({"bfgs_inverse_update": inverse}), FAST).failure


def test_float32_is_asked_for_what_it_can_bear() -> None:
    for _, case in covering(narrow.direct_narrow, FLOAT32, 0):
        assert 1 / cosine(case["s"], case["y"]) > 1e-5
