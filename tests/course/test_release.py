"""The assignments: solutions earn everything, stubs nothing, and no hand-out gives an answer
away.
"""

import contextlib
import io

import nbformat
import pytest

from kfqn_ref.course.classroom import Classroom, CourseError
from kfqn_ref.course.lesson import laws
from kfqn_ref.course.regrade import is_solution, is_test
from kfqn_ref.course.release import available, master_notebook, release, with_fresh_seeds

from .samples import grade_id

ASSIGNMENTS = available()


def run(notebook) -> dict[str, str]:
    """Every test cell's failure, by id, in this process with few examples; empty where it
    passed.
    """
    namespace, results = {"__name__": "notebook"}, {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(cell.source, namespace)
                failure = ""
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
            if grade_id(cell) == "setup":
                namespace["laws"] = lambda own, *names, seed=None, **_: laws(
                    own, *names, examples=12, seed=seed
                )
            if is_test(cell):
                results[cell.metadata.nbgrader.grade_id] = failure
            elif not is_solution(cell):
                assert not failure, failure
    return results


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_solution_earns_everything(name):
    results = run(master_notebook(ASSIGNMENTS[name]))
    assert results
    assert not any(results.values()), results


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_the_hand_out_earns_nothing_and_gives_nothing_away(tmp_path, name):
    path = release(Classroom(tmp_path), name)
    text = path.read_text(encoding="utf-8")
    for secret in ("BEGIN SOLUTION", "HIDDEN TESTS", "untampered()", "seed="):
        assert secret not in text
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.language_info.file_extension == ".py"  # an export is named by it
    results = run(notebook)
    assert all(results.values()), results
    assert all("still the stub" in failure for failure in results.values()), results


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_assignment_has_goals_rubric_time_and_partial_credit(name):
    notebook = master_notebook(ASSIGNMENTS[name])
    text = notebook.cells[0].source
    for wanted in ("**Time**", "**Points**", "What you will be able to do", "How it is graded"):
        assert wanted in text
    tests = {
        c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points
        for c in notebook.cells
        if is_test(c)
    }
    assert len(tests) >= 4
    assert all(f"`{part}`" in text for part in tests)
    by_hand = sum(
        cell.metadata.nbgrader.points
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.metadata.nbgrader.solution
    )
    assert f"**Points** {sum(tests.values()):g}" in text
    assert not by_hand or f"{by_hand:g} by hand" in text


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_test_cell_has_a_hidden_part_with_a_canary(name):
    for cell in master_notebook(ASSIGNMENTS[name]).cells:
        if is_test(cell):
            visible, _, hidden = cell.source.partition("### BEGIN HIDDEN TESTS")
            assert visible.strip()
            assert "untampered()" in hidden


def test_every_release_has_other_hidden_examples_and_the_same_visible_ones():
    def drawn():
        cells = with_fresh_seeds(master_notebook(ASSIGNMENTS["a1_bfgs"])).cells
        return [cell.source.partition("### BEGIN HIDDEN TESTS") for cell in cells]

    first, second = drawn(), drawn()
    assert [visible for visible, _, _ in first] == [visible for visible, _, _ in second]
    assert [hidden for _, _, hidden in first] != [hidden for _, _, hidden in second]


def test_an_unknown_assignment_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(CourseError, match="must be one of a1_bfgs"):
        release(Classroom(tmp_path), "a9")
    with pytest.raises(CourseError, match="no assignments"):
        release(Classroom(tmp_path), "a1_bfgs", tmp_path)
