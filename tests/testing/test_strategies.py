"""The strategies draw what they promise, and often enough: frequencies are measured and bounded."""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis.strategies import SearchStrategy

from kfqn_ref.testing import all_checks
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.bulk import Rejected, draw_case
from kfqn_ref.testing.checks.damping import powell_theta
from kfqn_ref.testing.strategies.kernels import (
    damping_cases,
    identity_cases,
    lbfgs_cases,
    spd,
    triples,
    unimodular,
)
from kfqn_ref.testing.strategies.layers import images, inputs, second_derivatives
from kfqn_ref.testing.strategies.networks import LINEAR_ONLY, PRESETS, problems, runs
from kfqn_ref.testing.tolerances import FLOAT32, FLOAT64, Precision

sys.path.insert(0, str(Path(__file__).parent))
from sampling import sample  # a neighbour of this file, which is not a package


def share(holds: list[bool]) -> float:
    return sum(holds) / len(holds)


@cache
def drawn(strategy: Callable[[Precision], SearchStrategy[Any]]) -> list[Any]:
    """Cases in double precision; several tests look at the same ones."""
    return sample(strategy(FLOAT64))


@pytest.mark.parametrize("strategy", [triples, damping_cases, identity_cases, lbfgs_cases])
def test_arrays_are_read_only_float64(strategy: Any) -> None:
    for case in drawn(strategy):
        arrays = [value for value in case.values() if isinstance(value, np.ndarray)]
        assert [array.dtype for array in arrays] == [np.float64] * len(arrays)
        assert not any(array.flags.writeable for array in arrays)


def test_triples_are_valid() -> None:
    for case in drawn(triples):
        assert case["s"] @ case["y"] > 0
        assert np.array_equal(case["H"], case["H"].T)
        assert np.linalg.eigvalsh(case["H"])[0] > 0


def test_triples_are_of_every_kind() -> None:
    conds = [tol.cond(case["H"]) for case in drawn(triples)]
    norms = [np.linalg.norm(case["s"]) for case in drawn(triples)]
    assert 0.08 < share([len(case["s"]) == 1 for case in drawn(triples)]) < 0.45
    assert share([len(case["s"]) >= 3 for case in drawn(triples)]) > 0.3
    assert share([c > 1e3 for c in conds]) > 0.1
    assert share([c > 1e4 for c in conds]) > 0.03
    assert share([c < 10 for c in conds]) > 0.2
    assert share([norm < 1e-2 for norm in norms]) > 0.05
    assert share([norm > 1e2 for norm in norms]) > 0.05
    assert share([1e-1 < norm < 1e1 for norm in norms]) > 0.3


def test_damping_acts_and_rests() -> None:
    thetas = [powell_theta(c["H"], c["s"], c["y"], c["mu1"]) for c in drawn(damping_cases)]
    products = [c["s"] @ c["y"] for c in drawn(damping_cases)]
    assert 0.25 < share([theta == 1 for theta in thetas]) < 0.75
    assert 0.25 < share([theta < 1 for theta in thetas]) < 0.75
    assert share([p < 0 for p in products]) > 0.15
    assert share([p > 0 for p in products]) > 0.3
    ties = [
        abs(c["s"] @ c["y"] - c["mu1"] * (c["y"] @ c["H"] @ c["y"])) < 1e-9 * abs(c["s"] @ c["y"])
        for c in drawn(damping_cases)
    ]
    assert share(ties) > 0.03
    assert share([c["mu1"] != 0.2 for c in drawn(damping_cases)]) > 0.2


def test_identity_damping_acts_and_rests() -> None:
    acts = [c["s"] @ c["y"] < c["mu2"] * (c["s"] @ c["s"]) for c in drawn(identity_cases)]
    assert 0.25 < share(acts) < 0.75
    assert all(case["s"].any() for case in drawn(identity_cases))
    assert share([c["s"] @ c["y"] < 0 for c in drawn(identity_cases)]) > 0.15


