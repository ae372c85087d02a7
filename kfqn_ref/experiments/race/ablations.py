"""Ablations: one field of the method changed at a time, on a small CNN; and how sensitive the step
size is.

The base is KF-BFGS-CNN as published (curvature every iteration, D_P D_LM damping, Hessian action).
Step size and damping stay the base's: an ablation shows what a part does there, not how well the
rest could be tuned without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.experiments.race.entrants import (
    ENTRANTS,
    Entrant,
    Hyper,
    Stepper,
    ladder,
    product,
    stepper,
)
from kfqn_ref.experiments.race.report import smoothed
from kfqn_ref.experiments.race.run import Point, mini_batches, run_point
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.tasks import FASHION, Images, Task, small_cnn
from kfqn_ref.optim import KFQN
from kfqn_ref.optim.inverses import Stack
from kfqn_ref.optim.kernels import lm_damp_, powell_damp_
from kfqn_ref.optim.presets import dd_, location_split

TASK = Task(
    "ablations", "small CNN, Fashion-MNIST at 14x14", FASHION, small_cnn, 64, 80, 50, pool=2
)
BASE = {"lr": 0.3, "damping": 0.003}
SEEDS = (0, 1, 2)
WARM_BATCHES = 20


def undamped_(H: Stack, s: Tensor, y: Tensor, mu1: float, lam: Tensor) -> Tensor:
    """Leave the pair as it is."""
    return torch.ones_like(s[..., 0])


def powell_only_(H: Stack, s: Tensor, y: Tensor, mu1: float, lam: Tensor) -> Tensor:
    """Powell's damping (2.1) alone."""
    return powell_damp_(s, y, H.apply(y), mu1=mu1)


def lm_only_(H: Stack, s: Tensor, y: Tensor, mu1: float, lam: Tensor) -> Tensor:
    """Levenberg-Marquardt's damping (2.3) alone."""
    lm_damp_(s, y, lam=lam)
    return torch.ones_like(s[..., 0])


@dataclass(frozen=True)
class Variant:
    """The base with something changed.

    Args:
        label: what the plot calls it.   preset: where it starts from.   options: of the optimizer.
        fields: of the preset, for what no published variant has.
        warm: whether it starts from a warm start.
    """

    label: str
    preset: str = "kfqn_cnn"
    options: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    warm: bool = False

    def start(self, images: Images) -> Callable[[Task, nn.Module, Hyper, int], Stepper]:
        """Return how a run of it starts."""

        def start(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
            opt = KFQN(model, self.preset, **{**hyper, **self.options})
            changed = replace(opt.method.preset, **self.fields)
            opt.method = replace(opt.method, preset=changed)
            if self.warm:
                opt.warm_start(x for x, _ in mini_batches(images, task.batch, WARM_BATCHES, seed))
            return stepper(task, model, opt)

        return start


@dataclass(frozen=True)
class Study:
    """One question: its variants, the first of which is the base."""

    name: str
    question: str
    variants: tuple[Variant, ...]


THE_BASE = Variant("base")

STUDIES = (
    Study("damping", "Which damping of the output pair?", (
        replace(THE_BASE, label="D_P D_LM"),
        Variant("DD", fields={"damp": dd_}),
        Variant("Powell only", fields={"damp": powell_only_}),
        Variant("LM only", fields={"damp": lm_only_}),
        Variant("none", fields={"damp": undamped_}),
    )),
    Study("action", "Hessian action, or the exact inverse of A?", (
        replace(THE_BASE, label="Hessian action"),
        Variant("action on averaged A", fields={"averages_A": True}),
        Variant("exact inverse", fields={"convergent": True}),
    )),
    Study("interval", "Curvature every how many iterations?", (
        replace(THE_BASE, label="1"),
        *(Variant(str(n), options={"curvature_interval": n}) for n in (5, 20, 100)),
        Variant("eager 20, then 10", preset="kfqn_eager"),
    )),
    Study("memory", "How many pairs for H_g?", (
        replace(THE_BASE, label="all (BFGS)"),
        *(Variant(str(p), preset="kfqn_cnn_l", options={"memory": p}) for p in (1, 5, 20, 100)),
    )),
    Study("averaging", "Are the output pairs averaged?", (
        replace(THE_BASE, label="decay 0.9"),
        Variant("decay 0.5", options={"pair_decay": 0.5}),
        Variant("no", options={"pair_decay": 0.0}),
    )),
    Study("split", "How is the damping split?", (
        replace(THE_BASE, label="√λ, √λ"),
        Variant("√(λ|T|), √(λ/|T|)", fields={"split": location_split}),
    )),
    Study("momentum", "How much momentum?", (
        replace(THE_BASE, label="0.9"),
        *(Variant(str(b), options={"momentum": b}) for b in (0.0, 0.5, 0.8, 0.95)),
    )),
    Study("start", "What does H_a start from?", (
        replace(THE_BASE, label="first batch"),
        Variant("20 batches", warm=True),
        Variant("lean: a scale", options={"input_inverse": "lbfgs"}),
    )),
)  # fmt: skip  # a table

MAPS: dict[str, list[dict[str, Any]]] = {
    "kfqn_eager": product(
        lr=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0), damping=(1e-4, 1e-3, 1e-2, 0.1, 1.0)
    ),
    "sgd": ladder(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0),
    "adam": ladder(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1),
}
"""Step sizes (and dampings) of the sensitivity study."""


