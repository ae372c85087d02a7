"""From points to results: losses at equal steps and at equal time, steps and time to a target,
verdicts.

The loss that is compared is the mean of the last ``WINDOW`` mini-batch losses. The time of a step
is the measured ratio of means to SGD's, so that time is counted in steps of SGD; the budget of
"equal time" is the time of SGD's whole run. The target is the largest of SGD's losses at the end:
every seed of SGD reaches it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from kfqn_ref.experiments.race.entrants import ENTRANTS, Entrant
from kfqn_ref.experiments.race.intervals import difference
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.suite import (
    Suite,
    final_points,
    is_interior,
    tuned,
    tuning_points,
)
from kfqn_ref.experiments.race.tasks import Task

WINDOW = 20


def smoothed(losses: Sequence[float], n: int) -> float:
    """Return the mean of the last ``WINDOW`` of the first ``n`` losses."""
    return statistics.fmean(losses[max(0, n - WINDOW) : n])


def steps_to(losses: Sequence[float], target: float) -> int | None:
    """Return after how many steps the smoothed loss first is at most ``target``; None if it never
    is.
    """
    reached = (
        n for n in range(min(WINDOW, len(losses)), len(losses) + 1) if smoothed(losses, n) <= target
    )
    return next(reached, None)


def summary(suite: Suite, store: Store) -> dict[str, Any]:
    """Return the results of every task that has runs of SGD, as plain values."""
    return {
        task.name: task_summary(suite, task, store)
        for task in suite.tasks
        if _losses(suite, task, ENTRANTS["sgd"], store)
    }


def task_summary(suite: Suite, task: Task, store: Store) -> dict[str, Any]:
    """Return target, rows and verdicts of a task."""
    target = max(
        smoothed(losses, task.steps) for losses in _losses(suite, task, ENTRANTS["sgd"], store)
    )
    times = store[f"time/{task.name}"]["times"] if f"time/{task.name}" in store else {}
    rows = {
        entrant.name: row(suite, task, entrant, store, target, times.get(entrant.name))
        for entrant in suite.line_up(task)
        if any(point.key in store for point in tuning_points(task, entrant, store))
    }
    base = rows["sgd"]["steps_to_target"]
    for found in rows.values():
        _add_ratios(found, base)
    verdicts = {measure: verdict(rows, measure) for measure in ("loss", "loss_at_equal_time")}
    return {
        "title": task.title, "batch": task.batch, "steps": task.steps,
        "tuning_steps": task.tuning_steps, "target": target, "rows": rows, "verdicts": verdicts,
    }  # fmt: skip  # one record


def row(
    suite: Suite,
    task: Task,
    entrant: Entrant,
    store: Store,
    target: float,
    time: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Return what a task found about one entrant; a seed that diverged leaves None in its place."""
    points = [p for p in final_points(suite, task, entrant, store) if p.key in store]
    records = [store[p.key] for p in points]
    best = tuned(task, entrant, store)
    runs = [_losses_and_end(record) for record in records]
    losses = [run[0] for run in runs]
    ends = [run[1] for run in runs]
    affordable = None
    at_equal_time = []
    if time:
        affordable = min(task.steps, int(task.steps / time["mean_ratio"]))
    if affordable:
        at_equal_time = [x and smoothed(x, affordable) for x in losses]
    return {
        "label": entrant.label,
        "ours": entrant.ours,
        "note": entrant.note,
        "hyper": best and best["hyper"],
        "tuning_loss": best and best["score"],
        "points": len(tuning_points(task, entrant, store)),
        "interior": is_interior(task, entrant, store),
        "loss": [x and smoothed(x, task.steps) for x in losses],
        "held_out_train_loss": [end.get("train_loss") for end in ends],
        "test_loss": [end.get("test_loss") for end in ends],
        "test_error": [end.get("test_error") for end in ends],
        "steps_at_equal_time": affordable,
        "loss_at_equal_time": at_equal_time,
        "steps_to_target": _median([x and steps_to(x, target) for x in losses]),
        "time": time and dict(time),
    }


def _losses_and_end(record: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """Return the losses and the last evaluation of a run; nothing of one that diverged."""
    if record["score"] is None:
        return None, {}
    return record["losses"], record["evaluations"][-1]


def _add_ratios(found: dict[str, Any], base: float | None) -> None:
    steps = found["steps_to_target"]
    time = found["time"]
    found["steps_ratio"] = steps / base if steps and base else None
    found["time_ratio"] = (
        found["steps_ratio"] * time["mean_ratio"] if found["steps_ratio"] and time else None
    )


def _losses(suite: Suite, task: Task, entrant: Entrant, store: Store) -> list[list[float]]:
    points = (p for p in final_points(suite, task, entrant, store) if p.key in store)
    return [store[p.key]["losses"] for p in points if store[p.key]["score"] is not None]


def _median(values: Sequence[int | None]) -> float | None:
    """Return the median where most seeds have a value (the rest count as never), else None."""
    known = sorted(v for v in values if v is not None)
    middle = len(values) // 2
    return float(known[middle]) if len(known) > middle else None


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, None where a seed diverged or there is none."""
    return (
        statistics.fmean(v for v in values if v is not None)
        if values and None not in values
        else None
    )


def verdict(rows: Mapping[str, Mapping[str, Any]], measure: str) -> dict[str, Any] | None:
    """Return how our best entrant compares with the best of the others, both by their mean over the
    seeds.

    What is compared is the difference of the two, seed by seed. Its interval has the level
    1 - 0.05/(ours times others), Bonferroni's for all pairs of an entrant of ours and another: so
    a side that sends more entrants gains nothing by it. "better" if the whole interval is below 0,
    "worse" if it is above, else "not better".
    """
    sides: dict[bool, tuple[float, str]] = {}
    counts = {True: 0, False: 0}
    for name, found in rows.items():
        counts[found["ours"]] += 1
        value = mean(found[measure])
        if value is not None and (found["ours"] not in sides or value < sides[found["ours"]][0]):
            sides[found["ours"]] = value, name
    if len(sides) < 2:
        return None
    our_mean, our_name = sides[True]
    their_mean, their_name = sides[False]
    level = 1 - 0.05 / (counts[True] * counts[False])
    gap = difference(rows[our_name][measure], rows[their_name][measure], level)
    word = "not better"
    if gap["high"] is not None and gap["high"] < 0:
        word = "better"
    elif gap["low"] is not None and gap["low"] > 0:
        word = "worse"
    names = {"ours": our_name, "theirs": their_name}
    means = {"our_mean": our_mean, "their_mean": their_mean}
    return {"verdict": word, **names, **means, "level": level, "difference": gap}
