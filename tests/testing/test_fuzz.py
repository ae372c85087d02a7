"""The fuzzer: finds a planted mistake, writes it as a test that fails, and stops when its time is
up.
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kfqn_ref.testing import Violation, fuzz
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.mutants import MUTANTS

PLANTED = SimpleNamespace(**{"optimizer_steps": MUTANTS["optimizer_steps:one_sided"].function})


def _import(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_planted_mistake_becomes_a_test_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "PLANTED", PLANTED, raising=False)
    target = "kfqn_ref.testing.adapters.reference:PLANTED"
    check = next(check for check in fuzz.all_checks() if check.name == "optimizer.direction")
    found = fuzz._try(check, fuzz.load(target), 0)
    assert found.case is not None
    path = fuzz.save(tmp_path, check.name, target, found.case, found.error)
    module = _import(path)
    test = next(value for name, value in vars(module).items() if name.startswith("test_"))
    with pytest.raises(Violation, match="W of block"):
        test()
    monkeypatch.setattr(reference, "PLANTED", reference.REFERENCE, raising=False)
    test()


def test_it_stops_when_the_time_is_up(tmp_path: Path) -> None:
    assert fuzz.fuzz(0.0, tmp_path) == (0, [])
    assert list(tmp_path.iterdir()) == []
