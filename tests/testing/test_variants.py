"""Variants from the syntax tree: what is generated, where it is active, and the stored run."""

import json
from pathlib import Path

import numpy as np
import pytest

import kfqn_ref as ref
from kfqn_ref.testing.variants import (
    EQUIVALENT,
    SOURCES,
    activated,
    all_variants,
    interval,
    is_active,
    killer,
    plan,
    share_of,
    shares,
    variants_of,
)

STORED = Path(__file__).parents[2] / "book/data/power/variants.json"
ARRAYS = (np.diag([2.0, 3.0]), np.array([1.0, 0.5]), np.array([0.5, 1.0]))


def _named(kernel: str, part: str):
    return next(variant for variant in variants_of(kernel) if part in variant.name)


def test_every_kind_of_mistake_is_made():
    kinds = {variant.kind for variant in all_variants()}
    wanted = {"operator", "sign", "index", "transposition", "dropped term", "threshold", "constant"}
    assert kinds >= wanted | {"comparison", "float32 cast", "in-place write", "argument order"}
    assert len({variant.source for variant in all_variants()}) == len(all_variants())


def test_equivalent_variants_are_variants_and_are_left_out():
    names = {variant.name for kernel in SOURCES for variant in variants_of(kernel)}
    assert set(EQUIVALENT) <= names
    assert not set(EQUIVALENT) & {variant.name for variant in all_variants()}


def test_a_variant_is_the_kernel_where_it_is_not_active():
    variant = _named("bfgs_inverse_update", "V.T @ H @ V + rho * np.outer(s, s) → V.T @ H @ V")
    right = ref.bfgs_inverse_update(*ARRAYS)
    assert not np.allclose(activated(variant, 1.0)(*ARRAYS), right)
    assert np.array_equal(activated(variant, 0.0)(*ARRAYS), right)


def test_a_share_of_the_arguments_is_that_share():
    rng = np.random.default_rng(0)
    cases = [(rng.normal(size=3),) for _ in range(4000)]
    met = sum(is_active(0.1, case, 1) for case in cases)
    low, high = interval(met, len(cases))
    assert low < 0.1 < high
    assert share_of(ARRAYS) == share_of(tuple(np.asfortranarray(a) for a in ARRAYS))


@pytest.mark.parametrize(
    ("where", "active", "calls"),
    [("n = 1", False, 1), ("n ≥ 6", False, 1), ("every 500th call", True, 500),
     ("small cosine", False, 1), ("Fortran order", False, 1)],
)  # fmt: skip  # one class a line
def test_classes_of_arguments(where, active, calls):
    assert is_active(where, ARRAYS, calls) is active
    assert is_active("n = 1", (np.ones(1),), 1)
    assert is_active("Fortran order", (np.asfortranarray(np.ones((2, 3))),), 1)
    assert is_active("small cosine", (np.array([1.0, 0.0]), np.array([0.0, 1.0])), 1)


def test_a_variant_is_rejected_and_the_kernel_is_not():
    variant = _named("lm_damp", "y + lam * s → y - lam * s")
    assert killer(variant, 1.0, 10, 0) == "damping.lm_formula"
    assert killer(variant, 0.0, 10, 0) == ""


def test_the_plan_is_the_same_every_time_and_takes_the_cells_in_turn():
    rows = plan(2, 0)
    assert rows == plan(2, 0)
    assert {row["where"] for row in rows[: len(all_variants())]} == {1.0}
    late = shares([row | {"killed_by": ""} for row in rows[len(all_variants()) :]])
    assert {tried for _, tried in late.values()} == {2}


def test_every_variant_that_is_wrong_everywhere_was_rejected():
    data = json.loads(STORED.read_text(encoding="utf-8"))
    trials = [row for row in data["trials"] if row["variant"] not in EQUIVALENT]
    everywhere = {row["variant"]: row["killed_by"] for row in trials if row["where"] == 1.0}
    assert set(everywhere) == {variant.name for variant in all_variants()}
    assert all(row["killed_by"] for row in trials if row["where"] == 1.0 and row["examples"] >= 100)


def test_the_interval_is_that_of_clopper_and_pearson():
    low, high = interval(0, 10)
    assert (low, high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
