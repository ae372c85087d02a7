"""From a formula of the book to its function, its laws and the mutants they reject, and back.

Nothing is listed by hand. A formula is a numbered equation of a chapter. A function computes it
if its docstring names the number. A law binds a function that it requires. A mutant replaces a
function, and the kill matrix says which laws reject it. ``laws_page`` writes the page of all, and
``with_links`` puts the links of a formula below it; a Sphinx extension of the book calls both.
"""

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.kill_matrix import KillMatrix, stored
from kfqn_ref.testing.law import Check
from kfqn_ref.testing.runner import all_checks

Number = tuple[int, int]

NAMED = re.compile(r"(?<![\w.\])])\((\d{1,2})\.(\d{1,2})\)")
BLOCK = re.compile(
    r"^\(eq-(\d+)-(\d+)\)=\n(\\begin\{(?:equation|align)\*\}.*?\\end\{(?:equation|align)\*\})\n",
    re.MULTILINE | re.DOTALL,
)
TAG = re.compile(r"\\tag\{(\d+)\.(\d+)\}")

ELSEWHERE: dict[Number, str] = {
    (10, 1): "kfqn_ref.optim.kernels.bfgs_rank_two",
    (10, 2): "kfqn_ref.optim.kernels.lbfgs_apply",
    (12, 2): "kfqn_ref.method.nadam.scaled",
    (12, 3): "kfqn_ref.method.muon.direction",
    (13, 1): "kfqn_ref.optim.distributed.Reducer.mean_",
    (13, 2): "kfqn_ref.experiments.scale.model.all_reduce",
    (9, 1): "kfqn_ref.damping.h0_damp",
}
"""Formulas whose function is not one that the suite takes from an implementation."""

STATEMENTS: dict[Number, str] = {
    (1, 1): "the example of the chapter; its cells compute with it",
    (4, 8): "an identity, asserted by the test box below it",
    (10, 3): "an estimate, compared with counted operations in the chapter",
    (12, 1): "a definition, evaluated in the chapter",
}
"""Formulas without a function of the package, and where they are checked."""


@dataclass(frozen=True)
class Formula:
    """A numbered equation: its number, the chapter and the target of the block it stands in."""

    number: Number
    chapter: str
    target: str

    @property
    def label(self) -> str:
        """The number as it is written, "(2.1)"."""
        return f"({self.number[0]}.{self.number[1]})"

    @property
    def link(self) -> str:
        """The number as a link to the equation."""
        return f"[{self.label}](#{self.target})"


def formulas(folder: Path) -> dict[Number, Formula]:
    """Return the numbered equations of all chapters of a folder, in order."""
    found = {}
    for chapter in sorted(folder.glob("*.md")):
        if chapter.name == "README.md":
            continue
        for match in BLOCK.finditer(chapter.read_text(encoding="utf-8")):
            for tag in TAG.findall(match[3]):
                number = (int(tag[0]), int(tag[1]))
                target = f"eq-{match[1]}-{match[2]}"
                found[number] = Formula(number, chapter.stem, target)
    return dict(sorted(found.items()))


def numbers_in(text: str | None) -> list[Number]:
    """Return the equation numbers that a docstring names, once each, in order."""
    return list(dict.fromkeys((int(a), int(b)) for a, b in NAMED.findall(text or "")))


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """Return the functions that the laws are about, as the reference provides them, by name."""
    return reference.names()


def path_of(function: Callable[..., Any]) -> str:
    """Return module and name of a function."""
    return f"{function.__module__}.{function.__qualname__}"


def computing(number: Number) -> list[str]:
    """Return the names of the functions whose docstring names this equation."""
    return [name for name, f in functions().items() if number in numbers_in(f.__doc__)]


@cache
def laws() -> dict[str, Check]:
    """Return all laws by name."""
    return {check.name: check for check in all_checks(errors=True)}


def laws_of(function: str) -> list[str]:
    """Return the names of the laws that require a function."""
    return [name for name, check in laws().items() if function in check.requires]


@cache
def matrix() -> KillMatrix:
    """Return the stored kill matrix."""
    found = stored()
    if found is None:
        raise FileNotFoundError(
            "the kill matrix must be stored: see kfqn_ref.testing.kill_matrix, got none"
        )
    return found


