"""What takes long: a loop is stopped and named, a slow machine is told apart, and neither ends the
rest.
"""

from pathlib import Path

import nbformat
import pytest

from kfqn_ref.course import clock, execute
from kfqn_ref.course import grade as grading
from kfqn_ref.course.execute import run
from kfqn_ref.course.prepare import NotGraded
from kfqn_ref.course.sandbox import Limits

WAITS, LOOPS = "import time\ntime.sleep({})", "while True:\n    pass"
STUBBORN = """
while True:
    try:
        while True:
            pass
    except KeyboardInterrupt:
        pass
"""


def executed(*sources: str) -> list[list[str]]:
    """The kinds of error of every cell, where a cell may use one second of the processor."""
    cells = [nbformat.v4.new_code_cell(source) for source in ("pass", *sources)]
    notebook = run(nbformat.v4.new_notebook(cells=cells), cell_seconds=1, seconds=20)
    return [[output.get("ename", "") for output in cell.outputs] for cell in notebook.cells[1:]]


def test_a_loop_is_stopped_and_the_next_cell_runs():
    assert executed(LOOPS, "1 / 0") == [["KeyboardInterrupt", "TimeLimit"], ["ZeroDivisionError"]]


def test_a_loop_that_will_not_stop_is_ended():
    assert executed(STUBBORN, "1") == [["TimeLimit"], ["NotRun"]]


def test_a_cell_that_waits_for_the_processor_loses_nothing():
    assert executed(WAITS.format(3)) == [[]]


def test_a_cell_that_waits_too_long_is_late_and_not_guilty(monkeypatch):
    for module in (clock, execute):
        monkeypatch.setattr(module, "PATIENCE", 3.0)
    found = executed(WAITS.format(600), "1")
    assert found == [["KeyboardInterrupt", "OutOfTime"], ["NotRun"]]


@pytest.mark.parametrize("slow", [True, False], ids=["killed", "told"])
def test_what_ran_out_of_time_has_no_score(monkeypatch, tmp_path, slow):
    late = nbformat.v4.new_output(
        "error", ename="OutOfTime", evalue="the grader ran out", traceback=[]
    )
    assert grading._late([{"outputs": [late]}]) == "the grader ran out"
    expired = grading.subprocess.TimeoutExpired([], 1)
    done = grading.subprocess.CompletedProcess([], 0, '"the grader ran out of time"', "")

    def fresh(*args, cwd, **options):
        assert Path(cwd) not in (
            Path.cwd(),
            tmp_path,
        )  # what it leaves behind is in nobody's folder
        if slow:
            raise expired
        return done

    monkeypatch.setattr(grading.subprocess, "run", fresh)
    with pytest.raises(NotGraded, match="ran out of time") as refused:
        grading._run_again(tmp_path, tmp_path, Limits())
    assert refused.value.state == "out of time"
