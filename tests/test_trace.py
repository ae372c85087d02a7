"""From every formula of the book one can go to its function, laws and mutants, and back."""

import re
from pathlib import Path

import pytest

from kfqn_ref.experiments.book import trace
from kfqn_ref.testing import tolerances

BOOK = Path(__file__).parents[1] / "book"
FORMULAS = trace.formulas(BOOK)
PAGE = trace.laws_page(BOOK)


def test_every_formula_has_a_function_or_says_where_it_is_checked() -> None:
    computed = {number for number in FORMULAS if trace.computing(number)}
    assert computed | set(trace.ELSEWHERE) | set(trace.STATEMENTS) == set(FORMULAS)
    assert not computed & (set(trace.ELSEWHERE) | set(trace.STATEMENTS))
    assert len(computed) > 25


def test_the_functions_named_by_hand_exist_and_name_their_formula() -> None:
    for number, path in trace.ELSEWHERE.items():
        module, _, name = path.rpartition(".")
        if module.rpartition(".")[2][0].isupper():  # a method
            module, _, owner = module.rpartition(".")
            source = f"def {name}("
            assert f"class {owner}" in _source(module)
        else:
            source = f"def {name}("
        text = _source(module)
        assert source in text
        assert f"({number[0]}.{number[1]})" in text[text.index(source) :]


def _source(module: str) -> str:
    root = BOOK.parent
    return (root / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", trace.functions())
def test_a_function_leads_to_formulas_laws_and_mutants(name: str) -> None:
    numbers = trace.numbers_in(trace.functions()[name].__doc__)
    assert numbers
    assert set(numbers) <= set(FORMULAS)
    assert trace.laws_of(name)
    assert trace.mutants_of(name)


def test_a_law_leads_to_functions_and_mutants_and_a_mutant_to_a_function_and_laws() -> None:
    for name, check in trace.laws().items():
        assert set(check.requires) <= set(trace.functions())
        assert trace.rejected_by(name), name
    kills = trace.matrix()
    for mutant, killers in kills.kills.items():
        assert kills.replaces[mutant] in trace.functions()
        assert killers
        assert set(killers) <= set(trace.laws())


def test_from_a_formula_every_law_and_mutant_is_reached_and_leads_back() -> None:
    """Walk the four directions from each formula; the union of all walks is everything."""
    laws_seen: set[str] = set()
    mutants_seen: set[str] = set()
    for number in FORMULAS:
        for function in trace.computing(number):
            for law in trace.laws_of(function):
                laws_seen.add(law)
                for mutant in trace.rejected_by(law):
                    mutants_seen.add(mutant)
                    back = trace.matrix().replaces[mutant]
                    assert trace.numbers_in(trace.functions()[back].__doc__)
    assert laws_seen == set(trace.laws())
    assert mutants_seen == set(trace.matrix().kills)


def test_links_of_the_page_and_of_the_formulas_have_exactly_one_target() -> None:
    chapters = [path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))]
    text = PAGE + "".join(trace.with_links(chapter, FORMULAS) for chapter in chapters)
    found = re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE)
    own = [name for name in found if name.startswith(("formula-", "function-", "law-", "mutant-"))]
    assert len(own) == len(set(own))
    links = re.findall(r"\]\(#((?:formula|function|law|mutant|eq)-[\w-]+)\)", text)
    assert len(links) > 1000
    assert set(links) <= set(found)
    assert set(own) <= set(links), "a target that nothing links to is a dead end"


def test_a_formula_has_its_links_below_it() -> None:
    text = (BOOK / "damping.md").read_text(encoding="utf-8")
    shown = trace.with_links(text, FORMULAS)
    after = shown[shown.index("(eq-2-1)=") : shown.index("(eq-2-2)=")]
    assert "{py:func}`~kfqn_ref.damping.powell_damp`" in after
    assert "](#formula-2-1)" in after
    assert shown.replace(after, "") != shown
    assert trace.with_links("no formula", FORMULAS) == "no formula"


def test_a_docstring_leads_to_its_formula_and_its_laws() -> None:
    lines = ["Return the damped step (2.1); (99.1) is no formula."]
    trace.link_docstring("kfqn_ref.damping.powell_damp", lines, FORMULAS)
    assert ":ref:`(2.1) <eq-2-1>`; (99.1)" in lines[0]
    assert ":ref:`Laws and mutants <function-powell-damp>`" in lines
    other = ["Return nothing."]
    trace.link_docstring("kfqn_ref.other", other, FORMULAS)
    assert other == ["Return nothing."]


def test_a_law_says_how_its_cases_are_drawn_and_where_its_tolerance_is_derived() -> None:
    check = trace.laws()["damping.powell_curvature"]
    assert trace.strategy_of(check) == "`damping_cases`"
    assert trace.tolerances_of(check) == ["tol.powell(f.u, H, s, y) * tol.norm(y)"]
    assert trace.tolerances_of(trace.laws()["optimizer.counters"]) == ["exact"]
    for name in re.findall(r"`~kfqn_ref\.testing\.tolerances\.(\w+)`", PAGE):
        assert hasattr(tolerances, name)


def test_the_power_of_a_law_is_the_measured_one() -> None:
    rows = trace.power_of("bfgs.secant", BOOK)
    found = re.findall(r"with (\d+) of (\d+) seeds", rows)
    assert found
    assert all(int(part) <= int(whole) for part, whole in found)
