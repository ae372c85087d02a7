"""Reference and torch are the same algorithm: they agree on every weight, H_a and H_g, step after
step.
"""

import re
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from kfqn_ref.optim import PRESETS, Counts
from kfqn_ref.optim.options import compile_problem

from .trajectories import Moment, side_by_side

STEPS = 31
OPTIONS: dict[str, Any] = {"lr": 0.1, "damping": 0.1, "weight_decay": 1e-3}
U32 = 2.0**-24


def counts_of(moment: Moment) -> list[Counts]:
    """The reference's counts, summed over the groups of each layer as torch's are."""
    blocks = iter(moment.state.blocks)
    sums = []
    for layer in moment.opt.layers:
        group = [next(blocks).counts for _ in range(layer.geometry.groups)]
        sums.append(Counts(*(sum(getattr(c, field) for c in group) for field in Counts._fields)))
    return sums


def agreeing_run(name: str, **options: Any) -> Moment:
    """The last moment of a run in float64, after every step has been compared."""
    *_, last = (checked(moment) for moment in side_by_side(name, STEPS, **OPTIONS, **options))
    return last


def checked(moment: Moment) -> Moment:
    assert max(moment.deviation) < 1e-9
    return moment


@pytest.mark.parametrize("interval", [1, 10])
@pytest.mark.parametrize("name", PRESETS)
def test_float64_trajectories_agree(name: str, interval: int) -> None:
    moment = agreeing_run(name, curvature_interval=interval)
    assert [moment.opt.curvature(x.module).counts for x in moment.opt.layers] == counts_of(moment)


@pytest.mark.parametrize("memory", [100, 5])
@pytest.mark.parametrize("name", ["kfqn_cnn", "kfqn_cnn_l", "kbfgs_2022"])
def test_trajectories_with_the_lean_input_factor_agree(name: str, memory: int) -> None:
    moment = agreeing_run(name, lean=0, memory=memory, curvature_interval=1)
    assert all("S" in moment.opt.state[x.weight]["H_a"] for x in moment.opt.layers)


def test_trajectories_agree_where_only_wide_layers_are_lean() -> None:
    moment = agreeing_run("kfqn_cnn", lean=9, memory=3)
    lean = [("S" in moment.opt.state[x.weight]["H_a"], x.shape[2]) for x in moment.opt.layers]
    assert sorted(lean) == [
        (False, 7),
        (False, 9),
        (True, 10),
        (True, 18),
    ]  # d_a of 9 is not above 9


def test_trajectories_agree_where_the_lbfgs_memory_overflows() -> None:
    agreeing_run("kfqn_cnn_l", memory=5)


def test_trajectories_agree_with_the_products_by_pairs() -> None:
    # memory 2 and d_g > 2 p: no matrix is kept, every product is the two solves
    moment = agreeing_run("kfqn_cnn_l", memory=2)
    assert "H" not in moment.opt.state[moment.opt.layers[-1].weight]["H_g"]


# the compiler's own warnings
@pytest.mark.filterwarnings("ignore:`torch:DeprecationWarning", "ignore:`torch:FutureWarning")
@pytest.mark.parametrize("name", ["kfqn_cnn", "kbfgs_l_2020"])
def test_trajectories_agree_where_the_updates_are_compiled(name: str) -> None:
    """Where nothing can be compiled, this is said before anything moves."""
    problem = compile_problem(torch.device("cpu"))
    said = pytest.raises(ValueError, match=re.escape(problem)) if problem else nullcontext()
    with said:
        agreeing_run(name, compile=True, curvature_interval=1)


@pytest.mark.parametrize("name", PRESETS)
def test_float32_stays_within_the_error_that_its_factors_explain(name: str) -> None:
    r"""‖ΔW‖/‖W‖ is at most the path that the weights went times the relative error of
    ``H_g M H_a``.

    The two factors' errors are measured (that of ``H_g`` is large: (7.1) is a small difference of
    two passes); the gradient adds that of its own evaluation at the deviating weights, which the
    factor 4 covers as long as the loss curves no more than the estimates say; the rest is one
    rounding of W a step.
    """
    worst = 0.0
    for k, moment in enumerate(
        side_by_side(name, STEPS, dtype=torch.float32, curvature_interval=1, **OPTIONS)
    ):
        worst = max(worst, moment.deviation.H_a + moment.deviation.H_g)
        assert moment.deviation.W < 4 * moment.path * worst + 16 * (k + 1) * U32
        assert moment.deviation.H_a < 1e-3
        assert moment.deviation.H_g < 0.2
