"""The pytest plugin, in runs of pytest of its own: outcomes, exit codes, what is collected."""

from typing import Any

import pytest

pytest_plugins = ("pytester",)
PLUGIN = ("-p", "kfqn_ref.testing.plugin", "-p", "no:cacheprovider")
RIGHT = "def lm_damp(s, y, *, lam):\n    return y + lam * s\n"


def _run(pytester: pytest.Pytester, source: str, *options: str) -> Any:
    pytester.makepyfile(student=source, test_other="def test_other(): pass")
    arguments = ("--kfqn-check", "student.py", "--kfqn-examples", "10", *PLUGIN, *options)
    return pytester.runpytest_subprocess(*arguments)


def test_a_right_file_passes_and_nothing_else_is_collected(pytester: pytest.Pytester) -> None:
    result = _run(pytester, RIGHT, "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*damping*lm_formula*PASSED*"])
    result.stdout.no_fnmatch_line("*test_other*")
    result.stdout.no_fnmatch_line("*bfgs.secant*")


def test_a_wrong_file_fails_with_its_lesson_beside_other_tests(pytester: pytest.Pytester) -> None:
    result = _run(pytester, RIGHT.replace("+", "-"), "test_other.py", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["*test_other.py::test_other*PASSED*", "*formula *y*s*", "*FAILED*damping.lm_formula*"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize("source", ["x = 1", "def f(:", "raise SystemExit(3)"])
def test_a_file_that_cannot_be_used_is_an_error_of_usage(
    pytester: pytest.Pytester, source: str
) -> None:
    result = _run(pytester, source)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--kfqn-check: student.py" in result.stderr.str() + result.stdout.str()
    assert "Traceback" not in result.stderr.str()


def test_without_the_option_nothing_changes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_other(): pass")
    result = pytester.runpytest_subprocess(*PLUGIN)
    result.assert_outcomes(passed=1)