def test_memories_are_empty_and_full() -> None:
    sizes = [len(case["S"]) for case in drawn(lbfgs_cases)]
    assert min(share([size == m for size in sizes]) for m in range(5)) > 0.03
    for case in drawn(lbfgs_cases):
        assert (np.einsum("mn,mn->m", case["S"], case["Y"]) > 0).all()
    assert share([case["gamma"] != 1 for case in drawn(lbfgs_cases)]) > 0.3


@pytest.mark.parametrize("precision", [FLOAT64, FLOAT32])
def test_condition_numbers_stay_within_the_precision(precision: Any) -> None:
    for H in sample(spd(precision, 4)):
        D = np.diag(np.linalg.cholesky(H)) ** 2  # H = L D Lᵀ
        assert D.max() / D.min() <= precision.max_cond * (
            1 + tol.rounding(FLOAT64.u, 4, tol.cond(H))
        )
        # D is at most max_cond wide; a unit triangle of halves widens it by at most its own
        # condition, squared.
        assert tol.cond(H) < precision.max_cond * 200


def test_changes_of_variables_keep_volume() -> None:
    for M in sample(unimodular(3)):
        assert np.linalg.det(M) == pytest.approx(1)


def test_layers_are_of_every_kind() -> None:
    geometries = [case["geometry"] for case in sample(images(FLOAT64))]
    for option, plain in (
        ("stride", (1, 1)),
        ("padding", (0, 0)),
        ("dilation", (1, 1)),
        ("kernel_size", (1, 1)),
    ):
        assert share([geometry[option] != plain for geometry in geometries]) > 0.3
    assert share([geometry["stride"][0] != geometry["stride"][1] for geometry in geometries]) > 0.2
    assert share([case["a_bar"].shape[1] > 1 for case in sample(inputs(FLOAT64))]) > 0.3
    assert share([case["a_bar"].shape[0] > 1 for case in sample(second_derivatives(FLOAT64))]) > 0.3


def test_second_derivatives_are_symmetric() -> None:
    for case in sample(second_derivatives(FLOAT64), 100):
        assert np.array_equal(case["Hh"], case["Hh"].transpose(0, 3, 4, 1, 2))


def test_networks_are_of_every_kind() -> None:
    cases = sample(problems(FLOAT64))
    layers = [[type(layer).__name__ for layer in case["network"].layers] for case in cases]
    assert 0.15 < share(["Conv2d" in names for names in layers]) < 0.8
    assert share(["AvgPool2d" in names for names in layers]) > 0.1
    groups = [
        case["network"].layers[0].groups
        for case in cases
        if hasattr(case["network"].layers[0], "groups")
    ]
    assert 0.2 < share([g == 2 for g in groups]) < 0.8
    for loss in ("SoftmaxCrossEntropy", "MeanSquaredError", "BernoulliCrossEntropy"):
        assert share([type(case["network"].loss).__name__ == loss for case in cases]) > 0.15
    assert share([case["network"].layers[0].bias for case in cases]) > 0.2


def test_runs_are_of_every_preset_and_length() -> None:
    cases = sample(runs(FLOAT64))
    for preset in PRESETS:
        chosen = [case for case in cases if case["options"]["preset"] == preset]
        assert len(chosen) > 0.05 * len(cases)
        if preset in LINEAR_ONLY:
            assert not any("Conv2d" in repr(case["network"]) for case in chosen)
    assert share([len(case["batches"]) > 2 for case in cases]) > 0.25
    assert share([case["options"]["weight_decay"] > 0 for case in cases]) > 0.2
    assert share([case["options"]["curvature_interval"] > 1 for case in cases]) > 0.2


@pytest.mark.parametrize("check", all_checks(errors=True), ids=lambda check: check.name)
def test_no_check_filters_most_of_its_cases(check: Any) -> None:
    """A filter in a check's strategy keeps at least a third of what is drawn."""
    kept, strategy, rng = 0, check.given(FLOAT64), np.random.default_rng(0)
    for _ in range(60):
        with suppress(Rejected):
            draw_case(strategy, rng)
            kept += 1
    assert kept >= 20
