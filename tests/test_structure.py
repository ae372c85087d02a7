"""How the package is built: no circle of imports, no import from a lower room to a higher one, one
module that knows both sides, packages whose docstrings list all of their modules.
"""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import kfqn_ref
from kfqn_ref.experiments.book.rooms import direct, imports, levels

PACKAGE = Path(kfqn_ref.__file__).parent
ROOMS = {
    "reference": set(),
    "_extras": set(),
    "optim": {"_extras"},
    "files": set(),
    "method": {"reference"},
    "algorithm": {"reference"},
    "theory": {"reference", "method"},
    "bridge": {"reference", "method", "optim"},
    "testing": {"_extras", "reference", "method", "theory", "optim", "bridge", "files"},
    "experiments": {
        "_extras",
        "reference",
        "method",
        "theory",
        "optim",
        "bridge",
        "files",
        "testing",
    },  # fmt: skip
    "course": {"reference", "method", "files", "testing"},
    "cli": {"_extras", "reference", "experiments", "course", "testing"},
}
"""What a room may import besides itself; the front page ``kfqn_ref`` belongs to the reference."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def room_of(module: str) -> str:
    _, _, rest = module.partition(".")
    first = rest.split(".")[0].replace("__main__", "cli")
    return first if first in ROOMS else "reference"


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def import_statements(node: ast.AST, *, functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run: of the module's body, and of its functions if asked for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif only_for_types(child):
            continue
        elif functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from import_statements(child, functions=functions)


BOX = "kfqn_ref.course.box"  # inside the sandbox, this folder is the package


def base_of(module: str, statement: ast.ImportFrom) -> str:
    """The module from which a statement imports; imports are absolute, but for the box."""
    if not statement.level:
        return str(statement.module)
    assert module.startswith(BOX), f"{module}: imports are absolute"
    up = statement.level - (module in PACKAGES)
    parts = module.split(".")[: -up or None]
    return ".".join([*parts, statement.module] if statement.module else parts)


@cache
def imported_by(module: str, *, functions: bool = True) -> frozenset[str]:
    """The modules of this package that a module imports when it runs."""
    found = set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for statement in import_statements(tree, functions=functions):
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        else:
            base = base_of(module, statement)
            for alias in statement.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
    return frozenset(found & MODULES.keys())


def circle_from(start: str, graph: dict[str, frozenset[str]]) -> list[str]:
    """A way from a module back to itself, or nothing."""
    ways = [[start]]
    seen = set()
    while ways:
        way = ways.pop()
        for following in sorted(graph[way[-1]]):
            if following == start:
                return [*way, start]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


def test_no_module_imports_itself_over_others() -> None:
    graph = {module: imported_by(module) for module in MODULES}
    circles = [circle_from(module, graph) for module in MODULES]
    assert [circle for circle in circles if circle] == []


def test_a_circle_would_be_seen() -> None:
    graph = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"a"})}
    assert circle_from("a", graph) == ["a", "b", "c", "a"]
    assert circle_from("a", {**graph, "c": frozenset()}) == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    steps = [(m, other) for m in MODULES if room_of(m) == room for other in imported_by(m)]
    assert [s for s in steps if room_of(s[1]) not in {room, *ROOMS[room]}] == []
    assert any(room_of(m) == room for m in MODULES)


def test_the_bridge_alone_knows_both_sides() -> None:
    def rooms(module: str) -> set[str]:
        return {room_of(other) for other in imported_by(module)}

    reference = {"reference", "method", "theory", "algorithm"}
    both = [m for m in MODULES if "optim" in rooms(m) and rooms(m) & reference]
    assert both == ["kfqn_ref.bridge"]


def test_the_picture_of_the_rooms_is_true() -> None:
    assert imports().keys() == ROOMS.keys()
    for room, others in imports().items():
        assert others <= ROOMS[room], room


def test_the_picture_of_the_rooms_leaves_out_what_follows() -> None:
    graph: dict[str, set[str]] = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert levels(graph) == {"c": 0, "b": 1, "a": 2}
    assert direct(graph) == [("a", "b"), ("b", "c")]
    with pytest.raises(ValueError, match="imports must go one way, got a circle in"):
        levels({"a": {"b"}, "b": {"a"}})


def listed_in(docstring: str) -> list[str]:
    """The names in the first column of the tables of a package's docstring."""
    return re.findall(r"^``(\w+)`` ", docstring, re.MULTILINE)


