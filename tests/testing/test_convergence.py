"""The checks of the theorem: the variant passes them all, every mutant is rejected, no check is
idle.
"""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from kfqn_ref.testing.convergence.checks import CHECKS, eigenvalues_stay_bounded
from kfqn_ref.testing.convergence.lemmas import Variant, tightness
from kfqn_ref.testing.convergence.mutants import MUTANTS, Mutant
from kfqn_ref.testing.convergence.state_machine import EFFORT, machine
from kfqn_ref.testing.law import Violation


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c is not eigenvalues_stay_bounded], ids=lambda c: c.__name__
)
def test_the_variant_passes(check) -> None:
    check(Variant())


def test_eigenvalues_stay_bounded_whatever_happens_to_pairs_and_memory() -> None:
    # the active profile decides how long: 'thorough' looks at far more programs than 'ci'
    effort = settings(EFFORT, max_examples=max(EFFORT.max_examples, settings().max_examples))
    run_state_machine_as_test(machine(Variant()), settings=effort)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.mistake)
def test_every_mutant_is_rejected(mutant: Mutant) -> None:
    with pytest.raises(Violation):
        mutant.rejected_by(mutant.variant)


def test_every_check_rejects_a_mutant() -> None:
    assert {mutant.rejected_by for mutant in MUTANTS} == set(CHECKS)


def test_a_search_finds_no_pairs_beyond_the_bounds() -> None:
    found = tightness(0.5, 0.5, 2.0, 2)
    print(f"search: ‖H‖ at {found.hi:.2f} of κ_hi, ‖B‖ at {found.lo:.2f} of 1/κ_lo")
    start = Variant().lbfgs_bounds(
        2.0, Variant().pair_bound(0.5, 0.5, 2.0), gamma=0.5, memory=2, d=3
    )
    assert 0.5 / start.hi < found.hi <= 1  # further than H_0 itself, and never past the bound
    assert start.lo / 0.5 < found.lo <= 1
