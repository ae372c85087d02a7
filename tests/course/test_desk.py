"""Desks: what they say is what the search alone would say, and they end well whatever happens."""

import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from kfqn_ref.course import desk as desks_module
from kfqn_ref.course import grade as grading
from kfqn_ref.course import known
from kfqn_ref.course.clock import OUT_OF_TIME
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.reading import NotGraded
from kfqn_ref.course.regrade import Graded
from kfqn_ref.course.sandbox import Limits
from kfqn_ref.course.tasks import Student
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.runner import Effort, run_check

from .samples import MASTERS

NAMES = ("bfgs.secant", "damping.lm_formula", "factors.factor_formula")
EFFORTS = {"seen": Effort(10), "hidden": Effort(10, seed=7)}


@pytest.fixture
def nothing_known():
    """No case is at hand before or after."""
    known.forget()
    yield
    known.forget()


def watched(name, asked, change=lambda answer: answer):
    """The right functions that a law is about, changed; ``asked`` gets all arguments."""

    def watch(function):
        def call(*args, **kwargs):
            asked.append(repr((args, kwargs)))
            return change(function(*args, **kwargs))

        return call

    names = reference.names()
    return Student({each: watch(names[each]) for each in REGISTRY[name].requires})


@pytest.mark.parametrize("effort", EFFORTS.values(), ids=EFFORTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_right_answer_meets_the_cases_of_the_search_in_their_order(nothing_known, name, effort):
    alone, keeping, again = [], [], []
    first = known.hold(REGISTRY[name], watched(name, alone), effort)
    with known.kept():
        known.hold(REGISTRY[name], watched(name, keeping), effort)
    last = known.hold(REGISTRY[name], watched(name, again), effort)
    assert alone == keeping == again
    assert len(alone) > effort.examples
    assert (first.outcome, first.examples) == (last.outcome, last.examples)
    assert last.outcome == "passed"


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_answer_is_told_what_the_search_alone_tells(nothing_known, name):
    wrong = watched(name, [], change=lambda answer: 2 * answer)
    alone = known.hold(REGISTRY[name], wrong, Effort(10))
    with known.kept():
        known.hold(REGISTRY[name], watched(name, []), Effort(10))
    again = known.hold(REGISTRY[name], wrong, Effort(10))
    assert again.outcome == alone.outcome == "failed"
    assert repr(again.failure) == repr(alone.failure)


def test_a_law_that_the_solution_breaks_is_sought_for_everybody(nothing_known):
    name = NAMES[0]
    wrong = watched(name, [], change=lambda answer: 2 * answer)
    with known.kept():
        known.hold(REGISTRY[name], wrong, Effort(10))
    assert known.hold(REGISTRY[name], wrong, Effort(10)).outcome == "failed"
    assert known.hold(REGISTRY[name], watched(name, []), Effort(10)).outcome == "passed"


def test_no_vector_is_longer_than_a_slow_right_answer_can_take():
    check = REGISTRY["bfgs.formula"]
    lengths = {"alone": 0, "course": 0}

    def measured(where):
        def update(H, s, y):
            lengths[where] = max(lengths[where], len(s))
            return reference.names()["bfgs_inverse_update"](H, s, y)

        return Student({"bfgs_inverse_update": update})

    run_check(check, measured("alone"), Effort(1))
    known.hold(check, measured("course"), Effort(1))
    assert lengths["course"] == known.LONGEST < lengths["alone"]


# ---- the processes


@pytest.fixture
def submitted(tmp_path) -> tuple[Path, Path]:
    """A master and a submission of two cells."""
    master = nbformat.v4.new_notebook(cells=MASTERS["a1_bfgs"].cells[:1])
    own = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")])
    for name, notebook in (("master", master), ("own", own)):
        (tmp_path / f"{name}.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    return tmp_path / "master.ipynb", tmp_path / "own.ipynb"


def printed(found):
    return [output["text"] for output in found.outputs[0]]


def test_a_desk_answers_again_after_it_was_killed(submitted):
    master, own = submitted
    with Desks(master, Limits(unsafe=True), 1, solved=False) as desks:
        assert printed(desks.regrade(own)) == ["1\n"]
        desks._desks[0]._process.kill()
        with pytest.raises(NotGraded, match="their process has ended"):
            desks.regrade(own)
        assert printed(desks.regrade(own)) == ["1\n"]
        with pytest.raises(NotGraded, match="No such file"):
            desks.regrade(own.with_name("none.ipynb"))
        process = desks._desks[0]._process
    assert process.wait() == 0
    with pytest.raises(NotGraded, match="was stopped"):
        desks.regrade(own)


def test_what_takes_too_long_is_out_of_time_and_stopped(submitted, monkeypatch):
    master, own = submitted
    monkeypatch.setattr(desks_module, "PATIENCE", -60.0)  # a second of limits is no time at all
    with Desks(master, Limits(seconds=1, unsafe=True), 1, solved=False) as desks:
        with pytest.raises(NotGraded, match="ran out of time") as refused:
            desks.regrade(own)
    assert refused.value.state == OUT_OF_TIME


def test_what_the_box_was_too_slow_for_has_no_score():
    class Late:
        def regrade(self, path):
            return Graded(late="the grader ran out of time")

    with pytest.raises(NotGraded, match="ran out of time") as refused:
        grading._run(Late(), Path("a"))
    assert refused.value.state == OUT_OF_TIME


FOREVER = """
import signal, sys
from pathlib import Path
from kfqn_ref.course.desk import Desks
from kfqn_ref.course.sandbox import Limits

master, own = map(Path, sys.argv[1:3])
signal.signal(signal.SIGINT, getattr(signal, sys.argv[3]))
Desks(master, Limits(unsafe=True), 1, solved=False).regrade(own)
"""


@pytest.mark.parametrize("interrupts", ["SIG_DFL", "SIG_IGN"])  # ignored: a shell's background
def test_when_the_grader_is_killed_its_processes_go_too(submitted, interrupts):
    master, own = submitted
    begun = own.with_name("begun")
    waits = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(10000)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(waits)])
    own.write_text(nbformat.writes(notebook), encoding="utf-8")
    grader = subprocess.Popen([sys.executable, "-c", FOREVER, master, own, interrupts])
    while not begun.exists():
        assert grader.poll() is None
        time.sleep(0.05)
    family = psutil.Process(grader.pid).children(recursive=True)
    assert len(family) >= 3  # the desk, its fork, and what runs the cells
    grader.kill()
    grader.wait()
    assert psutil.wait_procs(family, timeout=60)[1] == []


DEAF_ONCE = """
import os, signal, sys, time
from kfqn_ref.course import desk

desk.GRACE = 0.1
signal.signal(signal.SIGINT, signal.default_int_handler)
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(reading)
    try:
        os.write(writing, b"begun")
        time.sleep(10000)
    except KeyboardInterrupt:
        pass  # as where it arrives in a finalizer
    try:
        time.sleep(10000)
    except KeyboardInterrupt:
        os._exit(0)
os.close(writing)
print(desk._all_of(reading, child).decode())
"""


def test_a_fork_that_misses_the_first_interrupt_is_told_again():
    """The input of the process has ended, as where the grader has gone."""
    done = subprocess.run(
        [sys.executable, "-c", DEAF_ONCE], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "begun\n"
