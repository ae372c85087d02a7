"""No false alarm: correct implementations that differ from the reference in every way are
accepted.
"""

import sys
from pathlib import Path

import pytest
from hypothesis import settings

from kfqn_ref.testing import Effort, all_checks, run_checks
from kfqn_ref.testing.implementation import KERNELS

sys.path.insert(0, str(Path(__file__).parent))
from alternatives import ALTERNATIVES  # a neighbour of this file, which is not a package

CASES = [(kernel, name) for kernel, found in ALTERNATIVES.items() for name in found]
EXAMPLES = (
    100 if settings.default.max_examples <= 50 else 10_000
)  # of one implementation, over all its laws


def test_every_kernel_has_ten() -> None:
    assert set(ALTERNATIVES) == set(KERNELS)
    assert {kernel: len(found) for kernel, found in ALTERNATIVES.items() if len(found) < 10} == {}


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_accepted(kernel: str, name: str) -> None:
    checks = [check for check in all_checks() if check.requires == (kernel,)]
    effort = Effort(max(20, EXAMPLES // len(checks)))
    report = run_checks(ALTERNATIVES[kernel][name], checks, effort=effort)
    assert [(result.check.name, result.failure) for result in report.failed] == []
    assert report.counts()["passed"] == len(checks)
