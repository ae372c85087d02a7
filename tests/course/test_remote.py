"""What crosses the wall of the box, what an assignment lends, and what a dead worker means."""

import importlib
import json
import pkgutil
from dataclasses import MISSING, fields, is_dataclass

import nbformat
import numpy as np
import pytest

import kfqn_ref
from kfqn_ref import Pair
from kfqn_ref.course import clock
from kfqn_ref.course.allowed import Allowed
from kfqn_ref.course.box import wire
from kfqn_ref.course.remote import Submission, SubmissionError, Woken, exception
from kfqn_ref.course.sandbox import Limits

UNSAFE = Limits(unsafe=True, seconds=60, cell_seconds=3)  # the code here is ours


def allowed(*sources: str, **header) -> Allowed:
    """What an assignment with these cells and this header allows."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return Allowed(nbformat.v4.new_notebook(cells=cells, metadata={"kfqn": header}))


def crossed(value):
    return allowed().reader().read(json.loads(json.dumps(wire.encode(value))))


# Options of layers that have no default.
EXAMPLES = {"d_in": 2, "d_out": 3, "in_channels": 2, "out_channels": 2, "kernel_size": (1, 2)}


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


def test_a_generator_of_random_numbers_crosses_with_its_state():
    rng = np.random.default_rng(3)
    assert crossed(rng).random() == rng.random()
    with pytest.raises(wire.NotData, match="default_rng"):
        crossed(np.random.Generator(np.random.MT19937(3)))


@pytest.mark.parametrize("value", [object(), np.array([object()]), lambda: 0, b"bytes", Limits()])
def test_what_is_not_data_does_not_cross(value):
    with pytest.raises(wire.NotData, match="numbers and arrays are wanted"):
        crossed(value)


def test_an_array_with_a_foreign_dtype_is_refused():
    with pytest.raises(wire.NotData, match="array of numbers"):
        allowed().reader().read({"array": "", "dtype": "|O", "shape": [0]})


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
    "def twice(multiply, v):\n    return multiply(multiply(v))",
]


def started(limits: Limits = UNSAFE, cells: list[str] = CELLS, **header) -> Submission:
    submission = Submission(allowed(**header), limits=limits)
    try:
        submission.problems = [submission.run(cell)[0] for cell in cells]
    except SubmissionError:
        submission.__exit__()
        raise
    return submission


@pytest.fixture
def submission():
    with started() as submission:
        yield submission


def test_a_worker_answers_and_keeps_its_side_of_the_wall(submission):
    assert "double" in submission.names
    assert list(filter(None, submission.problems)) == ["ZeroDivisionError: division by zero"]
    X = np.arange(3.0)
    assert np.array_equal(submission.function("double")(X), 2 * X)
    assert submission.function("talk")() == 1.0  # what it prints does not reach the answers
    with pytest.raises(ValueError, match="read-only"):
        submission.function("overwrite")(X)
    with pytest.raises(NameError):
        submission.function("nothing")()


def test_a_function_of_the_grader_is_lent_and_not_handed_over(submission):
    A = np.array([[2.0, 1.0], [0.0, 3.0]])
    v = np.array([1.0, -1.0])
    assert np.array_equal(submission.function("twice")(lambda x: A @ x, v), A @ A @ v)


def test_a_borrowed_answer_is_refused_and_remembered_with_its_reason(submission):
    with pytest.raises(AssertionError, match="the package's own bfgs_inverse_update"):
        submission.function("borrow")(np.eye(1), np.ones(1), np.ones(1))
    assert submission.borrowed == {
        "bfgs_inverse_update was to be written, and this calls the package's own "
        "bfgs_inverse_update"
    }


LIBRARY = [
    "import numpy as np\nimport scipy.linalg",
    "def borrow(s, y):\n    from scipy.optimize import BFGS\n    return BFGS().get_matrix()",
    "def honest(A):\n    from scipy.optimize import minimize\n    return scipy.linalg.inv(A)",
]


def test_a_class_of_a_library_that_gives_the_answer_away_is_refused_and_the_rest_of_it_is_not():
    with started(cells=LIBRARY, refuse=["scipy.optimize.BFGS"]) as submission:
        assert np.allclose(submission.function("honest")(2 * np.eye(2)), np.eye(2) / 2)
        for _ in range(2):
            with pytest.raises((AssertionError, SubmissionError)):
                submission.function("borrow")(np.ones(2), np.ones(2))
        assert submission.borrowed == {
            "the function was to be written, and this calls scipy.optimize.BFGS"
        }


TOOLS = [
    "import numpy as np\nfrom kfqn_ref import Conv2d, Network, Linear, Tanh, MeanSquaredError",
    "from kfqn_ref import Pair, forward_backward, dp_dlm_damp",
    "rng = np.random.default_rng(5)\nnetwork = Network((Linear(3, 2), Tanh()), MeanSquaredError())",
    "params = network.init(rng)\nx, target = rng.random((4, 3)), rng.random((4, 2))",
    "def loss():\n    return network.value(params, x, target)",
    "def gradient():\n    return forward_backward(network, params, x, target).grads[0]",
    "def stride(conv):\n    own = Conv2d(1, 2, 3)\n"
    "    return conv.stride, conv.geometry['padding'], own.kernel_size",
    "def damped(H, s, y):\n    return dp_dlm_damp(H, s, y, lam=0.1)",
]
IMPORTS = "from kfqn_ref import Conv2d, Network, Linear, Tanh, MeanSquaredError, Pair\n"


def test_what_an_assignment_lends_gives_the_numbers_that_it_gives_outside():
    lent = allowed(IMPORTS + "from kfqn_ref import forward_backward, dp_dlm_damp")
    rng = np.random.default_rng(5)
    network = kfqn_ref.Network(
        (kfqn_ref.Linear(3, 2), kfqn_ref.Tanh()), kfqn_ref.MeanSquaredError()
    )
    params = network.init(rng)
    x, target = rng.random((4, 3)), rng.random((4, 2))
    with Submission(lent, limits=UNSAFE) as submission:
        assert not any(submission.run(cell)[0] for cell in TOOLS)
        ask = submission.function
        assert ask("loss")() == network.value(params, x, target)
        wanted = kfqn_ref.forward_backward(network, params, x, target).grads[0]
        assert np.array_equal(ask("gradient")(), wanted)
        assert ask("stride")(kfqn_ref.Conv2d(1, 1, 2, stride=(2, 1))) == ((2, 1), 0, 3)
        H, s, y = np.eye(2), np.array([1.0, 0.0]), np.array([-1.0, 0.5])
        for mine, wanted in zip(
            ask("damped")(H, s, y), kfqn_ref.dp_dlm_damp(H, s, y, lam=0.1), strict=True
        ):
            assert np.array_equal(mine, wanted)
        assert "LinAlgError" in submission.run("dp_dlm_damp(-np.eye(2), *np.eye(2), lam=0.1)")[0]
        assert "must be positive" in submission.run("Linear(0, 1)")[0]
    for hidden in ("__class__", "__init__", "_private"):
        with pytest.raises(AttributeError):
            lent.answer("attribute", [network, hidden])
    with pytest.raises(wire.NotData):
        lent.answer("function", ["preset", ("kfqn_cnn",), {}])


def test_the_state_at_a_test_is_kept_until_the_last_cell_has_run():
    with started(cells=["def f(x):\n    return x + offset", "offset = 1.0"]) as submission:
        submission.keep()
        submission.run("offset = 100.0\nseen = []\ndef f(x):\n    seen.append(x)\n    return -x")
        submission.keep()
        assert submission.run("print(seen)")[1][0]["text"] == "[]\n"
        submission.back(1)
        assert submission.function("f")(2.0) == -2.0
        submission.back(0)
        assert submission.function("f")(2.0) == 3.0


def test_a_cell_that_ends_the_process_takes_nothing_from_the_tests_above_it():
    with started(cells=["def f(x):\n    return x + 1"]) as submission:
        submission.keep()
        with pytest.raises(Woken):
            submission.run("import os\nos._exit(1)")
        submission.back(0)
        assert submission.function("f")(2.0) == 3.0


def test_a_busy_machine_costs_nothing_and_one_that_is_too_busy_is_said_to_be(monkeypatch):
    """Sleeping stands for waiting for the processor: it takes time and uses none."""
    limits = Limits(unsafe=True, seconds=60, cell_seconds=1)
    with started(limits) as submission:
        assert submission.function("doze")(2 * limits.cell_seconds) == 1.0
        assert not submission.late
        monkeypatch.setattr(clock, "PATIENCE", 2.0)
        with pytest.raises(SubmissionError, match="grader ran out of time"):
            submission.function("doze")(600)
        assert submission.late


def test_a_function_that_ends_its_process_is_lost_for_every_later_call(submission):
    with pytest.raises(SubmissionError, match="ended by its own doing"):
        submission.function("stop")()
    with pytest.raises(SubmissionError, match="ended by its own doing"):
        submission.function("double")(1.0)


def test_a_function_that_never_ends_is_stopped_once_and_the_others_still_answer(submission):
    for _ in range(20):  # the limit is waited for once
        with pytest.raises(SubmissionError, match="more than 3 s"):
            submission.function("loop")()
    assert submission.function("double")(1.0) == 2.0


def test_every_layer_and_loss_of_the_reference_crosses_as_what_it_is():
    """A law draws networks of any of them, and the student's step hands them back."""
    names = [module.name for module in pkgutil.iter_modules(kfqn_ref.__path__, "kfqn_ref.")]
    others = "kfqn_ref.__main__", "kfqn_ref.cli", "kfqn_ref.bridge"  # commands, and torch
    modules = [importlib.import_module(name) for name in names if name not in others]
    own = [value for module in modules for value in vars(module).values()]
    parts = [v for v in own if isinstance(v, type) and "forward" in vars(v) and is_dataclass(v)]
    losses = [v for v in own if isinstance(v, type) and "value" in vars(v) and is_dataclass(v)]
    assert {"MaxPool2d", "Conv2d", "ConvTranspose2d", "Tanh"} <= {part.__name__ for part in parts}
    assert "MeanSquaredError" in {loss.__name__ for loss in losses}
    for kind in {*parts, *losses} - {kfqn_ref.Network}:
        options = {f.name: EXAMPLES[f.name] for f in fields(kind) if f.default is MISSING}
        thing = kind(**options)
        crossed = Allowed(nbformat.v4.new_notebook()).reader().read(wire.encode(thing))
        assert crossed == thing, kind
