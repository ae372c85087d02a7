"""The ablation of the two sides: a side that does not learn stays as it began; grids grow until the
optimum is interior; intervals are Student's.
"""

import math

import pytest
import torch

from kfqn_ref.experiments.race import intervals, sides
from kfqn_ref.experiments.race.entrants import stepper
from kfqn_ref.experiments.race.run import mini_batches
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.tasks import SMOKE, Task
from kfqn_ref.optim import KFQN

HYPER = {"lr": 0.1, "damping": 0.04}


@pytest.mark.parametrize("variant", sides.VARIANTS, ids=lambda variant: variant.label)
def test_a_side_that_does_not_learn_stays_as_it_began(
    variant: sides.Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[KFQN] = []

    def watched(task: Task, model: torch.nn.Module, opt: KFQN) -> sides.Stepper:
        made.append(opt)
        return stepper(task, model, opt)

    monkeypatch.setattr(sides, "stepper", watched)
    task = SMOKE[0]
    model = task.model(8, 0)
    step = variant.start(task, model, HYPER, 0)
    seen = []
    for x, y in mini_batches(task.images(), 32, 3, 0):
        step(x, y)
        found = [made[0].curvature(layer.module) for layer in made[0].layers]
        seen.append(([c.H_a.clone() for c in found], [c.H_g.clone() for c in found]))
    moves = variant.interval == 1
    for side, learns in ((0, variant.input), (1, variant.output)):
        same = [torch.equal(a, b) for a, b in zip(seen[0][side], seen[2][side], strict=True)]
        assert same == [not (learns and moves)] * len(same)
    start = 5.0 if variant.scaled else 1.0
    if not variant.output:
        assert all(torch.equal(H, start * torch.eye(len(H))) for H in seen[2][1])


def losses_of(task: Task, best: tuple[int, int]) -> sides.Grid:
    """What :func:`sides.tuned` finds where the loss is the distance from ``best``."""

    def score(point: sides.Point) -> float:
        at = sides.RATES.index(point.hyper["lr"]), sides.DAMPINGS.index(point.hyper["damping"])
        return math.dist(at, best)

    grid, interior = sides.tuned(task, sides.VARIANTS[0], score)
    assert interior
    return grid


@pytest.mark.parametrize("best", [(3, 2), (5, 2), (1, 4), (6, 3)])
def test_a_grid_grows_until_its_optimum_is_interior(best: tuple[int, int]) -> None:
    grid = losses_of(sides.TASKS[0], best)
    assert sides.best_of(grid) == best
    for axis in (0, 1):
        values = [at[axis] for at in grid]
        assert min(values) < best[axis] < max(values)


def test_an_optimum_on_the_edge_is_said() -> None:
    _, interior = sides.tuned(sides.TASKS[0], sides.VARIANTS[0], lambda point: -point.hyper["lr"])
    assert not interior
    _, interior = sides.tuned(sides.TASKS[0], sides.VARIANTS[0], lambda point: None)
    assert not interior


def test_intervals_are_those_of_students_t() -> None:
    found = intervals.interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)  # the table's 97.5 % point of t with 2 degrees
    assert found["mean"] == 2.0
    assert found["low"] == pytest.approx(2 - half, rel=1e-9)
    assert found["high"] == pytest.approx(2 + half, rel=1e-9)
    assert intervals.interval([1.0, None])["mean"] is None
    assert intervals.difference([3.0, 5.0], [1.0, 2.0])["mean"] == 2.5
    assert intervals.difference([3.0], [])["mean"] is None


def test_results_show_the_rows_that_are_complete(tmp_path) -> None:
    store = Store(tmp_path / "some.jsonl")
    task = sides.TASKS[0]
    shown = sides.VARIANTS[0]

    def score(point: sides.Point) -> float:
        found = abs(math.log10(point.hyper["lr"] * point.hyper["damping"] / 3e-3)) + point.seed % 7
        losses = [found] * point.steps
        run = {"score": found, "losses": losses, "steps": point.steps}
        store.add({"key": point.key, **run, "evaluations": [{"test_error": 0.25}]})
        return found

    grid, _ = sides.tuned(task, shown, score)
    for point in sides.final_points(task, shown, grid):
        score(point)
    found = sides.results(store)["tasks"]
    assert list(found[task.name]["rows"]) == [shown.label]
    row = found[task.name]["rows"][shown.label]
    assert row["interior"]
    assert len(row["losses"]) == len(sides.SEEDS)
    assert row["test_errors"] == [0.25] * len(sides.SEEDS)
    assert row["low"] < row["mean"] < row["high"]
    assert row["minus_input"]["mean"] == 0
    assert all(not other["rows"] for name, other in found.items() if name != task.name)
