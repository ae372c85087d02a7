"""The suites: which tasks, entrants and seeds, and the loop that runs what is still missing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kfqn_ref.experiments.race.entrants import ENTRANTS, Entrant
from kfqn_ref.experiments.race.grid import LIMIT, missing
from kfqn_ref.experiments.race.run import Point, run_point
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.tasks import FULL, QUICK, SMOKE, Images, Task
from kfqn_ref.experiments.race.timing import step_times

Tell = Callable[[str], None]

TUNING_SEED = 1000
"""Seed of the runs of the grid; no final run has it."""

FRESH_SEEDS = (3, 4, 5, 6, 7)
"""Of the final runs: seeds that nobody looked at while an entrant was made; 0 and 1 were
(``kfqn_adam``).
"""

RULE = (
    "tuning, the same for all: 6 grid points an entrant, then the neighbours that the best point "
    "lacks (step sizes twice and half as large, dampings three times), until it is interior or "
    "{limit} points are tried; each run on seed {tuning_seed} for the tuning steps of the task; "
    "the point with the lowest loss on fixed training images at its end wins; then fresh seeds "
    "{seeds} for all steps"
)


@dataclass(frozen=True)
class Suite:
    """A race: tasks x entrants x seeds.

    Args:
        name: how it is asked for.   tasks: in the order in which they are run.
        entrants: names.   seeds: of the final runs.   rounds: of the measurement of step times.
    """

    name: str
    tasks: tuple[Task, ...]
    entrants: tuple[str, ...]
    seeds: tuple[int, ...]
    rounds: int

    @property
    def rule(self) -> str:
        """The rule by which every entrant is tuned, in one sentence."""
        return RULE.format(
            limit=LIMIT, tuning_seed=TUNING_SEED, seeds=", ".join(map(str, self.seeds))
        )

    def line_up(self, task: Task) -> list[Entrant]:
        """Return the entrants that can run the task."""
        return [ENTRANTS[name] for name in self.entrants if ENTRANTS[name].runs(task)]

    def narrowed(self, tasks: Sequence[str], entrants: Sequence[str]) -> "Suite":
        """Return the suite with these tasks and entrants only, SGD always among them; none named is
        all.

        Raises:
            ValueError: a name is not one of the suite's.
        """
        known = [task.name for task in self.tasks]
        for kind, names, all_names in (
            ("task", tasks, known),
            ("entrant", entrants, self.entrants),
        ):
            for name in names:
                if name not in all_names:
                    raise ValueError(
                        f"the {kind} must be one of {', '.join(all_names)}, got {name!r}"
                    )
        chosen = tuple(n for n in self.entrants if not entrants or n in {*entrants, "sgd"})
        some = tuple(task for task in self.tasks if not tasks or task.name in tasks)
        return replace(self, tasks=some, entrants=chosen)

    def runs(self, task: Task) -> int:
        """Return how many runs the task asks for at least; grids that grow have more."""
        return len(self.line_up(task)) * (len(ENTRANTS["sgd"].grid) + len(self.seeds))


QUICK_ENTRANTS = (
    "sgd",
    "adam",
    "kfac",
    "kbfgs_2020",
    "kfqn_cnn",
    "kfqn_cnn_10",
    "kfqn_cnn_l",
    "kfqn_lean",
)

FULL_ENTRANTS = tuple(name for name in ENTRANTS if name not in {"adam", "kfqn_lean"})
"""No more of ours than of the others'; AdamW stands for Adam."""

SUITES = {
    suite.name: suite
    for suite in (
        Suite("full", FULL, FULL_ENTRANTS, FRESH_SEEDS, 40),
        Suite("quick", QUICK, QUICK_ENTRANTS, (0, 1), 20),
        Suite("smoke", SMOKE, ("sgd", "adam", "kfqn_cnn"), (0,), 10),
    )
}


def tuning_points(task: Task, entrant: Entrant, store: Store) -> list[Point]:
    """Return the points of the grid, with those that it grows by, as far as the store can say."""
    points = [_tuning_point(task, entrant, hyper) for hyper in entrant.grid_for(task)]
    while all(point.key in store for point in points):
        new = _missing(points, store)
        if not new or len(points) + len(new) > LIMIT:
            break
        points += [_tuning_point(task, entrant, hyper) for hyper in new]
    return points


def _tuning_point(task: Task, entrant: Entrant, hyper: dict[str, Any]) -> Point:
    return Point(task.name, entrant.name, "tune", TUNING_SEED, task.tuning_steps, hyper)


def _missing(points: Sequence[Point], store: Store) -> list[dict[str, Any]]:
    return missing([(point.hyper, store[point.key]["score"]) for point in points])


def is_interior(task: Task, entrant: Entrant, store: Store) -> bool:
    """Return whether the best point of the grid has tried neighbours on all sides."""
    points = tuning_points(task, entrant, store)
    return all(point.key in store for point in points) and not _missing(points, store)


def tuned(task: Task, entrant: Entrant, store: Store) -> dict[str, Any] | None:
    """Return the best grid point's record, None where every point diverged."""
    records = [store[p.key] for p in tuning_points(task, entrant, store) if p.key in store]
    sound = [r for r in records if r["score"] is not None]
    return min(sound, key=lambda r: r["score"]) if sound else None


def final_points(suite: Suite, task: Task, entrant: Entrant, store: Store) -> list[Point]:
    """Return the points of the fresh seeds with the tuned hyper-parameters."""
    best = tuned(task, entrant, store)
    if best is None:
        return []
    return [
        Point(task.name, entrant.name, "final", s, task.steps, best["hyper"]) for s in suite.seeds
    ]


def run_suite(suite: Suite, store: Store, tell: Tell = lambda key: None) -> None:
    """Run every point that the store does not have yet, then measure step times; ``tell`` hears
    each key.
    """
    for task in suite.tasks:
        images = task.images()
        for entrant in suite.line_up(task):
            tune(task, images, entrant, store, tell)
            _run(task, images, entrant, final_points(suite, task, entrant, store), store, tell)
        measure(suite, task, images, store)


def tune(
    task: Task, images: Images, entrant: Entrant, store: Store, tell: Tell = lambda key: None
) -> None:
    """Run the grid of an entrant, as long as it grows."""
    count = 0
    points = tuning_points(task, entrant, store)
    while count < len(points):
        _run(task, images, entrant, points[count:], store, tell)
        count = len(points)
        points = tuning_points(task, entrant, store)


def _run(
    task: Task,
    images: Images,
    entrant: Entrant,
    points: list[Point],
    store: Store,
    tell: Callable[[str], None],
) -> None:
    for point in points:
        if point.key not in store:
            store.add(run_point(task, images, entrant, point))
        tell(point.key)


def measure(suite: Suite, task: Task, images: Images, store: Store) -> None:
    """Measure the step times of all entrants that are tuned, unless the store has them already."""
    key = f"time/{task.name}"
    chosen = {}
    for entrant in (e for e in ENTRANTS.values() if e.runs(task)):
        best = tuned(task, entrant, store)
        if best is not None and math.isfinite(best["score"]):
            chosen[entrant.name] = best["hyper"]
    known = key in store and set(chosen) <= set(store[key]["times"])
    if "sgd" in chosen and not known:
        store.add({"key": key, "times": step_times(task, images, chosen, suite.rounds)})
