"""The scaled step stays in its box: by numbers, by property, along a run; known mistakes leave
it.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf
from kfqn_ref.method import nadam
from kfqn_ref.method.nadam import box, scaled, weights
from kfqn_ref.optim import PRESETS
from kfqn_ref.optim.presets import Preset

from ..trajectories import CNN, batches

DECAYS = st.sampled_from([0.0, 0.5, 0.9, 0.99])
SQUARE_DECAYS = st.sampled_from([0.5, 0.9, 0.99, 0.999])
ROUNDING = 1 + 1e-9


def last_step(Us: np.ndarray, beta: float, beta2: float, step: Callable = scaled) -> np.ndarray:
    """Average the rows of ``Us``, (t, n), as the method does; return the step at the last of
    them.
    """
    M, V = np.zeros(Us.shape[1]), np.zeros(Us.shape[1])
    for U in Us:
        M, V = beta * M + (1 - beta) * U, beta2 * V + (1 - beta2) * U**2
    return step(M, V, Us[-1], len(Us), beta=beta, beta2=beta2)


def test_the_first_step_is_a_sign_whatever_the_length() -> None:
    # t = 1: M̂ = (β/(1 + β) + 1) u, and √V̂ = |u|
    P = last_step(np.array([[3e4, -2e-3]]), 0.5, 0.9)
    np.testing.assert_allclose(P, [4 / 3, -4 / 3], rtol=1e-5)
    assert box(1, beta=0.5, beta2=0.9) == pytest.approx(4 / 3)


@given(st.integers(1, 40), DECAYS, SQUARE_DECAYS, st.integers(0, 10**6))
def test_no_entry_leaves_the_box_and_the_worst_directions_reach_it(
    t: int, beta: float, beta2: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    bound = box(t, beta=beta, beta2=beta2)
    Us = rng.standard_normal((t, 8)) * 10.0 ** rng.integers(-6, 6, (t, 8))
    assert np.abs(last_step(Us, beta, beta2)).max() <= bound * ROUNDING
    w, c = weights(t, beta, beta2)
    worst = (w / c)[:, None]
    reached = last_step(1e6 * worst / np.abs(worst).max(), beta, beta2)[0]
    assert reached == pytest.approx(bound, rel=1e-6)


def moves(name: str, steps: int, **options: float) -> list[float]:
    """The largest change of a weight in every step of a run."""
    method, params = kf.preset(name, **options), CNN.init(np.random.default_rng(3))
    state, found = method.init(params), []
    for x, target in batches(CNN, steps):
        new, state, _ = method.step(CNN, params, state, x, target)
        found.append(max(float(np.abs(a - b).max()) for a, b in zip(new, params, strict=True)))
        params = new
    return found


def test_a_run_stays_in_the_box_with_an_absurd_curvature() -> None:
    """λ = 1e-12 makes H huge: the steps of ``kfqn_cnn`` leave the box, those of ``kfqn_adam`` do
    not.
    """
    options = {"lr": 0.01, "damping": 1e-12, "curvature_interval": 1}
    bounds = [0.01 * box(k + 1, beta=0.9, beta2=0.99) * ROUNDING for k in range(12)]
    steps = moves("kfqn_adam", 12, **options)
    assert all(0 < step <= bound for step, bound in zip(steps, bounds, strict=True))
    assert max(moves("kfqn_cnn", 12, **options)) > max(bounds)


MUTANTS: dict[str, Callable] = {
    "V is not rooted": lambda M, V, U, t, **d: scaled(M, V**2, U, t, **d),
    "no bias correction of V": lambda M, V, U, t, **d: scaled(
        M, V * (1 - d["beta2"] ** t), U, t, **d
    ),
    "gradients in place of averages": lambda M, V, U, t, **d: U / (np.sqrt(V) + nadam.EPS),
    "V forgets the newest": lambda M, V, U, t, **d: scaled(
        M, V - (1 - d["beta2"]) * U**2, U, t, **d
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_known_mistake_leaves_the_box(name: str) -> None:
    bound = box(5, beta=0.9, beta2=0.99)
    w, c = weights(5, 0.9, 0.99)
    worst = 1e-3 * (w / c)[:, None]
    with np.errstate(all="ignore"):
        assert not abs(last_step(worst, 0.9, 0.99, MUTANTS[name])[0]) <= bound * ROUNDING
    assert last_step(worst, 0.9, 0.99)[0] <= bound * ROUNDING


@pytest.mark.parametrize("name", PRESETS)
def test_both_sides_have_the_same_lr_and_damping_where_none_is_given(name: str) -> None:
    reference = kf.preset(name)
    assert (reference.lr, reference.damping) == (PRESETS[name].lr, PRESETS[name].damping)


def test_bad_decays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"square_decay must be in \[0, 1\), got 1"):
        kf.preset("kfqn_adam", square_decay=1.0)
    with pytest.raises(ValueError, match="square_decay must be 0 "):
        kf.preset("convergent", square_decay=0.9)
    with pytest.raises(ValueError, match=r"square_decay must be in \[0, 1\), got 1"):
        Preset("of torch", square_decay=1.0)
    for values in ({"t": 0, "beta": 0.9, "beta2": 0.9}, {"t": 1, "beta": 1.0, "beta2": 0.9},
                   {"t": 1, "beta": 0.9, "beta2": 0.0}):  # fmt: skip  # a table
        with pytest.raises(ValueError, match="must be"):
            box(**values)
