"""What takes long: a loop is stopped and named, a slow machine is told apart, and neither ends the
rest.
"""

import pytest

from kfqn_ref.course import clock
from kfqn_ref.course.remote import SubmissionError
from kfqn_ref.course.sandbox import Limits

from .test_remote import started

WAITS, LOOPS = "import time\ntime.sleep({})", "while True:\n    pass"
STUBBORN = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""


LIMITS = Limits(unsafe=True, seconds=60, cell_seconds=1)  # seconds of the processor


def errors(*sources: str) -> list[str]:
    """The errors of every cell, where a cell may use one second of the processor."""
    with started(LIMITS, list(sources)) as submission:
        return [problem.partition(":")[0] for problem in submission.problems]


def test_a_loop_is_stopped_and_the_next_cell_runs():
    assert errors(LOOPS, "1 / 0") == ["TimeLimit", "ZeroDivisionError"]


def test_a_loop_that_will_not_stop_is_ended():
    with pytest.raises(SubmissionError, match="ended by its own doing"):
        errors(STUBBORN, "1")


def test_a_cell_that_waits_for_the_processor_loses_nothing():
    assert errors(WAITS.format(3)) == [""]


def test_a_cell_that_waits_too_long_is_late_and_not_guilty(monkeypatch):
    monkeypatch.setattr(clock, "PATIENCE", 2.0)
    with pytest.raises(SubmissionError, match="grader ran out of time"):
        errors(WAITS.format(600), "1")