def children_of(package: str) -> set[str]:
    inside = {m.removeprefix(f"{package}.") for m in MODULES if m.startswith(f"{package}.")}
    return {name for name in inside if "." not in name and not name.startswith("_")}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_all_of_its_modules(package: str) -> None:
    source = MODULES[package].read_text(encoding="utf-8")
    listed = listed_in(ast.get_docstring(ast.parse(source)) or "")
    assert sorted(listed) == sorted(children_of(package))


def test_about_35_names_are_at_the_top_and_each_is_importable() -> None:
    assert 30 <= len(kfqn_ref.__all__) <= 40
    for name in kfqn_ref.__all__:
        assert not isinstance(getattr(kfqn_ref, name), ModuleType)
        assert name in dir(kfqn_ref)
    assert set(kfqn_ref.__all__) == set(kfqn_ref._HOME)
    with pytest.raises(AttributeError, match="module 'kfqn_ref' has no attribute 'nothing'"):
        _ = kfqn_ref.nothing


def test_type_checkers_see_the_names_that_are_imported_later() -> None:
    (block,) = filter(only_for_types, ast.parse(inspect.getsource(kfqn_ref)).body)
    seen = {
        alias.name: str(statement.module)
        for statement in ast.walk(block)
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == {name: f"kfqn_ref.{home}" for name, home in kfqn_ref._HOME.items()}


def test_no_name_at_the_top_is_the_name_of_a_module() -> None:
    assert not set(kfqn_ref.__all__) & children_of("kfqn_ref")
    kronecker = import_module("kfqn_ref.kronecker")
    assert kfqn_ref.kronecker is kronecker
    assert callable(kronecker.kron)


HEAVY = ("torch", "hypothesis", "matplotlib", "sklearn")


def loaded_by(statement: str) -> list[str]:
    """Modules that a fresh process has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("room", ["reference", "method", "theory", "algorithm"])
def test_the_reference_has_no_import_of_a_heavy_library(room: str) -> None:
    for module in MODULES:
        if room_of(module) == room:
            tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
            for statement in import_statements(tree, functions=True):
                named = [alias.name for alias in statement.names]
                source = getattr(statement, "module", None)
                roots = {name.split(".")[0] for name in ([source] if source else named)}
                assert not roots & set(HEAVY), module


def ours(loaded: list[str]) -> set[str]:
    return {name for name in loaded if name.startswith("kfqn_ref.")}


def test_importing_the_package_loads_none_of_its_modules() -> None:
    loaded = loaded_by("import kfqn_ref")
    assert "kfqn_ref" in loaded
    assert ours(loaded) == set()
    assert "numpy" not in loaded


def test_all_names_of_the_reference_load_no_heavy_library() -> None:
    loaded = loaded_by("from kfqn_ref import *; import kfqn_ref.theory, kfqn_ref.algorithm")
    assert {"kfqn_ref.method.step", "kfqn_ref.theory.theorem"} <= set(loaded)
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)
    assert not {name for name in ours(loaded) if room_of(name) in {"optim", "bridge", "testing"}}


def test_a_step_of_the_torch_optimizer_loads_nothing_of_the_reference() -> None:
    step = "from kfqn_ref.optim import KFQN; import torch; m = torch.nn.Linear(3, 2); o = KFQN(m)"
    closure = "o.step(lambda: (f := m(torch.ones(4, 3)).square().mean(), f.backward())[0])"
    loaded = loaded_by(f"{step}\n{closure}")
    assert "kfqn_ref.optim.optimizer" in loaded
    assert {room_of(name) for name in ours(loaded)} == {"optim", "_extras"}


def test_importing_a_kernel_builds_no_checker_before_its_first_call() -> None:
    assert "beartype" not in loaded_by("from kfqn_ref import bfgs_inverse_update")
    call = "import numpy as np; e = np.ones(1); bfgs_inverse_update(np.eye(1), e, e)"
    assert "beartype" in loaded_by(f"from kfqn_ref import bfgs_inverse_update; {call}")


def test_a_name_of_the_package_is_what_its_module_has_now(monkeypatch):
    from kfqn_ref import factors

    with monkeypatch.context() as patched:
        patched.setattr(factors, "hessian_action", print)
        assert kfqn_ref.hessian_action is print
    assert kfqn_ref.hessian_action is factors.hessian_action is not print
