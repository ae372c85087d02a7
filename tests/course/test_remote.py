"""Only numbers cross the wall: what a worker answers, what is refused, and what a dead worker
means.
"""

import json

import numpy as np
import pytest

from kfqn_ref import Pair
from kfqn_ref.course import clock
from kfqn_ref.course.remote import Submission, SubmissionError, decode, exception
from kfqn_ref.course.sandbox import Limits
from kfqn_ref.course.worker import encode

UNSAFE = Limits(unsafe=True, seconds=60, cell_seconds=3)  # the code here is ours


def crossed(value):
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize(
    "value",
    [1, 0.1, -np.inf, True, None, "text", (1, (2.5, "a")), [1.0, 2.0], {"SUD": 0.5, "IAD": [1]}],
)
def test_plain_values_cross_unchanged(value):
    assert crossed(value) == value


@pytest.mark.parametrize("dtype", [float, np.float32, int, bool, complex])
def test_arrays_cross_bit_for_bit(dtype):
    X = np.arange(12).reshape(3, 2, 2).transpose(2, 0, 1).astype(dtype)
    Y = crossed(X)
    assert Y.dtype == X.dtype
    assert np.array_equal(X, Y)
    assert np.isnan(crossed(np.array([np.nan]))).all()


def test_named_tuples_keep_their_fields():
    pair = crossed(Pair(np.ones(2), np.zeros(2)))
    assert (pair.s == 1).all()
    assert (pair.y == 0).all()


@pytest.mark.parametrize("value", [object(), np.array([object()]), lambda: 0, b"bytes"])
def test_what_is_not_data_does_not_cross(value):
    with pytest.raises(SubmissionError, match="numbers and arrays are wanted"):
        crossed(value)


def test_an_array_with_a_foreign_dtype_is_refused():
    with pytest.raises(SubmissionError, match="array of numbers"):
        decode({"array": "", "dtype": "|O", "shape": [0]})


def test_errors_come_back_as_their_class():
    assert type(exception("LinAlgError", "m", "f, line 1")) is np.linalg.LinAlgError
    assert type(exception("ZeroDivisionError", "m", "")) is ZeroDivisionError
    for name in (
        "KeyboardInterrupt",
        "SystemExit",
        "print",
        "NoSuchError",
    ):  # no class, or one that would stop us
        assert type(exception(name, "m", "")) is SubmissionError


CELLS = [
    "import numpy as np\nfrom kfqn_ref import bfgs_inverse_update as theirs",
    "%matplotlib inline\n1 / 0",
    "def double(x):\n    return 2 * x",
    "def overwrite(x):\n    x += 1\n    return x",
    "def borrow(H, s, y):\n    return theirs(H, s, y)",
    "def stop():\n    import os\n    os._exit(3)",
    "def loop():\n    while True:\n        pass",
    "def doze(seconds):\n    import time\n    time.sleep(seconds)\n    return 1.0",
    "def talk():\n    print('x' * 10_000)\n    return 1.0",
]


@pytest.fixture
def submission():
    with Submission(CELLS, refuse=["bfgs_inverse_update"], limits=UNSAFE) as submission:
        yield submission


def test_a_worker_answers_and_keeps_its_side_of_the_wall(submission):
    assert "double" in submission.names
    assert list(filter(None, submission.problems)) == ["ZeroDivisionError: division by zero"]
    X = np.arange(3.0)
    assert np.array_equal(submission.function("double")(X), 2 * X)
    assert submission.function("talk")() == 1.0  # what it prints does not reach the answers
    with pytest.raises(ValueError, match="read-only"):
        submission.function("overwrite")(X)
    with pytest.raises(AssertionError, match="the package's own bfgs_inverse_update"):
        submission.function("borrow")(np.eye(1), np.ones(1), np.ones(1))
    with pytest.raises(NameError):
        submission.function("nothing")()


def test_a_busy_machine_costs_nothing_and_one_that_is_too_busy_is_said_to_be(monkeypatch):
    """Sleeping stands for waiting for the processor: it takes time and uses none."""
    limits = Limits(unsafe=True, seconds=60, cell_seconds=1)
    with Submission(CELLS, refuse=[], limits=limits) as submission:
        assert submission.function("doze")(2 * limits.cell_seconds) == 1.0
        assert not submission.late
        monkeypatch.setattr(clock, "PATIENCE", 1.0)
        with pytest.raises(SubmissionError, match="grader ran out of time"):
            submission.function("doze")(600)
        assert submission.late


@pytest.mark.parametrize(
    ("name", "reason"), [("stop", "ended by its own doing"), ("loop", "more than 3 s")]
)
def test_a_lost_worker_is_lost_for_every_later_call(submission, name, reason):
    for function in (name, "double"):
        with pytest.raises(SubmissionError, match=reason):
            submission.function(function)(*([] if function == name else [1.0]))
