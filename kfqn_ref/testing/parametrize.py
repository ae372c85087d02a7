"""The checks as pytest tests of an implementation of yours, one test a law.

.. code-block:: python

    @parametrize_with_checks(my_module, expected_failures={"bfgs.idempotence": "keeps a scaled copy
    of H"}) def test_laws(check):
        check()
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.kill_matrix import diagnose
from kfqn_ref.testing.law import Check
from kfqn_ref.testing.report import Report, explain
from kfqn_ref.testing.runner import Effort, all_checks, run_check


def parametrize_with_checks(
    implementation: Any,
    *,
    errors: bool = False,
    expected_failures: Mapping[str, str] | None = None,
    effort: Effort | None = None,
) -> pytest.MarkDecorator:
    """Return the mark that runs a test once for every check that applies, under the check's own
    name.

    Args:
        implementation: whatever :func:`kfqn_ref.testing.run_checks` takes.
        errors: also the checks of the error contract.
        expected_failures: reasons by name of a check; such a check has to fail, or the test does.
        effort: examples a law.

    Raises:
        ValueError: an expected failure is no check, or one that does not apply.
        UnusableImplementation: as ``run_checks``.
    """
    loaded, expected = load(implementation), dict(expected_failures or {})
    checks = [check for check in all_checks(errors=errors) if loaded.provides(check.requires)]
    unknown = set(expected) - {check.name for check in checks}
    if unknown:
        raise ValueError(
            f"expected failures must name checks that apply, got {', '.join(sorted(unknown))}"
        )
    parameters = []
    for check in checks:
        marks = []
        if check.name in expected:
            marks.append(pytest.mark.xfail(reason=expected[check.name], strict=True))
        test = as_test(check, loaded, effort or Effort())
        parameters.append(pytest.param(test, id=check.name, marks=marks))
    return pytest.mark.parametrize("check", parameters)


def as_test(check: Check, implementation: Any, effort: Effort) -> Callable[[], None]:
    """The test of one law: it fails with the lines that explain the failure."""

    def test() -> None:
        result = run_check(check, implementation, effort)
        if result.outcome == "failed":
            (taught,) = diagnose(
                Report(implementation.label, implementation.precision.name, (result,))
            ).results
            lines = [f"{label:<14} {text}" for label, text in explain(taught)]
            pytest.fail("\n".join([check.name, *lines]), pytrace=False)

    return test
