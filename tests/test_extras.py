"""What is missing is said in one sentence that names the extra; the light install is light."""

import importlib.metadata
import re
import subprocess
import sys
import textwrap

import pytest

from kfqn_ref._extras import EXTRAS, OLDEST_TORCH, MissingExtra, needs, needs_torch

# A finder that comes first, and does not find the modules named by the arguments.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
missing = set(sys.argv.pop(1).split(","))
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in missing else real(name, *a)
class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""
HEAVY = sorted({name for names in EXTRAS.values() for name in names})


def run_without(missing: list[str], code: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run code in a process that cannot import some modules."""
    command = [sys.executable, "-c", WITHOUT + textwrap.dedent(code), ",".join(missing), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CLI = "from kfqn_ref.__main__ import main; main()"
COMMANDS = {
    "kfqn without cli": (["typer"], ["--help"], "cli"),
    "kfqn verify without rich": (["rich"], ["verify"], "cli"),
    "kfqn train without matplotlib": (["matplotlib"], ["train"], "cli"),
    "kfqn check without hypothesis": (["hypothesis"], ["check", "file.py"], "check"),
    "kfqn converge without hypothesis": (["hypothesis"], ["converge"], "check"),
    "kfqn course without nbgrader": (["nbgrader"], ["course", "--help"], "course"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_names_the_missing_extra_in_one_sentence(case):
    missing, arguments, extra = COMMANDS[case]
    done = run_without(missing, CLI, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    names = rf" needs ([\w, ]+, )?{missing[0]}(, [\w, ]+)?, which the extra '{extra}' brings: "
    assert re.search(names, done.stderr), done.stderr  # others of the extra may be missing too
    assert f"pip install 'kfqn_ref[{extra}]'" in done.stderr


CALLS = {
    "from kfqn_ref.testing import run_checks": (
        "hypothesis",
        "check",
        "kfqn_ref.testing.run_checks",
    ),
    "from kfqn_ref.experiments.data import load_data; load_data('wine')": (
        "sklearn",
        "cli",
        "the data set 'wine'",
    ),
    "from kfqn_ref.testing.adapters.asdl import ASDL; ASDL()": (
        "asdl",
        "peers",
        "the adapter of ASDL",
    ),
}


@pytest.mark.parametrize("code", CALLS)
def test_a_library_call_names_the_missing_extra(code):
    module, extra, what = CALLS[code]
    last = run_without([module], code).stderr.splitlines()[-1]
    assert last == (
        f"kfqn_ref._extras.MissingExtra: {what} needs {module}, which the extra '{extra}' brings: "
        f"pip install 'kfqn_ref[{extra}]'"
    )


def test_a_torch_that_is_too_old_is_refused_in_one_sentence():
    code = """
    import torch
    torch.__version__ = "2.8.1+cpu"
    import kfqn_ref.optim
    """
    last = run_without([], code).stderr.splitlines()[-1]
    assert last == (
        "ImportError: kfqn_ref.optim needs torch 2.9 or newer, got 2.8.1+cpu: "
        "pip install --upgrade torch"
    )
    needs_torch("2.10.0+cpu")


def test_the_oldest_torch_is_the_one_of_the_requirement():
    wanted = importlib.metadata.requires("kfqn_ref")
    assert wanted is not None
    assert "torch>=" + ".".join(map(str, OLDEST_TORCH)) in wanted


def test_shapes_are_checked_unless_the_variable_says_no(monkeypatch):
    code = """
    import numpy as np
    from kfqn_ref import bfgs_inverse_update
    bfgs_inverse_update(np.eye(3), np.ones((3, 1)), np.ones((3, 1)))
    """
    for value, error in {"1": "TypeCheckError", "0": "ValueError: matmul"}.items():
        monkeypatch.setenv("KFQN_CHECK_SHAPES", value)
        assert error in run_without([], code).stderr


def test_the_optimizer_loads_little_beside_torch():
    """The import of the optimizer is cheap since it loads its own modules alone."""
    code = """
    import torch
    before = set(sys.modules)
    import kfqn_ref.optim
    new = set(sys.modules) - before
    print(sorted({name.partition(".")[0] for name in new} - sys.stdlib_module_names))
    print(sorted(name for name in new if name.startswith("kfqn_ref.") and "optim" not in name))
    """
    done = run_without([], code)
    assert done.stdout.splitlines() == ["['kfqn_ref']", "['kfqn_ref._extras']"], done.stdout


def test_the_reference_and_the_optimizer_need_no_extra():
    code = """
    import torch
    import kfqn_ref
    from kfqn_ref.optim import KFQN
    model = torch.nn.Linear(3, 2)
    opt = KFQN(model, lr=0.1)
    def closure():
        opt.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        return loss
    opt.step(closure)
    for name in kfqn_ref.__all__:
        getattr(kfqn_ref, name)
    print("done")
    """
    done = run_without(HEAVY, code)
    assert done.stdout == "done\n", done.stderr


def test_verify_and_train_need_the_extra_of_commands_alone():
    code = """
    import kfqn_ref.experiments.verify.side_by_side
    import kfqn_ref.experiments.verify.secant
    import kfqn_ref.experiments.train.run
    print("done")
    """
    done = run_without(["hypothesis", "allpairspy", "nbgrader"], code)
    assert done.stdout == "done\n", done.stderr


def test_a_whole_extra_that_is_there_is_no_error():
    needs("cli", "this test")
    with pytest.raises(KeyError):
        needs("unknown", "this test")
    assert issubclass(MissingExtra, ImportError)