def rejected_by(law: str) -> list[str]:
    """Return the names of the mutants that a law rejects."""
    return [mutant for mutant, killers in matrix().kills.items() if law in killers]


def mutants_of(function: str) -> list[str]:
    """Return the names of the mutants of a function."""
    return [mutant for mutant, name in matrix().replaces.items() if name == function]


def target(kind: str, name: str) -> str:
    """Return the name of the target of a formula, function, law or mutant on the page of laws."""
    return f"{kind}-" + re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _link(kind: str, name: str) -> str:
    return f"[`{name}`](#{target(kind, name)})"


def _links(kind: str, names: Iterable[str]) -> str:
    return ", ".join(_link(kind, name) for name in names)


def _role(path: str) -> str:
    return f"{{py:func}}`~{path}`"


def source_link(name: str) -> str:
    """Return a link to the documentation of a function, from where its source is a click away."""
    path = path_of(functions()[name])
    if path.startswith("kfqn_ref.testing."):
        return "{py:class}`~kfqn_ref.method.step.KFQN`"
    return _role(path)


def below(formula: Formula) -> str:
    """Return the line that stands below a formula: its functions, laws and mutants."""
    here = f"#{target('formula', formula.label)}"
    names = computing(formula.number)
    if names:
        bound = {law for name in names for law in laws_of(name)}
        code = ", ".join(source_link(name) for name in names)
        return f"{formula.label} in code: {code} · [laws ({len(bound)}) and mutants]({here})"
    if formula.number in ELSEWHERE:
        return f"{formula.label} in code: `{ELSEWHERE[formula.number]}` · [tests]({here})"
    return f"[{formula.label}: where it is checked]({here})"


def with_links(text: str, found: dict[Number, Formula]) -> str:
    """Return the text of a chapter with the links of every formula below it."""

    def add(match: re.Match[str]) -> str:
        numbers = [(int(a), int(b)) for a, b in TAG.findall(match[3])]
        lines = "\\\n".join(below(found[number]) for number in numbers)
        return f"{match[0]}\n:::{{div}} kfqn-trace\n{lines}\n:::\n"

    return BLOCK.sub(add, text)


def link_docstring(name: str, lines: list[str], found: dict[Number, Formula]) -> None:
    """Make links of the equation numbers in the lines of an API docstring, in place.

    A function that laws are about gets a line with a link to them as well. The text is
    reStructuredText, as Sphinx hands it to its listeners.

    Args:
        name: module and name of the documented object.   lines: its docstring, changed here.
        found: the numbered equations of the book.
    """

    def link(match: re.Match[str]) -> str:
        formula = found.get((int(match[1]), int(match[2])))
        return match[0] if formula is None else f":ref:`{formula.label} <{formula.target}>`"

    for i, line in enumerate(lines):
        lines[i] = NAMED.sub(link, line)
    for function, value in functions().items():
        if path_of(value) == name:
            lines += ["", f":ref:`Laws and mutants <{target('function', function)}>`", ""]


# --------------------------------------------------------------------------------- the page of laws


def _tree(check: Check) -> ast.FunctionDef:
    source = textwrap.dedent(inspect.getsource(check.statement))
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.FunctionDef)
    return tree


def strategy_of(check: Check) -> str:
    """Return the strategy that draws a law's cases, as it is written in the code."""
    for decorator in _tree(check).decorator_list:
        if isinstance(decorator, ast.Call):
            for keyword in decorator.keywords:
                if keyword.arg == "given":
                    return f"`{' '.join(ast.unparse(keyword.value).split())}`"
    return "those of the laws of this function"


STATED = {"equal": 4, "at_most": 4, "holds": None}


