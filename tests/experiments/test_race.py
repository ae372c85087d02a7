"""The race: one rule for all, every point repeats, a killed race goes on, and numbers mean what
they say.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from kfqn_ref.cli import app
from kfqn_ref.experiments.race import report
from kfqn_ref.experiments.race.entrants import ENTRANTS, GRID_SIZE, Entrant, plain, product
from kfqn_ref.experiments.race.grid import LIMIT, best_of, missing
from kfqn_ref.experiments.race.inputs import InputFactors, hidden_weights
from kfqn_ref.experiments.race.run import Point, evaluation_marks, mini_batches, run_point
from kfqn_ref.experiments.race.show import line_style, spread
from kfqn_ref.experiments.race.store import Store
from kfqn_ref.experiments.race.suite import (
    SUITES,
    TUNING_SEED,
    final_points,
    is_interior,
    run_suite,
    tuned,
    tuning_points,
)
from kfqn_ref.experiments.race.tasks import FULL, SMOKE, Images
from kfqn_ref.experiments.race.timing import step_times, with_ratios

TASK, SUITE = SMOKE[0], SUITES["smoke"]


@pytest.fixture(scope="module")
def images() -> Images:
    return TASK.images()


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole smoke race, run by the command."""
    out = tmp_path_factory.mktemp("race")
    result = CliRunner().invoke(app, ["race", "smoke", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


def records(path: Path) -> dict[str, dict]:
    return {record["key"]: record for record in map(json.loads, path.read_text().splitlines())}


def test_the_race_writes_every_run_of_its_rule_and_a_plot(raced: Path) -> None:
    found = records(raced / "smoke.jsonl")
    store = Store(raced / "smoke.jsonl")
    points = [
        point.key
        for entrant in SUITE.line_up(TASK)
        for point in (
            *tuning_points(TASK, entrant, store),
            *final_points(SUITE, TASK, entrant, store),
        )
    ]
    assert found.keys() == {*points, "time/cnn"}
    assert len(points) >= len(SUITE.entrants) * (GRID_SIZE + len(SUITE.seeds))
    assert (raced / "smoke-cnn.png").read_bytes().startswith(b"\x89PNG")


def test_the_record_says_how_it_was_made_and_agrees_with_the_lines(raced: Path) -> None:
    record = json.loads((raced / "smoke.json").read_text())
    assert record["command"] == "kfqn race smoke"
    assert {"torch", "kfqn_ref", "pytorch-optimizer"} <= set(record["versions"])
    assert "node" not in record["machine"]
    sgd = record["tasks"]["cnn"]["rows"]["sgd"]
    lines = records(raced / "smoke.jsonl")
    key = Point("cnn", "sgd", "final", 0, TASK.steps, sgd["hyper"]).key
    assert sgd["loss"] == [pytest.approx(sum(lines[key]["losses"][-20:]) / 20)]
    scores = [
        r["score"] for r in lines.values() if r.get("phase") == "tune" and r["entrant"] == "sgd"
    ]
    assert sgd["tuning_loss"] == min(s for s in scores if s is not None)
    assert sgd["steps_ratio"] == sgd["time"]["mean_ratio"] == sgd["time_ratio"] == 1


def test_a_killed_race_goes_on_to_the_same_points(raced: Path, tmp_path: Path) -> None:
    whole = (raced / "smoke.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_text(
        "".join(lines[:11]) + lines[11][:40]
    )  # killed while writing a line
    run_suite(SUITE, Store(tmp_path / "part.jsonl"))
    again, before = records(tmp_path / "part.jsonl"), records(raced / "smoke.jsonl")
    assert again.keys() == before.keys()
    points = [key for key in before if not key.startswith("time/")]
    assert [again[key] for key in points] == [before[key] for key in points]


def test_a_finished_race_only_reports(raced: Path) -> None:
    before = (raced / "smoke.jsonl").read_bytes()
    result = CliRunner().invoke(app, ["race", "smoke", "--out", str(raced)])
    assert result.exit_code == 0
    assert (raced / "smoke.jsonl").read_bytes() == before
    assert "tuning, the same for all" in result.output


def test_a_damaged_file_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "smoke.jsonl").write_text('{"key": "a"}\nnonsense\n{"key": "b"}\n')
    result = CliRunner().invoke(app, ["race", "smoke", "--out", str(tmp_path)])
    assert result.exit_code == 2
    with pytest.raises(ValueError, match=r"smoke\.jsonl:2 must be a JSON object"):
        Store(tmp_path / "smoke.jsonl")


def test_every_entrant_begins_with_the_same_number_of_grid_points(tmp_path: Path) -> None:
    empty = Store(tmp_path / "none.jsonl")
    for entrant in ENTRANTS.values():
        assert len(entrant.grid) == GRID_SIZE
        keys = {p.key for task in FULL for p in tuning_points(task, entrant, empty)}
        assert len(keys) == GRID_SIZE * len(FULL)
    with pytest.raises(ValueError, match="must have 6 points, got 1"):
        Entrant("x", "x", plain(torch.optim.SGD), [{"lr": 0.1}])


def test_an_entrant_whose_package_is_missing_stays_away() -> None:
    absent = replace(ENTRANTS["soap"], needs=("torch", "no_such_package"))
    assert not absent.installed
    assert not absent.runs(TASK)


def test_tuning_takes_the_lowest_score_and_final_seeds_are_fresh(tmp_path: Path) -> None:
    store, sgd = Store(tmp_path / "s.jsonl"), ENTRANTS["sgd"]
    scores = [3.0, None, 0.5, 0.7, None, 2.0]
    points = tuning_points(TASK, sgd, store)
    assert final_points(SUITE, TASK, sgd, store) == []
    for point, score in zip(points, scores, strict=True):
        store.add({"key": point.key, "score": score, "hyper": point.hyper})
    best = tuned(TASK, sgd, store)
    assert best is not None
    assert best["hyper"] == points[2].hyper
    final = final_points(SUITE, TASK, sgd, store)
    assert [p.hyper for p in final] == [points[2].hyper] * len(SUITE.seeds)
    assert TUNING_SEED not in {p.seed for p in final}


@pytest.mark.parametrize("best", [(0.3, 0.1), (8.0, 0.01), (0.02, 2.0), (0.1, 1e-3)])
def test_a_grid_grows_until_its_best_point_is_interior(best: tuple[float, float]) -> None:
    """Of a loss that rises with the distance from ``best``, in logarithms."""

    def loss(hyper: dict) -> float:
        return abs(math.log(hyper["lr"] / best[0])) + abs(math.log(hyper["damping"] / best[1]))

    tried = [(hyper, loss(hyper)) for hyper in product(lr=(0.1, 0.3, 1.0), damping=(0.01, 0.1))]
    while new := missing(tried):
        assert not {str(hyper) for hyper in new} & {str(hyper) for hyper, _ in tried}
        tried += [(hyper, loss(hyper)) for hyper in new]
    found = best_of(tried)
    assert found is not None
    assert 1 / 2 < found["lr"] / best[0] < 2
    assert 1 / 3 < found["damping"] / best[1] < 3


def test_a_grid_that_only_diverges_goes_down() -> None:
    tried = [({"lr": lr}, None) for lr in (0.1, 0.3)]
    assert missing(tried) == [{"lr": 0.01}]


def test_a_grid_that_never_ends_stops_at_the_limit(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.jsonl")
    sgd = ENTRANTS["sgd"]
    count = 0
    while count < len(points := tuning_points(TASK, sgd, store)):
        for point in points[count:]:
            score = 1 / point.hyper["lr"]  # the larger the step, the better
            store.add({"key": point.key, "score": score, "hyper": point.hyper})
        count = len(points)
    assert count == LIMIT
    assert not is_interior(TASK, sgd, store)


def test_mini_batches_are_epochs_of_permutations_and_depend_on_the_seed_only(
    images: Images,
) -> None:
    size, per_epoch = 100, 15
    marked = images._replace(y=torch.arange(len(images.x)))
    epoch = torch.cat([y for _, y in mini_batches(marked, size, per_epoch, 4)])
    assert len(set(epoch.tolist())) == size * per_epoch  # nothing twice in an epoch
    again = [y.tolist() for _, y in mini_batches(marked, size, 3, 4)]
    other = [y.tolist() for _, y in mini_batches(marked, size, 3, 5)]
    assert again == epoch[: 3 * size].reshape(3, size).tolist() != other


def test_a_run_repeats_and_a_diverging_one_has_no_score(images: Images) -> None:
    point = Point(TASK.name, "sgd", "final", 3, TASK.steps, {"lr": 0.1})
    record = run_point(TASK, images, ENTRANTS["sgd"], point)
    assert record == run_point(TASK, images, ENTRANTS["sgd"], point)
    assert len(record["losses"]) == TASK.steps
    assert record["score"] == record["evaluations"][-1]["train_loss"]
    for lr in (1e6, 1e30):  # the loss is huge, and then not a number
        blown = run_point(TASK, images, ENTRANTS["sgd"], replace(point, hyper={"lr": lr}))
        assert blown["score"] is None
        assert len(blown["losses"]) < TASK.steps
        json.dumps(blown, allow_nan=False)
    assert blown["losses"][-1] is None


def test_all_entrants_start_from_the_same_weights_and_batches(images: Images) -> None:
    """The first loss is taken before anything moved."""
    losses = [
        run_point(TASK, images, ENTRANTS[n], Point(TASK.name, n, "final", 1, 2, h))["losses"][0]
        for n, h in (("sgd", {"lr": 0.1}), ("adam", {"lr": 0.1}), ("kfqn_cnn", {}), ("kfac", {}))
    ]
    assert len(set(losses)) == 1


@pytest.mark.parametrize("task", FULL, ids=lambda task: task.name)
def test_every_model_maps_its_images_to_its_targets(task) -> None:
    side = 8 if task.data == "digits" else 28 // task.pool
    model, x = task.model(side, 0), torch.rand(4, 1, side, side)
    y = x.flatten(1) if task.autoencoder else torch.tensor([0, 1, 2, 3])
    outputs = model(x)
    assert math.isfinite(task.loss(outputs, y).item())
    drawn = task.draw(outputs.detach(), torch.Generator().manual_seed(0))
    assert drawn.shape == y.shape


def test_drawn_targets_follow_the_models_distribution() -> None:
    task, n = TASK, 20_000
    outputs = torch.tensor([0.0, 1.0, 2.0]).repeat(n, 1)
    drawn = task.draw(outputs, torch.Generator().manual_seed(0))
    frequency, p = torch.bincount(drawn, minlength=3) / n, torch.softmax(outputs[0], 0)
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()  # five standard errors


@pytest.mark.parametrize("autoencoder", [False, True])
def test_targets_are_drawn_even_from_outputs_that_are_not_numbers(autoencoder: bool) -> None:
    outputs = torch.full((4, 3), math.nan)
    drawn = replace(TASK, autoencoder=autoencoder).draw(outputs, torch.Generator().manual_seed(0))
    assert torch.isfinite(drawn.double()).all()


def test_a_diverging_entrant_is_timed_from_fresh_weights(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    def start(task, model, hyper, seed):
        starts.append(1)
        calls = iter(range(100))

        def step(x, y):
            if next(calls) == 3:
                raise torch.linalg.LinAlgError("a factor of NaN")
            return 0.0

        return step

    monkeypatch.setitem(ENTRANTS, "adam", replace(ENTRANTS["adam"], start=start))
    found = step_times(TASK, images, {"sgd": {"lr": 0.1}, "adam": {}}, 2)
    assert len(starts) == 4  # the first, and one after every third step of the twelve rounds
    assert found["adam"]["median_s"] > 0


def test_marks_end_at_the_end() -> None:
    assert evaluation_marks(10, 3) == {4, 7, 10}
    assert evaluation_marks(7, 1) == {7}


def test_smoothing_and_steps_to_a_target() -> None:
    losses = [*[2.0] * 30, *[1.0] * 30]
    assert report.smoothed(losses, 30) == 2.0
    assert report.smoothed(losses, 40) == 1.5  # ten of each in the window of 20
    assert report.steps_to(losses, 1.5) == 40
    assert report.steps_to(losses, 0.9) is None


def test_the_median_counts_seeds_that_never_arrive() -> None:
    assert report._median([5, 7, None]) == 7
    assert report._median([5, None, None]) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [([1.0, 1.2, 1.4], [2.0, 2.21, 2.4], "better"),
     ([1.0, 1.2, 1.4], [1.1, 1.5, 1.5], "not better"),
     ([2.0, 2.21, 2.4], [1.0, 1.2, 1.4], "worse")],
)  # fmt: skip  # a table
def test_verdicts_need_an_interval_without_zero(
    ours: list[float], theirs: list[float], word: str
) -> None:
    rows = {
        "a": {"ours": True, "loss": ours},
        "b": {"ours": True, "loss": [None, 0.1, 0.1]},  # a seed diverged: out of the comparison
        "c": {"ours": False, "loss": theirs},
        "d": {"ours": False, "loss": [9.0, 9.0, 9.0]},
    }
    found = report.verdict(rows, "loss")
    assert found is not None
    assert (found["verdict"], found["ours"], found["theirs"]) == (word, "a", "c")
    assert found["level"] == 1 - 0.05 / 4


def test_more_entrants_make_a_verdict_harder() -> None:
    rows = {
        "a": {"ours": True, "loss": [1.0, 1.2, 1.4]},
        "b": {"ours": False, "loss": [1.2, 1.45, 1.6]},
    }
    found = report.verdict(rows, "loss")
    assert found is not None
    assert found["verdict"] == "better"
    more = {str(i): {"ours": i % 2 == 0, "loss": [9.0, 9.0, 9.0]} for i in range(20)}
    found = report.verdict({**rows, **more}, "loss")
    assert found is not None
    assert found["verdict"] == "not better"


def test_spread_names_divergence() -> None:
    assert spread([1.0, 3.0]) == "2 [1, 3]"
    assert spread([1.0, None]) == "diverged"


def test_no_two_lines_of_a_plot_are_alike() -> None:
    rows = {entrant.name: {"ours": entrant.ours} for entrant in ENTRANTS.values()}
    styles = [tuple(line_style(rows, name).values()) for name in rows]
    assert len(set(styles)) == len(styles)


def test_ratios_are_to_sgd() -> None:
    found = with_ratios({"sgd": (2.0, 4.0), "x": (3.0, 5.0)})
    assert (found["x"]["median_ratio"], found["x"]["mean_ratio"]) == (1.5, 1.25)


def test_a_product_of_axes() -> None:
    assert product(a=(1, 2), b=(3,)) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]


@pytest.mark.parametrize("name", ["muon", "newton_muon"])
def test_muon_leaves_nothing_out(name: str) -> None:
    """Every parameter moves: hidden matrices by Muon, the rest by AdamW."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(12, 10)
    )
    before = [p.detach().clone() for p in model.parameters()]
    step = ENTRANTS[name].start(TASK, model, {"lr": 0.1, "damping": 0.1}, 0)
    step(torch.rand(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_input_factors_are_inverses_of_the_patches_second_moment() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 4), nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.Flatten(), nn.Linear(12, 2)
    )
    hidden = hidden_weights(model)
    assert [p.shape for p in hidden] == [model[1].weight.shape]
    factors = InputFactors(model, hidden, damping=0.5, interval=1)
    x = torch.randn(5, 2, 4, 4)
    model(x)
    z = nn.functional.pad(model[0](x), (1, 1, 1, 1))
    rows = [
        z[n, :, i : i + 3, j : j + 3].flatten() for n in range(5) for i in (0, 2) for j in (0, 2)
    ]
    A = torch.stack(rows).T @ torch.stack(rows) / len(rows)
    damped = A + 0.5 * A.trace() / len(A) * torch.eye(len(A))
    # float32's roundoff, 6e-8, times the condition number of these numbers, 11, times the 18 terms
    # of a product is 1e-5; a wrong patch is an error of order 1
    assert torch.allclose(factors.inverse(hidden[0]) @ damped, torch.eye(len(A)), atol=1e-4)


def test_a_race_can_be_narrowed_and_sgd_stays() -> None:
    part = SUITES["full"].narrowed(["vgg"], ["adamw", "kfqn_eager"])
    assert [task.name for task in part.tasks] == ["vgg"]
    assert part.entrants == ("sgd", "adamw", "kfqn_eager")
    assert SUITE.narrowed([], []) == SUITE
    with pytest.raises(
        ValueError, match="the entrant must be one of sgd, adam, kfqn_cnn, got 'lion'"
    ):
        SUITE.narrowed([], ["lion"])
    result = CliRunner().invoke(app, ["race", "smoke", "--tasks", "gpt"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [("ablations", "--tasks", "cnn"), ("ablations", "--entrants", "sgd"),
     ("ablate-sides", "--entrants", "sgd"), ("ablate-sides", "--tasks", "gpt")],
)  # fmt: skip  # a table
def test_what_a_suite_cannot_be_narrowed_by_is_refused(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["race", *arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert not [*tmp_path.rglob("*.jsonl")]


def test_only_entrants_that_ran_are_reported_and_new_ones_are_timed(
    raced: Path, tmp_path: Path
) -> None:
    (tmp_path / "smoke.jsonl").write_bytes((raced / "smoke.jsonl").read_bytes())
    store = Store(tmp_path / "smoke.jsonl")
    wider = replace(SUITE, entrants=("sgd", "adam", "kfqn_cnn", "kfac"))
    assert "kfac" not in report.task_summary(wider, TASK, store)["rows"]
    run_suite(wider.narrowed([], ["kfac"]), store)
    rows = report.task_summary(wider, TASK, store)["rows"]
    assert all(rows[name]["time"]["mean_ratio"] > 0 for name in wider.entrants)
