"""The times of other people's loops: how they are taken, and what the committed table says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kfqn_ref.experiments import trainer_times
from kfqn_ref.experiments.trainer_times import FEW, LOOPS, PLAIN, WITHOUT_CLOSURE

STORED = Path(__file__).parents[2] / "book/data/trainer_times.json"


def test_what_a_trainer_does_before_its_loop_does_not_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = {  # before the loop, and a step
        PLAIN: (0.0, 0.25),
        "a trainer": (100.0, 0.5),
        WITHOUT_CLOSURE: (0.0, 0.125),
        "transformers": (100.0, 0.5),
    }
    disturbed = iter([1.0] * 8 + [0.0] * 8)  # the second of two turns is not

    def seconds(train: Any, steps: int) -> float:
        before, each = waits[train]
        return before + each * steps + next(disturbed)

    monkeypatch.setattr(trainer_times, "seconds", seconds)
    trains: dict[str, Any] = {name: name for name in waits}
    plain, trainer, without, transformers = trainer_times.measured(trains, steps=FEW + 4, turns=2)
    assert plain == {"loop": PLAIN, "milliseconds": 250.0, "over_plain": 1.0}
    assert without == {"loop": WITHOUT_CLOSURE, "milliseconds": 125.0, "over_plain": 1.0}
    assert transformers == {"loop": "transformers", "milliseconds": 500.0, "over_plain": 4.0}
    assert trainer == {"loop": "a trainer", "milliseconds": 500.0, "over_plain": 2.0}


def test_a_loop_is_timed_and_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trainer_times, "loops", lambda: {PLAIN: trainer_times.plain})
    monkeypatch.setattr(trainer_times, "BATCH", 2)
    monkeypatch.setattr(trainer_times, "LOOPS", {})
    threads = torch.get_num_threads()
    try:
        trainer_times.main(tmp_path / "times.json", steps=FEW + 5, turns=1)
    finally:
        torch.set_num_threads(threads)
    written = json.loads((tmp_path / "times.json").read_text(encoding="utf-8"))
    (row,) = written["rows"]
    assert row["over_plain"] == 1
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert {*written} == {*stored}


def test_the_committed_table_has_every_loop() -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert [row["loop"] for row in stored["rows"]] == [PLAIN, WITHOUT_CLOSURE, *LOOPS]
    assert all(row["milliseconds"] > 0 for row in stored["rows"])
    assert {"torch", *(library for _, library in LOOPS.values())} <= {*stored["versions"]}