def tolerances_of(check: Check) -> list[str]:
    """Return the expressions of the tolerances in a law's body, "exact" for one without."""
    found = []
    for node in ast.walk(_tree(check)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            position = STATED.get(node.func.id)
            if position is not None and len(node.args) > position:
                found.append(" ".join(ast.unparse(node.args[position]).split()))
            elif node.func.id == "holds":
                found.append("exact")
    return list(dict.fromkeys(found))


def _derivations(expressions: Iterable[str]) -> list[str]:
    """Return the functions of ``tolerances`` that expressions call."""
    names = re.findall(r"\btol\.(\w+)\(", " ".join(expressions))
    return list(dict.fromkeys(names))


@cache
def _power(path: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (found, tried) of each kill test that was measured, by law and mutant."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return {
        (row["check"], row["mutant"]): (row["seeds"] - len(row["survived"]), row["seeds"])
        for row in data["kills"]
    }


def power_of(law: str, folder: Path) -> str:
    """Return in words how often a law found the mutants that it is held to."""
    rows = [
        f"{_link('mutant', mutant)} with {found} of {tried} seeds"
        for (name, mutant), (found, tried) in _power(folder / "data/power/power.json").items()
        if name == law and mutant in matrix().kills
    ]
    return "; ".join(rows)


def _law_entry(name: str, folder: Path) -> str:
    check = laws()[name]
    tolerances = tolerances_of(check)
    lines = [
        f"({target('law', name)})=",
        f"`{name}`",
        f": {check.words}",
        "",
        f"  * *Formula:* `{' '.join(check.formula.split())}`",
        f"  * *Cases:* {strategy_of(check)}",
    ]
    if tolerances:
        derived = ", ".join(
            _role(f"kfqn_ref.testing.tolerances.{n}") for n in _derivations(tolerances)
        )
        ending = f", derived in {derived}" if derived else ""
        lines.append(f"  * *Tolerance:* {', '.join(f'`{t}`' for t in tolerances)}{ending}")
    others = [_link("function", other) for other in check.requires]
    lines.append(f"  * *Binds:* {', '.join(others)}")
    lines.append(f"  * *Rejects:* {_links('mutant', rejected_by(name))}")
    measured = power_of(name, folder)
    if measured:
        lines.append(f"  * *Power:* {measured}")
    return "\n".join(lines)


def _formula_entry(formula: Formula) -> str:
    names = computing(formula.number)
    start = f"({target('formula', formula.label)})=\n{formula.link} of [{formula.chapter}]"
    start += f"({formula.chapter}.md): "
    if names:
        bound = [law for name in names for law in laws_of(name)]
        mutants = [mutant for name in names for mutant in mutants_of(name)]
        return (
            f"{start}computed by {_links('function', names)}; "
            f"laws: {_links('law', sorted(set(bound)))}; {len(mutants)} mutants."
        )
    if formula.number in ELSEWHERE:
        return f"{start}computed by `{ELSEWHERE[formula.number]}`, which has tests of its own."
    return f"{start}{STATEMENTS[formula.number]}."


def _function_entry(name: str, found: dict[Number, Formula], folder: Path) -> str:
    numbers = [n for n in numbers_in(functions()[name].__doc__) if n in found]
    shown = ", ".join(found[number].link for number in numbers)
    own = [law for law in laws_of(name) if laws()[law].requires[0] == name]
    others = [law for law in laws_of(name) if law not in own]
    parts = [
        f"({target('function', name)})=\n### {name}\n\n"
        f"{source_link(name)} computes {shown}. Its mutants: {_links('mutant', mutants_of(name))}."
    ]
    if others:
        parts.append(f"Laws that bind it and are listed elsewhere: {_links('law', others)}.")
    return "\n\n".join(parts + [_law_entry(law, folder) for law in own])


def _mutant_entry(name: str) -> str:
    kills = matrix()
    replaced = _link("function", kills.replaces[name])
    killers = _links("law", kills.kills[name])
    return (
        f"({target('mutant', name)})=\n`{name}`\n: {kills.mistakes[name]}. "
        f"Replaces {replaced}; rejected by {killers}."
    )


def laws_page(folder: Path) -> str:
    """Return the text of the page that lists formulas, functions, laws and mutants."""
    found = formulas(folder)
    return "\n\n".join(
        [
            "## Formulas",
            *map(_formula_entry, found.values()),
            "## Functions and their laws",
            *(_function_entry(name, found, folder) for name in functions()),
            "## Mutants",
            *map(_mutant_entry, matrix().kills),
        ]
    )
