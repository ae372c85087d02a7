"""The two implementations are independent: neither imports the other, the reference does not import
torch.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kfqn_ref

PACKAGE = Path(kfqn_ref.__file__).parent
MEETING_PLACES = {"bridge.py", "cli.py", "files.py", "__main__.py"}
REFERENCE = sorted(
    path
    for folder in (PACKAGE, PACKAGE / "method", PACKAGE / "theory")
    for path in folder.glob("*.py")
    if path.name not in MEETING_PLACES
)
OPTIM = sorted((PACKAGE / "optim").glob("**/*.py"))


def imports(source: str) -> set[str]:
    """Full names of everything that a module imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign_to_optim(name: str) -> bool:
    return name.split(".")[0] == "kfqn_ref" and not name.startswith("kfqn_ref.optim.")


def foreign_to_reference(name: str) -> bool:
    first, second = (name.split(".") + [""])[:2]
    return first == "torch" or (
        first == "kfqn_ref"
        and second in {"optim", "testing", "experiments", "course", "bridge", "files", "cli"}
    )


@pytest.mark.parametrize("path", OPTIM, ids=lambda p: p.name)
def test_the_torch_side_imports_no_reference_module(path: Path) -> None:
    assert not {name for name in imports(path.read_text()) if foreign_to_optim(name)}


@pytest.mark.parametrize("path", REFERENCE, ids=lambda p: p.name)
def test_the_reference_imports_neither_torch_nor_the_torch_side(path: Path) -> None:
    assert not {name for name in imports(path.read_text()) if foreign_to_reference(name)}


def test_the_rules_see_a_violation() -> None:
    assert {n for n in imports("def f():\n    from kfqn_ref.bfgs import x") if foreign_to_optim(n)}
    assert {n for n in imports("from kfqn_ref import bfgs") if foreign_to_optim(n)}
    assert {n for n in imports("import torch.nn as nn") if foreign_to_reference(n)}
    assert {n for n in imports("from kfqn_ref import optim") if foreign_to_reference(n)}
    assert len(OPTIM) > 5
    assert len(REFERENCE) > 10


def loaded_by(statement: str) -> list[str]:
    """Modules that a fresh process has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_fresh_process_runs_the_optimizer_without_any_reference_module() -> None:
    # the front page of the package shows the reference, so here the package stands without its
    # front page
    bare = f"import types; p = types.ModuleType('kfqn_ref'); p.__path__ = [{str(PACKAGE)!r}]"
    step = "from kfqn_ref.optim import KFQN; import torch; m = torch.nn.Linear(3, 2); o = KFQN(m)"
    closure = "o.step(lambda: (f := m(torch.ones(4, 3)).square().mean(), f.backward())[0])"
    loaded = loaded_by(f"{bare}; sys.modules['kfqn_ref'] = p\n{step}\n{closure}")
    assert "kfqn_ref.optim.optimizer" in loaded
    assert not [
        n for n in loaded if n.startswith("kfqn_ref.") and not n.startswith("kfqn_ref.optim")
    ]


def test_a_fresh_process_with_the_reference_has_not_loaded_torch() -> None:
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in REFERENCE]
    modules = ", ".join(name for name in names if not name.endswith("__init__"))
    loaded = loaded_by(f"import {modules}")
    assert "kfqn_ref.method.step" in loaded
    assert not [n for n in loaded if n.split(".")[0] == "torch" or n.startswith("kfqn_ref.optim")]
