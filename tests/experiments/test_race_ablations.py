"""The ablations: every variant runs and is what its label says; the sentences follow from the
numbers.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kfqn_ref.experiments.race import ablations
from kfqn_ref.experiments.race.ablations_show import plot_all, show_all, widths
from kfqn_ref.experiments.race.run import mini_batches
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.tasks import SMOKE, Images
from kfqn_ref.optim.inverses import DenseInverse

STUDIES = {study.name: study for study in ablations.STUDIES}


@pytest.fixture(scope="module")
def images() -> Images:
    return SMOKE[0].images()


def weights_after(images: Images, variant: ablations.Variant, steps: int = 3) -> torch.Tensor:
    model = SMOKE[0].model(8, 0)
    step = variant.start(images)(SMOKE[0], model, ablations.BASE, 0)
    for x, y in mini_batches(images, 32, steps, 0):
        step(x, y)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_of_a_study_walks_its_own_way(images: Images, name: str) -> None:
    """Memory is the exception: 20 and 100 pairs are all pairs as long as there are no more than
    20.
    """
    walks = {v.label: weights_after(images, v) for v in STUDIES[name].variants}
    base, *others = walks.values()
    torch.testing.assert_close(base, weights_after(images, ablations.THE_BASE), rtol=0, atol=0)
    assert all(torch.isfinite(walk).all() for walk in walks.values())
    same = [
        label
        for label, walk in list(walks.items())[1:]
        if torch.allclose(walk, base, rtol=0, atol=1e-6)
    ]
    assert set(same) <= ({"5", "20", "100"} if name == "memory" else {"eager 20, then 10"})
    assert len(others) > len(same) or name == "memory"


def test_the_dampings_are_the_formulas_they_are_named_by() -> None:
    H = DenseInverse.start(torch.eye(2, dtype=torch.float64)[None])
    s, y = (
        torch.tensor([[1.0, 0.0]]).double(),
        torch.tensor([[-1.0, 1.0]]).double(),
    )  # sᵀy = −1, yᵀHy = 2
    for damp, s_damped, y_damped in (
        (ablations.undamped_, [1.0, 0.0], [-1.0, 1.0]),
        (ablations.lm_only_, [1.0, 0.0], [-0.5, 1.0]),  # y + 0.5 s
        (ablations.powell_only_, [1 - 14 / 15, 7 / 15], [-1.0, 1.0]),  # θ = 0.8 · 2 / 3 = 8/15
    ):
        ours = s.clone(), y.clone()
        damp(H, *ours, 0.2, 0.5)
        torch.testing.assert_close(ours[0][0], torch.tensor(s_damped).double())
        torch.testing.assert_close(ours[1][0], torch.tensor(y_damped).double())


def found(store: Store) -> dict:
    """The results of made-up runs: losses 1, 2, 3 for the seeds of the base, others by their
    label.
    """
    scale = {"LM only": 0.1, "none": None, "DD": 10.0}
    for study in ablations.STUDIES:
        for variant in study.variants:
            for point in ablations._points(study, variant):
                factor = scale.get(variant.label, 1.0)
                losses = [] if factor is None else [factor * (point.seed + 1.0)] * point.steps
                store.add({"key": point.key, "score": factor, "losses": losses})
    for name in ablations.MAPS:
        for point in ablations._map_points(name):
            score = None if point.hyper["lr"] > 0.5 else 1.0
            store.add(
                {"key": point.key, "score": score, "losses": [point.hyper["lr"]] * point.steps}
            )
    return ablations.results(store)


def test_sentences_compare_all_seeds_and_name_divergence(tmp_path: Path) -> None:
    result = found(Store(tmp_path / "ablations.jsonl"))
    sentence = result["studies"]["damping"]["sentence"]
    assert "Base: D_P D_LM (2.000)" in sentence
    assert "DD is worse (20.000)" in sentence
    assert "Powell only makes no difference beyond the seeds' (2.000)" in sentence
    assert "LM only is better (0.200)" in sentence
    assert "none diverges on 3 of 3 seeds" in sentence


def test_results_are_shown_and_drawn(tmp_path: Path) -> None:
    result = json.loads(json.dumps(found(Store(tmp_path / "ablations.jsonl"))))
    plot_all(result, tmp_path)
    for name in ("ablations.png", "sensitivity.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    console = Console(record=True, width=200)
    show_all(result, console)
    text = console.export_text()
    assert all(study.question in text for study in ablations.STUDIES)


def test_the_width_of_the_good_region() -> None:
    points = [
        {"lr": 0.1, "loss": 2.4},
        {"lr": 0.2, "loss": 2.0},
        {"lr": 0.3, "loss": 2.6},
        {"lr": 1.0, "loss": None},
    ]
    (line,) = widths({"sgd": points})
    assert "best loss 2.000 at lr 0.2" in line
    assert "2 of 4 points, lr from 0.1 to 0.2" in line


def test_nothing_is_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a stored point was run again")

    store = Store(tmp_path / "ablations.jsonl")
    found(store)
    monkeypatch.setattr(ablations, "run_point", never)
    small = SMOKE[0].images()
    monkeypatch.setattr(type(ablations.TASK), "images", lambda _: small)
    told: list[str] = []
    ablations.run_ablations(store, told.append)
    assert len(told) == ablations.runs()


def test_the_base_is_the_first_variant_of_every_study() -> None:
    for study in ablations.STUDIES:
        assert replace(study.variants[0], label="base") == ablations.THE_BASE