def _name(study: Study, variant: Variant) -> str:
    return "base" if variant is study.variants[0] else f"{study.name}={variant.label}"


def _points(study: Study, variant: Variant) -> list[Point]:
    return [
        Point(TASK.name, _name(study, variant), "final", seed, TASK.steps, BASE) for seed in SEEDS
    ]


def _map_points(name: str) -> list[Point]:
    return [Point(TASK.name, name, "map", 0, TASK.tuning_steps, hyper) for hyper in MAPS[name]]


def runs() -> int:
    """Return how many runs there are."""
    variants = sum(len(study.variants) for study in STUDIES)
    return variants * len(SEEDS) + sum(map(len, MAPS.values()))


def run_ablations(store: Store, tell: Callable[[str], None] = lambda key: None) -> None:
    """Run what the store does not have yet."""
    images = TASK.images()
    for study in STUDIES:
        for variant in study.variants:
            entrant = replace(
                ENTRANTS["kfqn_cnn"], name=_name(study, variant), start=variant.start(images)
            )
            _run(images, entrant, _points(study, variant), store, tell)
    for name in MAPS:
        _run(images, ENTRANTS[name], _map_points(name), store, tell)


def _run(
    images: Images, entrant: Entrant, points: list[Point], store: Store, tell: Callable[[str], None]
) -> None:
    for point in points:
        if point.key not in store:
            store.add(run_point(TASK, images, entrant, point))
        tell(point.key)


def results(store: Store) -> dict[str, Any]:
    """Return the losses of every variant and the maps, as plain values; None where a run
    diverged.
    """
    studies = {study.name: _study(study, store) for study in STUDIES}
    maps = {name: _found_map(name, store) for name in MAPS}
    task = {
        "title": TASK.title,
        "batch": TASK.batch,
        "steps": TASK.steps,
        "map_steps": TASK.tuning_steps,
    }
    return {**task, "base": BASE, "seeds": len(SEEDS), "studies": studies, "maps": maps}


def _found_map(name: str, store: Store) -> list[dict[str, Any]]:
    return [{**p.hyper, "loss": _loss(store, p)} for p in _map_points(name) if p.key in store]


def _loss(store: Store, point: Point) -> float | None:
    record = store[point.key]
    return None if record["score"] is None else smoothed(record["losses"], point.steps)


def _study(study: Study, store: Store) -> dict[str, Any]:
    losses = {
        variant.label: [_loss(store, p) for p in _points(study, variant) if p.key in store]
        for variant in study.variants
    }
    return {"question": study.question, "losses": losses, "sentence": sentence(study, losses)}


def sentence(study: Study, losses: dict[str, list[float | None]]) -> str:
    """Say which variants differ from the base by more than the seeds do, and which diverged."""
    base, *others = (variant.label for variant in study.variants)
    own = [v for v in losses[base] if v is not None]
    if not own or None in losses[base]:
        return f"{study.question} The base {base} has no result."
    words = []
    for label in others:
        runs = losses[label]
        diverged = sum(v is None for v in runs)
        known = [v for v in runs if v is not None]
        if diverged:
            words.append(f"{label} diverges on {diverged} of {len(runs)} seeds")
        elif known and max(known) < min(own):
            words.append(f"{label} is better ({_mean(known):.3f})")
        elif known and min(known) > max(own):
            words.append(f"{label} is worse ({_mean(known):.3f})")
        elif known:
            words.append(f"{label} makes no difference beyond the seeds' ({_mean(known):.3f})")
    return f"{study.question} Base: {base} ({_mean(own):.3f}); {'; '.join(words)}."


def _mean(values: list[Any]) -> float:
    return sum(values) / len(values)
