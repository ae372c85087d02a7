"""What is missing is said in one sentence that names the extra; the light install is light."""

import subprocess
import sys
import textwrap

import pytest

from kfqn_ref._extras import EXTRAS, MissingExtra, needs

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
    assert f"needs {missing[0]}, which the extra '{extra}' brings" in done.stderr
    assert f"pip install 'kfqn_ref[{extra}]'" in done.stderr


def test_a_library_call_names_the_missing_extra():
    code = "from kfqn_ref.testing import run_checks"
    done = run_without(["hypothesis"], code)
    assert done.stderr.splitlines()[-1].endswith("pip install 'kfqn_ref[check]'")
    assert "MissingExtra: kfqn_ref.testing.run_checks needs hypothesis" in done.stderr


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


def test_the_optimizer_loads_no_checker_of_shapes():
    code = """
    import kfqn_ref.optim
    print(sorted({"beartype", "jaxtyping"} & sys.modules.keys()))
    """
    assert run_without([], code).stdout == "[]\n"


def test_a_whole_extra_that_is_there_is_no_error():
    needs("cli", "this test")
    with pytest.raises(KeyError):
        needs("unknown", "this test")
    assert issubclass(MissingExtra, ImportError)
