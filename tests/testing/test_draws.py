"""Draws depend on the seed alone: not on the modules that are loaded, and no folder is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis.internal.conjecture.providers import HypothesisProvider

from kfqn_ref.testing import independence

# A program that draws integers, with or without the switch, after it loaded a local module or none.
PROGRAM = """
import importlib, sys
from contextlib import nullcontext
from hypothesis import given, settings, strategies as st
from kfqn_ref.testing.independence import independent_draws
loaded, switch = sys.argv[1:]
if loaded != "none":
    importlib.import_module(loaded)
drawn = []
@settings(derandomize=True, database=None, max_examples=400)
@given(st.integers(0, 10**9))
def draw(k):
    drawn.append(k)
with independent_draws() if switch == "on" else nullcontext():
    draw()
print(drawn)
"""


def _drawn(folder: Path, module: str, switch: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, switch],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "project"  # its name must not contain "test": such files are no local modules
    home.mkdir()
    constants = ", ".join(str(10**6 + 37 * k) for k in range(300))
    (home / "numbers_of_mine.py").write_text(f"NUMBERS = [{constants}]\n", encoding="utf-8")
    return home


def test_draws_do_not_depend_on_loaded_modules(folder: Path) -> None:
    assert _drawn(folder, "numbers_of_mine", "on") == _drawn(folder, "none", "on")
    assert not (folder / ".hypothesis").exists()


def test_without_the_switch_they_do(folder: Path) -> None:
    """If this fails, Hypothesis no longer collects constants, and the switch can go."""
    assert _drawn(folder, "numbers_of_mine", "off") != _drawn(folder, "none", "off")
    assert (folder / ".hypothesis" / "constants").is_dir()


def test_a_hypothesis_without_the_method_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(independence, "_METHOD", "_draws_constants_elsewhere")
    with pytest.raises(RuntimeError, match=r"install hypothesis>=6\.135,<6\.171"):
        independence.switch_off_constants()


def test_the_switch_is_undone_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def constant(*_: object) -> int:
        return 7

    monkeypatch.setattr(HypothesisProvider, "_maybe_draw_constant", constant)
    with independence.independent_draws():
        assert HypothesisProvider._maybe_draw_constant is not constant
    assert HypothesisProvider._maybe_draw_constant is constant


def test_a_check_leaves_no_folder(folder: Path) -> None:
    student = folder / "student.py"
    student.write_text("def lm_damp(s, y, *, lam):\n    return y + lam * s\n", encoding="utf-8")
    command = [sys.executable, "-m", "kfqn_ref", "check", str(student), "--examples", "30"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    assert {path.name for path in folder.iterdir()} <= {
        "numbers_of_mine.py",
        "student.py",
        "__pycache__",
    }
