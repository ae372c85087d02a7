"""Every mutant is rejected, and every check rejects one: the kill matrix that the package ships is
true and complete.
"""

import json
from pathlib import Path

import pytest

from kfqn_ref.testing import Effort, all_checks, run_check
from kfqn_ref.testing.kill_matrix import KillMatrix, compute, kill_tests, stored
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.mutants import MUTANTS

KNOWN = {  # mistakes met in public code, and the mutants that make them
    "sign in Powell's damping": [
        "powell_damp:sign",
        "dp_dlm_damp:pair_sign",
        "optimizer_steps:powell_sign",
    ],
    "in-place update that rebinds": ["bfgs_inverse_update:rebinds", "optimizer_steps:rebinds"],
    "silent skip": ["bfgs_inverse_update:silent_skip", "optimizer_steps:silent_skip"],
    "s from gradients": ["output_pair:pair_of_gradients", "optimizer_steps:gradient_step"],
    "mean appended instead of 1": ["append_one:appends_mean"],
    "1/|T| missing in y": ["output_pair:pair_summed", "optimizer_steps:pair_summed"],
    "1/|T| wrongly in A": [
        "input_factor:factor_per_location",
        "optimizer_steps:factor_per_location",
    ],
    "bias column first": ["append_one:bias_first"],
    "A and G swapped": [
        "kron:swapped",
        "kron_matvec:applied_left",
        "optimizer_steps:swapped_sides",
    ],
    "Dh not multiplied by N": ["output_pair:pair_of_mean_loss", "forward_backward:dh_of_mean"],
    "second pass on another mini-batch": ["optimizer_steps:other_batch"],
    "mu1 and 1 − mu1": ["powell_damp:swapped_mu", "powell_damp:swapped_test"],
    "transposed I − ρ s yᵀ": ["bfgs_inverse_update:transposed"],
    "moving-average weights": ["average_pair:average_swapped", "optimizer_steps:swapped_momentum"],
    "λ instead of √λ": ["optimizer_steps:lambda_not_root"],
    "skip when sᵀy > 0": ["bfgs_inverse_update:skip_positive", "optimizer_steps:skip_positive"],
    "L-BFGS drops the newest": ["lbfgs_push:drops_newest", "optimizer_steps:drops_newest"],
    "two-loop order": ["lbfgs_two_loop:reversed_loops", "lbfgs_two_loop:one_direction"],
    "weight decay inside y": ["optimizer_steps:decay_in_pair"],
}


def _stored() -> KillMatrix:
    matrix = stored()
    assert matrix is not None, "compute it: python -m kfqn_ref.testing.kill_matrix"
    return matrix


def test_the_matrix_is_of_these_mutants_and_checks() -> None:
    matrix = _stored()
    assert set(matrix.kills) == set(MUTANTS)
    assert set(matrix.checks) == {check.name for check in all_checks(errors=True)}


def test_no_mutant_survives_and_no_check_is_idle() -> None:
    assert _stored().survivors == ()
    assert _stored().idle == ()


@pytest.mark.parametrize("mistake", KNOWN)
def test_every_known_mistake_is_a_mutant(mistake: str) -> None:
    assert set(KNOWN[mistake]) <= set(MUTANTS)


@pytest.mark.parametrize(("check", "mutant"), kill_tests(_stored()))
def test_rejected(check: str, mutant: str) -> None:
    result = run_check(REGISTRY[check], MUTANTS[mutant].implementation(), Effort(50, shrink=False))
    assert result.outcome == "failed"


@pytest.mark.parametrize("mutant", ["powell_damp:sign", "bfgs_inverse_update:rebinds"])
def test_the_stored_row_is_what_is_computed(mutant: str) -> None:
    assert compute([mutant], examples=20).kills[mutant] == _stored().kills[mutant]


def test_the_matrix_reads_back() -> None:
    assert KillMatrix.from_json(_stored().to_json()) == _stored()


def test_no_kill_lives_from_luck() -> None:
    """The table that `python -m kfqn_ref.testing.power --out book/data/power` made: many seeds, and
    every kill test rejects its mutant with each of them.
    """
    path = Path(__file__).parents[1] / "book/data/power/power.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["kills"]
    assert {(row["check"], row["mutant"]) for row in rows} == set(kill_tests(_stored()))
    assert min(row["seeds"] for row in rows) >= 25
    assert [row for row in rows if row["survived"]] == []
