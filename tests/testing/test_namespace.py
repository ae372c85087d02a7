"""Files that compute with arrays of another library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kfqn_ref import Pair
from kfqn_ref.cli import app
from kfqn_ref.testing import Effort, Report, UnusableImplementation, run_checks, verdict
from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.namespace import Namespace
from kfqn_ref.testing.tolerances import FLOAT32, FLOAT64

FAST = Effort(5, shrink=False)
UPDATE = """
import torch
def bfgs_inverse_update(H, s, y):
    assert isinstance(H, torch.Tensor)
    rho = 1 / (s @ y)
    left = torch.eye(len(s), dtype=H.dtype) - rho * torch.outer(s, y)
    return left @ H @ left.T + rho * torch.outer(s, s)
"""
LM = "def lm_damp(s, y, *, lam):\n    {}\n"
STUB = """
import numpy as np
class Array:
    def __init__(self, X):
        self.X = np.array(X, order="C")
        self.X.setflags(write=False)
    def __array__(self, dtype=None, copy=None):
        return self.X if dtype is None else self.X.astype(dtype)
    def __dlpack__(self, **_):
        raise BufferError("host memory only")
    def plus(self, other, times):
        return Array(self.X + times * other.X)
def asarray(X):
    return Array(X)
"""


def _report(folder: Path, source: str, namespace: str, *laws: str) -> Report:
    path = folder / "student.py"
    path.write_text(source, encoding="utf-8")
    checks = [REGISTRY[name] for name in laws]
    return run_checks(load(path.as_posix(), namespace), checks, effort=FAST)


@pytest.mark.parametrize("precision", [FLOAT64, FLOAT32])
def test_a_file_of_torch_gets_tensors_of_its_precision(precision: Any, tmp_path: Path) -> None:
    source = UPDATE + f"dtype = torch.{precision.name}\n"
    source += "INNER = bfgs_inverse_update\ndef bfgs_inverse_update(H, s, y):\n"
    source += "    assert H.dtype == s.dtype == y.dtype == dtype\n    return INNER(H, s, y)\n"
    laws = "bfgs.secant", "layout.bfgs_inverse_update", "calls.bfgs_inverse_update"
    report = _report(tmp_path, source, "torch", *laws)
    assert report.ok, report.to_json()
    assert (report.precision, report.namespace) == (precision.name, "torch")
    assert set(report.missing_layouts) == {
        "with negative strides", "with a negative first stride", "read-only"
    }  # fmt: skip  # a set
    assert "cannot have: with negative strides" in "\n".join(verdict.lines(report))


@pytest.mark.parametrize(
    ("source", "law", "says"),
    [
        (LM.format("return y.add_(1).sub(1) + lam * s"), "damping.lm_formula", "as they were"),
        (LM.format("return y if lam == 0 else y + lam * s"), "damping.lm_formula", "shares no"),
        (LM.format("return (y + lam * s).to(dtype=__import__('torch').complex128)"),
         "damping.lm_formula", "real numbers"),
        (LM.format("return y + lam * s.as_strided(s.shape, (1,))"), "layout.lm_damp", ""),
        (LM.format("return y - lam * s"), "damping.lm_formula", ""),
    ],
)  # fmt: skip  # one file an entry
def test_mistakes_with_tensors_are_found(source: str, law: str, says: str, tmp_path: Path) -> None:
    (result,) = _report(tmp_path, source, "torch", law).results
    assert result.failure is not None
    assert says in result.failure.law


def test_pairs_of_tensors_are_handed_over(tmp_path: Path) -> None:
    source = (
        "import torch\ndef average_pair(old, new, *, decay):\n"
        "    assert all(isinstance(part, torch.Tensor) for part in (*old, *new))\n"
        "    mean = lambda a, b: decay * a + (1 - decay) * b\n"
        "    return type(old)(mean(old.s, new.s), mean(old.y, new.y))\n"
    )
    assert _report(tmp_path, source, "torch", "pairs.average_formula", "calls.average_pair").ok
    pair = Pair(np.ones(2), np.zeros(2))
    handed: list[Any] = []
    implementation = load({"average_pair": lambda old, *_: handed.extend(old) or old}, "torch")
    implementation.average_pair(pair, pair)
    assert all(isinstance(part, torch.Tensor) for part in handed)


def test_a_library_with_one_layout_is_tried_without_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onelayout.py").write_text(STUB, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    right = LM.format("return y.plus(s, float(lam))")
    laws = "damping.lm_formula", "layout.lm_damp", "state.lm_damp"
    report = _report(tmp_path, right, "onelayout", *laws)
    assert report.ok, report.to_json()
    assert "read-only" in report.missing_layouts
    assert len(report.missing_layouts) == 6
    wrong = LM.format("return y.plus(s, float(lam) + 1e-9)")
    assert not _report(tmp_path, wrong, "onelayout", laws[0]).ok


def test_numpy_is_a_namespace_with_every_layout() -> None:
    space = Namespace("numpy", FLOAT64)
    X = np.asfortranarray(np.ones((2, 3)))
    assert space.shared(X) is X
    assert not np.shares_memory(space.own(X), X)
    assert Namespace("numpy", FLOAT32).own(X).dtype == np.float32


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("json", "must have a function asarray"),
        ("", "cannot be imported: ValueError"),
    ],
)
def test_a_module_that_is_no_namespace_says_so(name: str, says: str) -> None:
    with pytest.raises(UnusableImplementation, match=says):
        load({"lm_damp": print}, name)


def test_a_namespace_of_another_precision_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = "import numpy as np\ndef asarray(X):\n    return np.asarray(X, dtype='float32')\n"
    (tmp_path / "onlysingle.py").write_text(short, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnusableImplementation, match="float32 where float64 is asked for"):
        load({"lm_damp": print}, "onlysingle")


def test_the_command_exits_with_2_for_a_namespace_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "student.py"
    path.write_text(LM.format("return y + lam * s"), encoding="utf-8")
    chosen = ["check", str(path), "--only", "damping.lm", "--namespace"]
    missing = CliRunner().invoke(app, [*chosen, "no_such_module"])
    assert missing.exit_code == 2
    assert "the namespace no_such_module cannot be imported" in missing.output
    there = CliRunner().invoke(app, [*chosen, "torch", "--examples", "5"])
    assert there.exit_code == 0, there.output
