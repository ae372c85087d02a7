"""The box: what foreign code finds in it, and that each way out is closed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kfqn_ref.course import clock, contents, sandbox
from kfqn_ref.course.remote import SubmissionError
from kfqn_ref.course.sandbox import Box, Limits, NoBox, require_box, require_package

from .answers import HOGS, SENTINEL, calls, outside, writes
from .boxes import needs_box
from .classes import Server
from .test_remote import started

LIMITS = Limits(seconds=60, cell_seconds=30, memory_mb=4096)

LOOK = """
import io, contextlib
def attempts():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(CODE, {})
    return out.getvalue()
def look(mounted):
    import os
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    beside = []  # what is neither mounted nor on the way there
    for top in ("/home", "/root", "/tmp"):
        paths = [top] if top != "/tmp" and os.path.exists(top) else []
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in mounted]
            paths += [os.path.join(folder, name) for name in folders + files]
        paths = [path for path in paths if path not in mounted]
        beside += [path for path in paths if not any(m.startswith(path + "/") for m in mounted)]
    processes = sum(name.isdigit() for name in os.listdir("/proc"))
    return {"environment": " ".join(sorted(os.environ)), "beside": beside, "uid": os.getuid(),
            "capabilities": status["CapEff"].strip(), "processes": processes}
def fork():
    import os, time
    children = 0
    try:
        while children < 1000:
            if os.fork() == 0:
                time.sleep(600)
            children += 1
    except OSError:
        pass
    return children
def grab():
    return float(bytearray(6 * 2**30)[0])
"""


@pytest.fixture
def inside(tmp_path):
    with Server() as server:
        code = writes(tmp_path) + calls(server.port)
        with started(LIMITS, [f"CODE = {code!r}", LOOK]) as submission:
            yield submission
        assert server.visits == 0


@needs_box
def test_nothing_outside_can_be_written_or_reached(inside, tmp_path):
    lines = [
        line for line in inside.function("attempts")().splitlines() if line.startswith("ATTEMPT")
    ]
    assert len(lines) == len(outside(tmp_path)) - 1 + 5 + 4
    assert all(" : refused " in line for line in lines), lines
    assert not [folder for folder in outside(tmp_path) if (folder / SENTINEL).exists()]


@needs_box
def test_the_box_is_bare(inside, monkeypatch):
    own = Path(sys.prefix)
    # wherever they lie, at home too
    mounted = (Path(sys.base_prefix), own / "bin", own / "pyvenv.cfg", *contents.hidden())
    found = inside.function("look")([str(folder) for folder in mounted])
    assert "HOME" in found["environment"].split()
    assert not {"SSH_AUTH_SOCK", "USER", "VIRTUAL_ENV", "PYTEST_CURRENT_TEST"} & set(
        found["environment"].split()
    )
    assert not found["beside"]
    assert int(found["capabilities"], 16) == 0
    assert found["uid"] != 0
    assert found["processes"] < 10


@needs_box
def test_forks_and_memory_have_an_end(inside):
    assert inside.function("fork")() < LIMITS.processes
    with pytest.raises((MemoryError, SubmissionError)):
        inside.function("grab")()


@needs_box
def test_children_that_hog_memory_together_end_the_box():
    with pytest.raises(SubmissionError, match="the memory limit of 1024 MB"):
        started(replace(LIMITS, memory_mb=1024), [HOGS])


@needs_box
def test_time_ends_the_box_and_all_in_it():
    limits = Limits(seconds=6, cell_seconds=30)
    with started(limits, ["def loop():\n    while True:\n        pass"]) as submission:
        with pytest.raises(SubmissionError, match="ended by the time limit of 6 s"):
            submission.function("loop")()


@needs_box
def test_a_box_that_only_waits_is_late_and_not_guilty(monkeypatch):
    monkeypatch.setattr(clock, "PATIENCE", 0.5)  # a second by the wall
    with Box("kfqn_ref.worker", limits=Limits(seconds=2)) as box:
        box.process.wait(60)
        assert box.ended == "the wall clock"
        assert "the grader ran out of time" in box.late


@needs_box
def test_a_box_in_which_python_does_not_start_is_refused_before_anything_scores_nothing(
    monkeypatch,
):
    require_package()
    monkeypatch.setattr(contents, "files", lambda: ())
    with pytest.raises(NoBox, match="must find IPython and NumPy.*pip install -e"):
        require_package()


SEEK = """
import importlib, os, sys

def holds(words):
    found = []
    for top in ("/box", "/tmp", sys.prefix, sys.base_prefix + "/lib", "/usr/lib/python3"):
        for folder, _, files in os.walk(top):
            for name in files:
                try:
                    with open(os.path.join(folder, name), "rb") as file:
                        if words.encode() in file.read(2**22):
                            found.append(os.path.join(folder, name))
                except OSError:
                    pass
    return " ".join(found)

def imports(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True

def remembers(words):
    ip = get_ipython()
    said = [str(ip.user_ns.get(key)) for key in ("In", "Out", "_ih", "_oh")]
    said += [str(cell) for cell in ip.history_manager.input_hist_raw]
    return any(words in text for text in said)
"""


@pytest.fixture(scope="module")
def seeker():
    with started(LIMITS, [SEEK]) as submission:
        yield submission


@needs_box
@pytest.mark.parametrize(
    "words",
    [
        "def powell_damp(",  # the package
        "def at_most(",  # its laws, with their tolerances
        "BEGIN HIDDEN TESTS",  # the sources of assignments
        "step:lambda_not_root",  # its test helpers
    ],
)
def test_no_file_in_the_box_holds_an_answer_or_a_test(seeker, words):
    assert not seeker.function("holds")(words)


@needs_box
def test_only_the_libraries_of_the_assignment_are_in_the_box(seeker):
    can = seeker.function("imports")
    for name in ("numpy", "scipy.optimize", "matplotlib.pyplot", "sklearn.datasets"):
        assert can(name), name
    for name in ("torch", "hypothesis", "nbgrader", "asdl"):
        assert not can(name), name


@needs_box
def test_the_kernel_remembers_no_test(seeker):
    seeker.keep()
    assert not seeker.function("remembers")("laws(")
    seeker.back(0)


def test_without_bubblewrap_nothing_runs_and_the_message_has_the_remedy(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    require_box.cache_clear()
    try:
        with pytest.raises(NoBox, match=r"apt-get install bubblewrap.*--unsafe"):
            Box("kfqn_ref.worker", limits=Limits())
    finally:
        require_box.cache_clear()


def test_where_the_kernel_refuses_a_box_the_message_says_so(monkeypatch):
    refused = subprocess.CompletedProcess(
        [], 1, "", "bwrap: No permissions to create new namespace"
    )
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: sys.executable)
    monkeypatch.setattr(sandbox.subprocess, "run", lambda *args, **options: refused)
    require_box.cache_clear()
    try:
        with pytest.raises(NoBox, match="No permissions to create new namespace"):
            require_box()
    finally:
        require_box.cache_clear()
