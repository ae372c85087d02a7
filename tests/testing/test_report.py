"""Reports: JSON, the page, the lines, the guess at the mistake; the pytest marks; the command."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import kfqn_ref as ref
from kfqn_ref.cli import app
from kfqn_ref.testing import Effort, all_checks, run_checks
from kfqn_ref.testing.html import to_html
from kfqn_ref.testing.kill_matrix import diagnose
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.parametrize import parametrize_with_checks
from kfqn_ref.testing.report import CHAPTERS, Report, explain, readable

ROOT = Path(__file__).parents[2]
FAST = Effort(40)
SIGN = {"powell_damp": MUTANTS["powell_damp:sign"].function, "lm_damp": ref.lm_damp}


@cache
def report() -> Report:
    """The report of a kernel whose sign is wrong, made when a test asks for it."""
    return diagnose(run_checks(SIGN, effort=FAST))


WRONG = """
def powell_damp(H, s, y, *, mu1=0.2):
    Hy = H @ y
    theta = 1.0 if s @ y >= mu1 * (y @ Hy) else (1 - mu1) * (y @ Hy) / (y @ Hy - s @ y)
    return theta * s - (1 - theta) * Hy
"""
RIGHT = WRONG.replace("theta * s - (1", "theta * s + (1")


def test_json_says_all() -> None:
    data = json.loads(report().to_json())
    assert data["counts"] == report().counts()
    failed = {entry["check"]: entry for entry in data["results"] if entry["outcome"] == "failed"}
    entry = failed["damping.powell_formula"]
    assert entry["failure"]["counterexample"]["H"] == "[1]"
    assert entry["failure"]["size"] > entry["failure"]["tolerance"]
    assert entry["chapter"] == "Damping"
    assert entry["page"] == "book/damping.md"


def test_the_mistake_is_recognised() -> None:
    failure = next(r for r in report().failed if r.check.name == "damping.powell_formula").failure
    assert failure is not None
    assert any("sign in Powell's damping" in guess for guess in failure.looks_like)


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        ("powell_damp:swapped_mu", "damping.powell_formula"),
        ("bfgs_inverse_update:rebinds", "bfgs.secant"),
        ("lbfgs_push:drops_newest", "lbfgs.push_newest"),
        ("input_factor:factor_per_location", "factors.factor_formula"),
        ("output_pair:pair_of_gradients", "pairs.output_formula"),
    ],
)
def test_mutants_recognise_themselves(mutant: str, check: str) -> None:
    found = diagnose(
        run_checks({MUTANTS[mutant].replaces: MUTANTS[mutant].function}, effort=Effort(200))
    )
    failure = next(r for r in found.failed if r.check.name == check).failure
    assert failure is not None
    assert MUTANTS[mutant].mistake in failure.looks_like


def test_a_failure_is_explained_in_order() -> None:
    result = report().failed[0]
    labels = [label.strip() for label, _ in explain(result)]
    assert labels[:2] == ["law", "formula"]
    assert labels[-3:] == ["violation", "looks like", "chapter"]
    assert "s =" in labels


def test_the_page_names_every_check_and_asks_for_nothing_outside() -> None:
    page = to_html(report())
    for result in report().results:
        assert result.check.name in page
    assert "http" not in page
    assert "<script" not in page
    assert "sign in Powell&#39;s damping" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (1 / 3, "0.333333333"), ((1, [2.0]), "[1, [2]]"), ("a", "a")],
)
def test_numbers_are_readable(value: Any, text: str) -> None:
    assert readable(value) == text


def test_every_check_has_a_page_of_the_book() -> None:
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    pages = {f"book/{entry['file']}.md" for part in toc["parts"] for entry in part["chapters"]}
    for check in all_checks(errors=True):
        page = CHAPTERS[check.chapter].page
        assert page in pages


def test_a_failure_names_its_page_in_every_report() -> None:
    (label, text) = explain(report().failed[0])[-1]
    assert (label, text) == ("chapter", "Damping, book/damping.md")
    assert text in to_html(report())
    assert '"page": "book/damping.md"' in report().to_json()


def test_marks_have_readable_ids_and_strict_reasons() -> None:
    expected = {"damping.powell_formula": "the sign is wrong on purpose"}
    mark = parametrize_with_checks(SIGN, expected_failures=expected, effort=FAST).mark
    name, parameters = mark.args
    assert name == "check"
    by_id = {parameter.id: parameter for parameter in parameters}
    assert "damping.lm_formula" in by_id
    assert "bfgs.secant" not in by_id
    (xfail,) = by_id["damping.powell_formula"].marks
    assert xfail.kwargs == {"reason": "the sign is wrong on purpose", "strict": True}
    by_id["damping.lm_formula"].values[0]()
    with pytest.raises(pytest.fail.Exception, match="looks like"):
        by_id["damping.powell_curvature"].values[0]()


def test_an_expected_failure_has_to_be_a_check_that_applies() -> None:
    with pytest.raises(ValueError, match=r"got bfgs\.secant"):
        parametrize_with_checks(SIGN, expected_failures={"bfgs.secant": "never"})


def _check(tmp_path: Any, text: str, *options: str) -> Any:
    path = tmp_path / "student.py"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(app, ["check", str(path), "--examples", "40", *options])


def test_the_command_passes_what_is_right(tmp_path: Any) -> None:
    result = _check(tmp_path, RIGHT)
    assert result.exit_code == 0, result.output
    assert "passed        damping.powell_formula" in result.output
    assert "not provided  bfgs.secant" in result.output


def test_the_command_teaches_what_is_wrong(tmp_path: Any) -> None:
    result = _check(
        tmp_path, WRONG, "--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")
    )
    assert result.exit_code == 1
    for part in (
        "failed        damping.powell_formula",
        "s̃ = θ s + (1 − θ) H y",
        "violation",
        "sign in Powell's damping",
    ):
        assert part in result.output
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["counts"]["failed"] > 0
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_command_says_what_it_cannot_use(tmp_path: Any) -> None:
    assert _check(tmp_path, "x = 1").exit_code == 2
    assert CliRunner().invoke(app, ["check", str(tmp_path / "none.py")]).exit_code == 2
    assert _check(tmp_path, RIGHT, "--only", "nothing").exit_code == 2
    for option in ("--json", "--html", "--junit"):
        assert _check(tmp_path, RIGHT, option, str(tmp_path / "none" / "r")).exit_code == 2


def test_the_command_checks_errors_when_asked(tmp_path: Any) -> None:
    result = _check(tmp_path, RIGHT, "--errors", "--only", "errors")
    assert result.exit_code == 1
    assert "failed        errors.powell_fraction" in result.output
