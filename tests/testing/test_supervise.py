"""Files that do not behave: each ends in one sentence, a named failure or exit code 2, and never
in a traceback of ours.
"""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from kfqn_ref.cli import app
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.supervise import supervised

LM = "def lm_damp(s, y, *, lam):\n    {}\n"
# (source, exit code, what the output says)
BAD = {
    "not Python": ("def f(:", 2, "cannot be loaded: SyntaxError"),
    "raises in its import": ("raise KeyError('nothing')", 2, "cannot be loaded: KeyError"),
    "exits in its import": ("import sys; sys.exit(0)", 2, "cannot be loaded: SystemExit"),
    "dies in its import": ("import os; os._exit(7)", 2, "exit code 7 during its import"),
    "hangs in its import": ("while True: pass", 2, "no answer within 5 s during its import"),
    "defines nothing": ("x = 1", 2, "defines none"),
    "raises": (LM.format("raise KeyError('lost')"), 1, "KeyError: 'lost' (lm_damp, line 2)"),
    "exits": (LM.format("import sys; sys.exit(3)"), 1, "SystemExit: 3"),
    "dies": (LM.format("import os; os._exit(9)"), 1, "the process ended with exit code 9"),
    "hangs": (LM.format("while True: pass"), 1, "no answer within 5 s"),
    "hangs and catches": (
        LM.format("while True:\n        try:\n            while True: pass\n"
                  "        except BaseException: pass"), 1, "no answer within 5 s"),
    "a string": (LM.format("return 'done'"), 1, "an array of real numbers"),
    "nothing": (LM.format("return None"), 1, "an array of real numbers"),
    "NaN": (LM.format("return y * float('nan')"), 1, "failed        damping.lm_formula"),
    "complex": (LM.format("return y + lam * s + 0j"), 1, "an array of complex128"),
    "objects": (LM.format("return (y + lam * s).astype(object)"), 1, "an array of object"),
    "another shape": (LM.format("return (y + lam * s)[None]"), 1, "of shape (1, 1)"),
}  # fmt: skip  # one file an entry


def _check(folder: Path, source: str, *options: str, limit: float = 60.0) -> Any:
    path = folder / "student.py"
    path.write_text(source, encoding="utf-8")
    command = ["check", str(path), "--examples", "10", "--only", "damping", *options]
    return CliRunner().invoke(app, [*command, "--limit", str(limit)])


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_does_not_behave(kind: str, tmp_path: Path) -> None:
    source, code, says = BAD[kind]
    limit = 5.0 if kind.startswith("hangs") else 60.0
    result = _check(tmp_path, source, limit=limit)
    assert result.exit_code == code, result.output
    assert says in " ".join(result.output.split("\n"))  # a console may break a sentence
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_much_output_is_counted_and_not_shown(tmp_path: Path) -> None:
    source = LM.format("print('x' * 20_000); return y + lam * s")
    result = _check(tmp_path, source)
    assert result.exit_code == 0, result.output[-500:]
    assert "bytes, which are not shown" in result.output
    assert len(result.output) < 50_000


def test_after_a_law_that_hangs_the_laws_of_other_functions_are_stated(tmp_path: Path) -> None:
    path = tmp_path / "student.py"
    good = "def identity_damp(s, y, *, mu2):\n    raise KeyError('seen')\n"
    path.write_text(LM.format("while True: pass") + good, encoding="utf-8")
    names = ("arguments.lm_damp", "damping.lm_formula", "damping.identity_formula")
    checks = [REGISTRY[name] for name in names]
    report, _ = supervised(str(path), checks, limit=5.0)
    said = {result.check.name: result.failure.lhs for result in report.failed if result.failure}
    assert said["arguments.lm_damp"] == "no answer within 5 s"
    assert said["damping.lm_formula"] == ("not tried: no answer within 5 s in arguments.lm_damp")
    assert "KeyError: 'seen'" in said["damping.identity_formula"]


def test_two_processes_give_the_report_of_one(tmp_path: Path) -> None:
    path = tmp_path / "student.py"
    path.write_text(LM.format("return y - lam * s"), encoding="utf-8")
    checks = [check for check in REGISTRY.values() if "lm_damp" in check.requires][:4]
    one, _ = supervised(str(path), checks)
    two, _ = supervised(str(path), checks, workers=2)
    assert one.to_json() == two.to_json()


def test_the_reports_say_the_same(tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "html")}
    options = [text for kind, path in paths.items() for text in (f"--{kind}", str(path))]
    assert _check(tmp_path, LM.format("return y"), *options).exit_code == 1
    data = json.loads(paths["json"].read_text(encoding="utf-8"))
    suite = ElementTree.fromstring(paths["junit"].read_text(encoding="utf-8"))
    assert (
        int(suite.get("failures", ""))
        == data["counts"]["failed"]
        == len(suite.findall("testcase/failure"))
    )
    assert "damping.lm_formula" in paths["html"].read_text(encoding="utf-8")


def test_an_accepted_file_is_told_what_was_tried(tmp_path: Path) -> None:
    output = _check(tmp_path, LM.format("return y + lam * s")).output
    assert "length of the vectors: 1-66, 100, 200" in output
    assert "power: a mistake of lm_damp that is active on 1 % of the cases is met with ≥" in output
    assert "not tried: vectors of more than 200 entries" in output
