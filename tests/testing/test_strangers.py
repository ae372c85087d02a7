"""Files of strangers: each wrong one is refused, each right one accepted; none is a mutant."""

import sys
from pathlib import Path

import pytest

from kfqn_ref.testing import Effort, all_checks, run_check, run_checks
from kfqn_ref.testing.implementation import Implementation, UnusableImplementation, load

sys.path.insert(0, str(Path(__file__).parent))
from strangers import RIGHT, WRONG  # a neighbour of this file, which is not a package


def _load(folder: Path, source: str) -> Implementation:
    path = folder / "kernel.py"
    path.write_text(source, encoding="utf-8")
    return load(path)


def _first_failure(stranger: Implementation) -> str:
    for check in all_checks():
        if stranger.provides(check.requires):
            result = run_check(check, stranger, Effort(100, shrink=False))
            if result.outcome == "failed":
                return check.name
    return ""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused(name: str, tmp_path: Path) -> None:
    assert _first_failure(_load(tmp_path, WRONG[name]))


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_file_is_accepted(name: str, tmp_path: Path) -> None:
    stranger = _load(tmp_path, RIGHT[name])
    report = run_checks(stranger, effort=Effort(20))
    assert [(result.check.name, result.failure) for result in report.failed] == []


def test_a_precision_without_tolerances_is_refused() -> None:
    with pytest.raises(UnusableImplementation, match="float16; the tolerances are known for"):
        load({"lm_damp": lambda s, y, *, lam: y + lam * s, "precision": "float16"})
