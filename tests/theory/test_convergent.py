"""The convergent variant: its options, constants and refusals, and the torch twin on the same
trajectory.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import kfqn_ref as kf
from kfqn_ref import bridge
from kfqn_ref.method.convergent import EXACT, LEAN, Convergent
from kfqn_ref.method.options import BfgsInput, BfgsOutput, DpDlm, Options
from kfqn_ref.optim import KFQN
from kfqn_ref.theory.bounds import Bounds, constants, input_radii, kantorovich, lbfgs_bounds
from kfqn_ref.theory.loss_constants import smoothness
from kfqn_ref.theory.theorem import Rate, largest_step, sampling_variance

from ..trajectories import CNN, batches

STEPS = 30
TANH = kf.Network(
    (kf.Conv2d(1, 3, 3, padding=1), kf.Tanh(), kf.MaxPool2d(2), kf.Flatten(), kf.Linear(48, 5)),
    kf.SoftmaxCrossEntropy(),
)
X = np.random.default_rng(0).uniform(-1, 1, (6, 1, 8, 8))


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"gamma": 0.5, "memory": 3, "weight_decay": 1e-3, "step_decay": 0.55}]
)
def test_reference_and_torch_walk_together(lean: bool, options: dict[str, Any]) -> None:
    values: dict[str, Any] = {"lr": 0.3, "damping": 0.1} | options
    method = kf.preset("convergent", **values, options=LEAN if lean else EXACT)
    params = CNN.init(np.random.default_rng(3))
    model = bridge.build(CNN, params)
    opt = KFQN(model, "convergent", input_inverse="lbfgs" if lean else "dense", **values)
    state = method.init(params)
    for x, target in batches(CNN, STEPS):
        params, state, _ = method.step(CNN, params, state, x, target)
        opt.step(bridge.closure_of(model, CNN, x, target))
        assert max(bridge.deviation(opt, model, CNN, params, state)) < 1e-9
    assert any(block.counts.damped_g for block in state.blocks)


def test_warm_start_is_the_same_in_both() -> None:
    method, params = kf.preset("convergent"), CNN.init(np.random.default_rng(3))
    data = batches(CNN, 3)
    state = method.warm_start(CNN, params, method.init(params), data)
    model = bridge.build(CNN, params)
    opt = KFQN(model, "convergent")
    opt.warm_start([torch.from_numpy(x) for x, _ in data])
    for x, target in data:
        params, state, _ = method.step(CNN, params, state, x, target)
        opt.step(bridge.closure_of(model, CNN, x, target))
    assert max(bridge.deviation(opt, model, CNN, params, state)) < 1e-9


def test_exact_input_inverse_is_that_of_the_batch_before() -> None:
    method, params = kf.preset("convergent"), CNN.init(np.random.default_rng(3))
    (x, target), *_ = batches(CNN, 1)
    state = method.step(CNN, params, method.init(params), x, target).state
    for block, record in zip(
        state.blocks, kf.forward_backward(CNN, params, x, target).records, strict=True
    ):
        A = kf.input_factor(record.a_bar) + block.lambda_a * np.eye(record.a_bar.shape[2])
        np.testing.assert_allclose(
            block.H_a.dense() @ A, np.eye(len(A)), atol=1e-12 * np.linalg.cond(A)
        )


REFUSED = [
    ({"step_decay": 0.5}, r"step_decay b must be in \(1/2, 1\) \(AS.4"),
    ({"step_decay": 1.0}, r"step_decay b must be in \(1/2, 1\) \(AS.4"),
    ({"step_decay": np.nan}, "AS.4"),
    ({"lr": 0.0}, "lr must be positive .AS.4"),
    ({"momentum": 0.9}, "momentum must be 0 .AS.2"),
    ({"gamma": 0.0}, "gamma must be positive .AS.5"),
    ({"gamma": np.nan}, "gamma must be positive .AS.5"),
    ({"damping": 0.0}, "damping must be positive .AS.5"),
    ({"memory": 0}, "memory must be at least 1 .AS.5"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED, ids=str)
def test_values_outside_the_theorem_are_refused_by_both(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        kf.preset("convergent", **options)
    with pytest.raises(ValueError, match=words):
        KFQN(torch.nn.Linear(2, 2), "convergent", **options)


def test_an_input_inverse_that_no_lemma_covers_is_refused() -> None:
    with pytest.raises(ValueError, match="AS.5: at most p pairs"):
        Convergent(options=replace(EXACT, input_inverse=BfgsInput()))
    with pytest.raises(ValueError, match="H_g must be L-BFGS .AS.5: at most p pairs"):
        Convergent(options=replace(EXACT, output_inverse=BfgsOutput()))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"damp": DpDlm()}, "damp must be H0Damp.*AS.5"), ({"starts_from_batch": True}, "AS.2")],
)
def test_options_that_break_an_assumption_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kf.preset("convergent", **wrong)


def test_decoupled_weight_decay_is_refused_in_torch() -> None:
    with pytest.raises(ValueError, match="decoupled must be False .AS.2"):
        KFQN(torch.nn.Linear(2, 2), "convergent", decoupled=True)


@pytest.mark.parametrize("options", [EXACT, LEAN])
def test_constants_hold_along_a_run_with_a_warm_start(options: Options) -> None:
    rng = np.random.default_rng(1)
    method = Convergent(lr=0.5, memory=2, damping=1.0, options=options)
    known = constants(method, TANH, X)
    params, target = TANH.init(rng), rng.integers(0, 5, 6)
    state = method.warm_start(TANH, params, method.init(params), [(X[:3], target[:3])])
    for _ in range(12):
        rows = rng.choice(6, 2)
        params, state, _ = method.step(TANH, params, state, X[rows], target[rows])
        for block, layer in zip(state.blocks, known.layers, strict=True):
            for H, bound in ((block.H_a, layer.H_a), (block.H_g, layer.H_g)):
                eigenvalues = np.linalg.eigvalsh(H.dense())
                assert bound.lo <= eigenvalues[0] * (1 + 1e-9)
                assert eigenvalues[-1] <= bound.hi * (1 + 1e-9)
            assert known.kappa.lo <= layer.kappa.lo
            assert layer.kappa.hi <= known.kappa.hi


def test_one_number_alone_is_bounded_by_its_pair() -> None:
    # d = 1: I − ρ s yᵀ = 0, and H = s/y: kappa has no say
    assert lbfgs_bounds(0.5, 8.0, gamma=1.0, memory=9, d=1) == Bounds(1 / 8, 2.0)
    assert lbfgs_bounds(2.0, 8.0, gamma=1.0, memory=9, d=1) == Bounds(1 / 8, 1.0)
    assert kantorovich(3.0, 3.0) == 1.0


UNBOUNDED = kf.Network((kf.Linear(4, 3), kf.ReLU(), kf.Linear(3, 2)), kf.SoftmaxCrossEntropy())


def test_models_without_bounded_inputs_are_refused_with_the_reason() -> None:
    with pytest.raises(
        ValueError, match="AS.3 fails: layer 2, Linear.*no Tanh or Sigmoid.*of layer 0"
    ):
        constants(Convergent(), UNBOUNDED, X.reshape(-1, 4))
    with pytest.raises(ValueError, match="AS.3 needs bounded data"):
        constants(Convergent(), TANH, np.full((1, 1, 8, 8), np.inf))


def test_relu_before_the_first_weights_or_after_tanh_keeps_the_bound() -> None:
    layers = (kf.ReLU(), kf.Linear(4, 3), kf.Tanh(), kf.ReLU(), kf.Linear(3, 2))
    (first, _), (second, _) = input_radii(
        kf.Network(layers, kf.SoftmaxCrossEntropy()), np.array([[1.0, -5, 2, 0]])
    )
    assert (first, second) == pytest.approx((1 + 4 + 1, 3 + 1))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (TANH, "there is no global L"),
        (
            kf.Network((kf.Linear(4, 2),), kf.MeanSquaredError()),
            "AS.1 and AS.2 must have constants",
        ),
        (
            kf.Network((kf.Linear(4, 2), kf.ReLU()), kf.MeanSquaredError()),
            "derived for Tanh or Sigmoid",
        ),
    ],
)
def test_smoothness_refuses_what_has_no_global_constants(network: kf.Network, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        smoothness(network, np.ones((2, 4)), np.ones((2, 2)))


KAPPA = Bounds(0.5, 2.0)
RATE = Rate(L=2.0, kappa=KAPPA, variance=1.0, gap=1.0, c=0.25, b=0.7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"L": 0.0}, "AS.1"),
        ({"variance": np.inf}, "AS.2"),
        ({"b": 0.5}, "AS.4"),
        ({"c": 0.26}, r"c must be in \(0, 1/\(L κ_hi\)\]"),
        ({"kappa": Bounds(0.0, 1.0)}, "AS.5"),
        ({"gap": -1.0}, "f >= f_low"),
    ],
)
def test_the_rate_refuses_what_it_does_not_cover(change: dict[str, Any], words: str) -> None:
    assert RATE.c == largest_step(RATE.L, KAPPA)
    with pytest.raises(ValueError, match=words):
        replace(RATE, **change)


def test_the_step_of_the_framework_gives_its_theorem_word_for_word() -> None:
    """With ``c = κ_lo/(L κ_hi²)`` the bound by parts is
    ``2 L (M_f − f_low) κ_hi²/κ_lo² N^(b−1) + …``.
    """
    c, b, N = KAPPA.lo / (RATE.L * KAPPA.hi**2), RATE.b, np.array([1, 7, 100])
    rate = replace(RATE, c=c)
    M_f = 1.0 + RATE.L * KAPPA.hi**2 * c**2 / 2 * sum(k ** (-2 * b) for k in range(1, 2_000_000))
    stated = 2 * RATE.L * M_f * (KAPPA.hi / KAPPA.lo) ** 2 * N ** (b - 1) + (N**-b - b / N) / (
        1 - b
    )
    np.testing.assert_allclose(
        rate.running_mean_by_parts(N), stated, rtol=1e-3
    )  # the sum ends at 2e6
    assert (rate.running_mean(N) <= rate.running_mean_by_parts(N)).all()


def test_a_sample_has_at_least_one_and_at_most_all() -> None:
    assert sampling_variance(3.0, 5, 5) == 0.0
    assert sampling_variance(3.0, 1, 1) == 3.0
    for m in (0, 6):
        with pytest.raises(ValueError, match="AS.2"):
            sampling_variance(3.0, m, 5)
