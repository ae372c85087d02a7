"""What runs is what Jupyter runs: a line is a magic where IPython takes it for one."""

import pytest

from kfqn_ref.course.box.cells import Cells
from kfqn_ref.course.regrade import with_cause

FUNCTION = "def f(a):\n    return a + 1\n"

# Cells after which f is there, and what f(9) is.
DEFINED = {
    "a remainder at the start of a line": ("def f(a):\n    return (a\n        % 7)\n", 2),
    "not equal at the start of a line": ("def f(a):\n    return (a\n        != 7)\n", True),
    "a format at the start of a line": ('def f(a):\n    return ("%s"\n        % a)\n', "9"),
    "a docstring with % and !": (
        'def f(a):\n    """Text.\n\n    % x\n    !y\n    """\n    return a\n',
        9,
    ),
    "help before": ("len?\n" + FUNCTION, 10),
    "help after": (FUNCTION + "\nf??\n", 10),
    "a shell's answer": ("files = !echo x\n" + FUNCTION, 10),
    "a magic in a block": ("if True:\n    %matplotlib inline\n" + FUNCTION, 10),
    "an exported magic": ("get_ipython().run_line_magic('matplotlib', 'inline')\n" + FUNCTION, 10),
    "await": ("import asyncio\n" + FUNCTION + "\nawait asyncio.sleep(0)\n", 10),
    "a cell's magic": ("%%time\n" + FUNCTION, 10),
    "captured": ("%%capture\n" + FUNCTION, 10),
    "a shell over two lines": ("!echo one \\\n    two\n" + FUNCTION, 10),
}


@pytest.fixture(scope="module")
def cells():
    return Cells()


@pytest.mark.parametrize("name", DEFINED)
def test_a_cell_defines_its_function_as_in_jupyter(cells, name):
    source, wanted = DEFINED[name]
    cells.namespace.pop("f", None)
    assert not cells.run(source)
    assert cells.namespace["f"](9) == wanted


def test_a_cell_that_is_switched_off_defines_nothing(cells):
    cells.run("def f(a):\n    return 'the newest'")
    assert not cells.run("%%script false --no-raise-error\ndef f(a):\n    return 'an old one'")
    assert cells.namespace["f"](1) == "the newest"


@pytest.mark.filterwarnings("ignore:To exit")  # IPython says how to leave a terminal
@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:\n    pass", "SyntaxError: invalid syntax (line 1)"),
        (
            "import no_such_module",
            "ModuleNotFoundError: No module named 'no_such_module' "
            "(the grader has the libraries that the assignment allows, and no others)",
        ),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("%no_such_magic", "UsageError: Line magic function `%no_such_magic` not found."),
    ],
)
def test_an_error_is_one_line_and_does_not_stop_the_next_cell(cells, source, error):
    assert cells.run(source) == error
    assert not cells.run("after = 1")


def test_a_missing_function_is_told_with_the_error_that_stopped_its_cell():
    late = "✗ NameError: name 'f' is not defined"
    early = "✗ f is not defined yet: write it, and run its cell."
    broken = (
        "import pandas\n\ndef f(a):\n    return a",
        "ModuleNotFoundError: No module named 'pandas'",
    )
    for text in (early, late):
        told = with_cause(text, [("1 / 0", "ZeroDivisionError: division by zero"), broken])
        assert told.startswith(
            "✗ f is not there, because the cell that defines it stops with Module"
        )
        assert with_cause(text, [("def f_2(a): return", "SyntaxError: x")]) == text
        assert told.endswith("do without that module")
    assert with_cause("✗ This law does not hold for your f.", [broken]).startswith("✗ This law")
