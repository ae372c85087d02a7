"""Every in-place kernel against its twin in the reference, and what its masks promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kfqn_ref import bfgs, damping, lbfgs
from kfqn_ref.optim import PRESETS, kernels
from kfqn_ref.optim.inverses import LBFGSInverse
from kfqn_ref.optim.update import _curved
from kfqn_ref.testing import tolerances
from kfqn_ref.testing.strategies import kernels as cases
from kfqn_ref.testing.tolerances import FLOAT64

U = FLOAT64.u
ALL = torch.ones(1, dtype=torch.bool)


def t(x: np.ndarray) -> Tensor:
    """A copy with a leading axis of one group."""
    return torch.from_numpy(np.array(x))[None]


def hy(case: dict) -> Tensor:
    return (t(case["H"]) @ t(case["y"])[..., None])[..., 0]


@given(cases.damping_cases(FLOAT64))
def test_powell_damping(case: dict) -> None:
    H, s, y, mu1 = case["H"], case["s"], case["y"], case["mu1"]
    damped = t(s)
    theta = kernels.powell_damp_(damped, t(y), hy(case), mu1=mu1)
    expected = damping.powell_damp(H, s, y, mu1=mu1)
    assert np.linalg.norm(damped[0].numpy() - expected) <= tolerances.powell(U, H, s, y)
    assert 0 < float(theta) <= 1


@pytest.mark.parametrize("long", [1.0, 1e8, 1e20])
def test_a_tiny_theta_is_not_rounded_away(long: float) -> None:
    """``theta s`` is as long as ``H y`` however long ``s`` is, and gives the bound its equality;
    float32.

    Some ten roundings of 6e-8 each.
    """
    s, y, eye = np.array([-2.0, 1.0]) * long, np.array([1.0, 0.5]), np.eye(2)
    damped, other = (torch.tensor(v[None], dtype=torch.float32) for v in (s, y))
    kernels.powell_damp_(damped, other, other, mu1=0.2)  # H = I
    np.testing.assert_allclose(damped[0], damping.powell_damp(eye, s, y, mu1=0.2), rtol=1e-6)
    assert float(kernels.dot(damped, other)) == pytest.approx(0.2 * (y @ y), rel=1e-6)
    damped, other = (torch.tensor(v[None], dtype=torch.float32) for v in (s, y))
    kernels.identity_damp_(other, damped, mu2=0.2)  # the same with the names changed about
    np.testing.assert_allclose(damped[0], damping.identity_damp(y, s, mu2=0.2), rtol=1e-6)


@given(cases.identity_cases(FLOAT64))
def test_identity_damping(case: dict) -> None:
    s, y, mu2 = case["s"], case["y"], case["mu2"]
    damped = t(y)
    kernels.identity_damp_(t(s), damped, mu2=mu2)
    expected = damping.identity_damp(s, y, mu2=mu2)
    assert np.linalg.norm(damped[0].numpy() - expected) <= tolerances.identity(U, s, y)


@given(cases.triples(FLOAT64))
def test_bfgs_update(case: dict) -> None:
    H, s, y = case["H"], case["s"], case["y"]
    updated = t(H)
    address = updated.data_ptr()
    accepted = kernels.bfgs_inverse_update_([updated], t(s), t(y), hy(case), ALL)
    expected = bfgs.bfgs_inverse_update(H, s, y)
    assert accepted.all()
    assert updated.data_ptr() == address
    assert tolerances.norm(updated[0].numpy() - expected) <= tolerances.inverse_update(U, H, s, y)


@given(cases.triples(FLOAT64), st.sampled_from(["masked", "negative", "zero", "nan", "inf"]))
def test_bfgs_update_leaves_what_it_does_not_accept_bit_for_bit(case: dict, why: str) -> None:
    s = {
        "masked": case["s"],
        "negative": -case["s"],
        "zero": 0 * case["s"],
        "nan": np.full_like(case["s"], np.nan),
        "inf": np.full_like(case["s"], np.inf),
    }[why]
    H = t(case["H"])
    accepted = kernels.bfgs_inverse_update_(
        [H], t(s), t(case["y"]), hy(case), ALL & (why != "masked")
    )
    assert not accepted.any()
    assert np.array_equal(H[0].numpy(), case["H"])


@given(cases.lbfgs_cases(FLOAT64), st.integers(1, 6))
def test_lbfgs_push_and_product(case: dict, memory: int) -> None:
    S, Y, q, gamma = case["S"], case["Y"], case["q"], case["gamma"]
    m, n = S.shape
    rows, kept = (np.zeros((1, memory, n)) for _ in range(2))
    S_, Y_, R_ = (
        torch.from_numpy(rows),
        torch.from_numpy(kept),
        torch.zeros(1, memory, memory).double(),
    )
    for s, y in zip(S, Y, strict=True):
        assert kernels.lbfgs_push_(S_, Y_, R_, t(s), t(y), ALL).all()
    S, Y = S[-memory:], Y[-memory:]
    assert np.array_equal(S_[0, memory - len(S) :].numpy(), S)
    product = kernels.lbfgs_apply(S_, Y_, R_, t(q)[..., None], gamma=gamma)[0, :, 0].numpy()
    bound = tolerances.lbfgs(U, S, Y, gamma) * np.linalg.norm(q)
    assert np.linalg.norm(product - lbfgs.lbfgs_two_loop(S, Y, q, gamma=gamma)) <= bound


@given(cases.lbfgs_cases(FLOAT64), st.sampled_from([-1.0, 0.0, np.nan, np.inf]))
def test_lbfgs_push_leaves_what_it_does_not_accept_bit_for_bit(case: dict, factor: float) -> None:
    n = case["S"].shape[1]
    S, Y, R = (
        torch.zeros(shape, dtype=torch.float64) for shape in ((1, 3, n), (1, 3, n), (1, 3, 3))
    )
    y = np.ones(n)
    kernels.lbfgs_push_(S, Y, R, t(y), t(2 * y), ALL)
    before = [S.clone(), Y.clone(), R.clone()]
    assert not kernels.lbfgs_push_(S, Y, R, t(factor * y), t(y), ALL).any()
    assert not kernels.lbfgs_push_(S, Y, R, t(y), t(y), ~ALL).any()
    assert all(torch.equal(a, b) for a, b in zip((S, Y, R), before, strict=True))


def test_groups_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    H = np.stack([np.eye(4), 2 * np.eye(4), 3 * np.eye(4)])
    s = rng.standard_normal((3, 4))
    y = s + 0.1 * rng.standard_normal((3, 4))
    together, accept = torch.from_numpy(H.copy()), torch.tensor([True, False, True])
    Hy = (together @ torch.from_numpy(y)[..., None])[..., 0]
    kernels.bfgs_inverse_update_([together], torch.from_numpy(s), torch.from_numpy(y), Hy, accept)
    for g in range(3):
        alone = bfgs.bfgs_inverse_update(H[g], s[g], y[g]) if accept[g] else H[g]
        np.testing.assert_allclose(together[g].numpy(), alone, rtol=1e-13)


def test_each_group_is_judged_by_its_own_change_of_h() -> None:
    """Steps whose s vᵀ stays finite are learnt however long they are; one that overflows alone is
    not.
    """
    s = torch.tensor([[1e200] * 4, [1e90] * 4, [1.0] * 4], dtype=torch.float64)
    y = torch.tensor([[1e-150] * 4, [2e90] * 4, [2.0] * 4], dtype=torch.float64)
    H = torch.eye(4).double().repeat(3, 1, 1)
    accepted = kernels.bfgs_inverse_update_([H], s, y, y.clone(), torch.ones(3, dtype=torch.bool))
    assert accepted.tolist() == [False, True, True]
    assert torch.equal(H[0], torch.eye(4).double())
    torch.testing.assert_close((H @ y[..., None])[1:, :, 0], s[1:])


def test_a_pair_of_little_curvature_is_skipped_and_the_bound_belongs_to_it() -> None:
    preset = replace(PRESETS["kbfgs_2020"], skip_below=0.5)
    s, g = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([[3.0, 4.0]] * 4)  # 0.5 ‖s‖² ‖ḡ‖ = 10
    y = torch.tensor([[4.0, 9.0], [5.0, 9.0], [5.5, 9.0], [5.5, 9.0]])  # sᵀy = 8, 10, 11, 11
    among = torch.tensor([True, True, True, False])
    assert _curved(s, y, g, preset, among).tolist() == [False, False, True, False]
    assert _curved(-s, y, g, PRESETS["kfqn_cnn"], among).equal(
        among
    )  # there the update alone decides


@pytest.mark.parametrize("memory", [1, 3])
def test_the_matrix_of_an_lbfgs_estimate_is_kept_where_it_is_the_cheaper_product(
    memory: int,
) -> None:
    gamma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    small, large = (LBFGSInverse.start(gamma, d, memory) for d in (2 * memory, 2 * memory + 1))
    assert torch.equal(small.tensors["H"], gamma[:, None, None] * torch.eye(2 * memory).double())
    assert "H" not in large.tensors
    small.tensors["H"].zero_()  # what is multiplied with is the matrix
    assert not small.left(torch.ones(2, 2 * memory, 1).double()).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_all_finite_sees_one_bad_entry_and_no_large_one(bad: float) -> None:
    fine = [torch.full((3,), 1e30), torch.full((2, 2), 1e300, dtype=torch.float64)]
    assert kernels.all_finite(fine)  # a norm of squares would overflow
    assert not kernels.all_finite([*fine, torch.tensor([0.0, bad])])


def test_the_updates_trace_as_one_graph() -> None:
    def dense(H: Tensor, s: Tensor, y: Tensor) -> Tensor:
        theta = kernels.powell_damp_(s, y, (H @ y[..., None])[..., 0], mu1=0.2)
        kernels.lm_damp_(s, y, lam=0.3)
        kernels.bfgs_inverse_update_([H], s, y, (H @ y[..., None])[..., 0], theta > 0)
        return theta

    def lean(S: Tensor, Y: Tensor, R: Tensor, s: Tensor, y: Tensor) -> Tensor:
        kernels.lbfgs_push_(S, Y, R, s, y, s[:, 0] == s[:, 0])
        return kernels.lbfgs_apply(S, Y, R, y[..., None], gamma=1.0)

    rng = torch.Generator().manual_seed(0)
    s = torch.randn(2, 4, generator=rng, dtype=torch.float64)
    y = s + 0.1 * torch.randn(2, 4, generator=rng, dtype=torch.float64)
    H, S, R = (
        torch.eye(4).double().repeat(2, 1, 1),
        torch.zeros(2, 3, 4).double(),
        torch.zeros(2, 3, 3).double(),
    )
    for function, arguments in ((dense, (H, s, y)), (lean, (S, S, R, s, y))):
        ours, theirs = ([x.clone() for x in arguments] for _ in range(2))
        traced = torch.compile(function, fullgraph=True, backend="eager")
        torch.testing.assert_close(traced(*ours), function(*theirs))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)
