"""What the repository says of itself is true: versions, commands, examples, no trace of one
machine.
"""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import kfqn_ref
from kfqn_ref.experiments.bench import measure

ROOT = Path(__file__).parents[1]
PACKAGE = Path(kfqn_ref.__file__).parent
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".cff",
    ".yaml",
    ".yml",
    ".json",
    ".ipynb",
    ".bib",
    ".mjs",
    ".js",
    ".css",
    "",
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))["project"]


def pins() -> dict[str, Version]:
    lines = [
        line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")
    ]
    split = [line.split("==") for line in lines]
    return {normal(name): Version(version) for name, version in split}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def tracked() -> list[Path]:
    """The files of the repository, as git knows them; all but ignored ones where there is no
    git.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        made = {".venv", ".hypothesis"}  # by tests, in an unpacked sdist
        return [path for path in ROOT.rglob("*") if path.is_file() and not made & {*path.parts}]
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_versions_agree():
    version = project()["version"]
    assert re.search(rf"^version: {re.escape(version)}$", read("CITATION.cff"), re.MULTILINE)
    assert kfqn_ref.__version__ == importlib.metadata.version("kfqn_ref") == version
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_every_dependency_is_pinned_within_its_range():
    extras = project()["optional-dependencies"]
    wanted = [
        Requirement(text)
        for text in (*project()["dependencies"], *(r for e in extras.values() for r in e))
    ]
    known = pins()
    for requirement in wanted:
        if normal(requirement.name) != normal(project()["name"]) and requirement not in map(
            Requirement, extras["peers"]
        ):
            assert normal(requirement.name) in known, (
                f"{requirement.name} is not in constraints.txt"
            )
            assert known[normal(requirement.name)] in requirement.specifier, str(requirement)


def test_constraints_are_exact_and_from_no_place():
    for line in read("constraints.txt").splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line


def test_no_file_knows_a_machine():
    # written in two parts, so that this file does not find itself; a submission's box has a folder
    # of its own
    places = ["/" + "work/", "/" + "root/", "/" + "home/"]
    temporary = "/" + "tmp/"
    offenders = []
    for path in tracked():
        wanted = places if "course" in path.parts else [*places, temporary]
        pattern = re.compile(rf"(?<![\w.}}])({'|'.join(wanted)})")
        if path.suffix in TEXT and pattern.search(path.read_text(encoding="utf-8")):
            offenders.append(str(path.relative_to(ROOT)))
    assert not offenders


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_the_make_targets_that_a_text_names_exist(name):
    named = set(re.findall(r"(?:`|^|^\s+)make ([a-z-]+)", read(name), re.MULTILINE))
    assert named, "no target is named"
    assert named <= make_targets()


def test_ci_runs_lint_proof_and_suite():
    lines = read(".ci/run").splitlines()
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert "set -euo pipefail" in lines
    for target in ("lint", "verify", "test"):
        assert f"make {target}" in lines


def test_every_phony_target_has_a_help_line():
    phony = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)
    names = {name for line in phony for name in line.split()}
    documented = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    assert names == documented


def test_the_kfqn_commands_of_the_readme_exist():
    from kfqn_ref.cli import COMMANDS

    named = set(re.findall(r"(?:`|^|\s)kfqn ([a-z][a-z-]+)", read("README.md"), re.MULTILINE))
    assert {"verify", "train"} <= named
    assert named <= COMMANDS.keys()


def test_the_readme_names_every_preset():
    named = set(re.findall(r"`(\w+)`", read("README.md")))
    assert kfqn_ref.PRESETS.keys() <= named


def test_the_paths_that_the_readme_maps_exist():
    named = re.findall(r"^\| `([^`]+)`", read("README.md"), re.MULTILINE)
    assert len(named) >= 10
    # an installed package lies elsewhere
    places = (ROOT, Path(kfqn_ref.__file__).parents[1])
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    assert not missing


def test_the_losses_in_the_readme_are_those_of_the_recorded_first_look():
    trials = json.loads(read("book/data/first_look.json"))["trials"]
    last = {t["optimizer"]: f"{t['train_loss'][-1]:.3f}" for t in trials if t["chosen"]}
    assert len(last) == 3
    paragraph = next(
        text for text in read("README.md").split("\n\n") if text.startswith("`first-look` is")
    )
    assert set(re.findall(r"\d\.\d{3}", paragraph)) == set(last.values())


def test_the_readme_says_where_to_begin_by_what_was_measured():
    rows = json.loads(read("book/data/bench.json"))["rows"]
    (paragraph,) = (text for text in read("README.md").split("\n\n") if "Where to begin?" in text)
    ratio = rows["kfqn_input, every 10, lean"]["mean_over_sgd"]
    assert re.findall(r"\d\.\d\d", paragraph) == [f"{ratio:.2f}"]
    for name, value in measure.LEAN.items():
        assert f"{name}={value!r}".replace("'", '"') in paragraph.replace("\n", " ")
    for task in json.loads(read("book/data/race/full.json"))["tasks"].values():
        ours, sgd = (task["rows"][name] for name in ("kfqn_input_10", "sgd"))
        assert np.mean(ours["loss_at_equal_time"]) < np.mean(sgd["loss_at_equal_time"])


def test_the_paper_is_short_and_cites_what_the_book_knows():
    text = read("paper.md")
    keys = set(re.findall(r"@([a-z]+\d{4}\w*)", text))
    assert len(text.split()) < 1000
    assert len(keys) >= 5
    assert all(f"{{{key}," in read("book/references.bib") for key in keys)
    assert "make paper" in text
    assert "--out out/paper" in read("Makefile")


def python_examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", read("README.md"), re.MULTILINE | re.DOTALL)


def test_the_readme_has_one_example_for_torch_and_one_for_numpy():
    torch, numpy = python_examples()
    assert "from kfqn_ref.optim import KFQN" in torch
    assert "torch" not in numpy
    assert max(len(text.strip().splitlines()) for text in (torch, numpy)) <= 15


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_readme_learn(number, tmp_path):
    """Each prints the loss as it goes; the last is below half of the first."""
    command = [sys.executable, "-W", "error", "-c", python_examples()[number]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(text) for text in re.findall(r"\d+\.\d+", done.stdout)]
    assert len(losses) >= 2
    assert losses[-1] < losses[0] / 2


def simple_statements(source: str) -> tuple[int, int]:
    """Count the assignments of several values at once, and the conditional expressions that are
    only a part of a statement's value.
    """
    parallel, nested = 0, 0
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            parallel += isinstance(node.targets[0], ast.Tuple)
        whole = (ast.Assign, ast.AnnAssign, ast.Return)
        parts = [] if isinstance(node, whole) else ast.iter_child_nodes(node)
        nested += sum(isinstance(part, ast.IfExp) for part in parts)
    return parallel, nested


def test_parallel_and_nested_values_are_counted():
    assert simple_statements("a, b = x, y\na, b = f()\na = x if c else y") == (1, 0)
    assert simple_statements("f(x if c else y)\na = [x if c else y for x in z]") == (0, 2)


SIMPLE = ("course", "experiments", "method", "optim", "testing", "theory")
"""Folders of the package whose statements are simple."""


@pytest.mark.parametrize("folder", SIMPLE)
def test_statements_are_simple(folder):
    """At most 5 parallel assignments a 1,000 lines; no conditional expression in another one."""
    sources = {path: path.read_text() for path in (PACKAGE / folder).rglob("*.py")}
    found = {path.name: simple_statements(source) for path, source in sources.items()}
    lines = sum(source.count("\n") for source in sources.values())
    parallel = {name: count for name, (count, _) in found.items() if count}
    assert sum(parallel.values()) <= 5 * lines / 1000, parallel
    assert not {name: count for name, (_, count) in found.items() if count}


PUBLIC = ("kfqn_ref", "kfqn_ref.optim", "kfqn_ref.theory", "kfqn_ref.testing")
"""The packages whose ``__all__`` is the public API."""


def documented() -> dict[str, set[str]]:
    """The modules of the API page, each with the names that it shows."""
    page = re.findall(
        r"^\.\. automodule:: (\S+)\n((?:   :.*\n)*)", read("book/api.md"), re.MULTILINE
    )
    shown = {}
    for module, options in page:
        names = re.search(r":members:(.*)", options)
        listed = {name.strip() for name in names[1].split(",")} if names else set()
        shown[module] = names_of(module) if listed == {""} else listed
    return shown


def names_of(module: str) -> set[str]:
    """The public names of a module: its ``__all__``, or what it defines itself."""
    found = import_module(module)
    own = {
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", module) == module
    }
    return set(getattr(found, "__all__", own))


@pytest.mark.parametrize("package", PUBLIC)
def test_the_api_page_shows_every_public_name(package):
    shown = set().union(*documented().values())
    names = set(import_module(package).__all__)
    assert len(names) > 1
    assert names - shown == set()


def test_the_api_page_shows_no_name_that_is_not_there():
    for module, names in documented().items():
        missing = [name for name in names if not hasattr(import_module(module), name)]
        assert not missing, module


def test_every_public_name_has_a_docstring():
    values = {
        (p, n): getattr(import_module(p), n) for p in PUBLIC for n in import_module(p).__all__
    }
    assert [key for key, value in values.items() if callable(value) and not value.__doc__] == []
