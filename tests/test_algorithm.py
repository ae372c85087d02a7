"""The page of the algorithm walks with the full method, and every line of it matters.

The list of mistakes has one entry for each executable line of the page; the test reads the lines
from the source, so that a new line without a mistake, or a mistake without a line, fails.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from kfqn_ref import algorithm

from .trajectories import CNN, batches, reference_run

SOURCE = Path(algorithm.__file__).read_text(encoding="utf-8")
STEPS = 30
DECAY = 0.01

MISTAKES = {
    "target: Array, *, lam: float = 0.1": "target: Array, *, lam: float = 0.01",
    "params, x, target).records": "params, 2 * x, target).records",
    "(input_factor(seen.a_bar) + sqrt(lam) *": "(input_factor(seen.a_bar) + lam *",
    "Pair(np.zeros(W.shape[0]),": "Pair(np.full(W.shape[0], 1e-3),",
    "H_a, np.eye(W.shape[0]), nothing": "H_a, np.eye(W.shape[0]) / sqrt(lam), nothing",
    "blocks = []": "blocks = [None]",
    "return blocks": "return [block._replace(M=block.M + 1e-3) for block in blocks]",
    "mu1: float = 0.2": "mu1: float = 0.8",
    "lambda_a = sqrt(lam)": "lambda_a = lam",
    "lambda_g = sqrt(lam)": "lambda_g = lam",
    "first = forward_backward(network, params, x,": "first = forward_backward(network, params, -x,",
    "moved = []": "moved = [params[0]]",
    "learnt = []": "learnt = [blocks[0]]",
    "zip(params, first.grads,": "zip(params, [-g for g in first.grads],",
    "(1 - beta) * (grad + tau * W)": "(1 - beta) * grad + tau * W",
    "alpha * block.H_g @ M @ block.H_a": "alpha * M @ block.H_a",
    "seen.a_bar, lam=lambda_a)": "seen.a_bar, lam=0.0)",
    "H_a = bfgs_inverse_update(block.H_a, s_a, y_a)": "H_a = block.H_a",
    "block._replace(M=M, H_a=H_a)": "block._replace(H_a=H_a)",
    "forward_backward(network, tuple(moved), x,": "forward_backward(network, tuple(moved), x / 2,",
    "updated = []": "updated = [learnt[0]]",
    "zip(first.records, second.records,": "zip(second.records, second.records,",
    "output_pair(before, after), decay=beta": "output_pair(before, after), decay=1 - beta",
    "mu1=mu1, lam=lambda_g": "mu1=mu1, lam=0.0",
    "H_g = bfgs_inverse_update(block.H_g, s, y)": "H_g = block.H_g",
    "block._replace(H_g=H_g, averaged=averaged)": "block._replace(H_g=H_g)",
    "return tuple(moved), updated": "return params, updated",
}
"""Part of a line of the page, and what a mistake makes of it."""


def executable_lines() -> list[str]:
    """The lines of the page that do something: statements of functions, and their defaults."""
    lines = set()
    for function in ast.parse(SOURCE).body:
        if isinstance(function, ast.FunctionDef):
            statements = [s for s in ast.walk(function) if isinstance(s, ast.stmt)]
            docstring = function.body[0]
            lines |= {s.lineno for s in statements if s not in (function, docstring)}
            lines |= {value.lineno for value in function.args.kw_defaults if value is not None}
    return [SOURCE.splitlines()[number - 1].strip() for number in sorted(lines)]


def page(source: str) -> ModuleType:
    """The page as a module, made of this source."""
    module = ModuleType("page")
    exec(compile(source, "page", "exec"), vars(module))  # the page, or a mutant of it
    return module


def largest_deviation(of: ModuleType) -> float:
    """The largest relative distance of the page from the preset over 30 steps, ‖·‖_F."""
    known, params = reference_run("kfqn_cnn", STEPS, (("weight_decay", DECAY),))
    data = batches(CNN, STEPS)
    found = []
    blocks = of.start(CNN, params, *data[0])
    for (x, target), (wanted, state) in zip(data, known, strict=True):
        params, blocks = of.iteration(CNN, params, blocks, x, target, tau=DECAY)
        found += map(distance, params, wanted)
        for block, estimate in zip(blocks, state.blocks, strict=True):
            found.append(distance(block.H_a, estimate.H_a.dense()))
            found.append(distance(block.H_g, estimate.H_g.dense()))
    return float(np.max(found))


def distance(X: np.ndarray, Y: np.ndarray) -> float:
    return float(np.linalg.norm(X - Y) / np.linalg.norm(Y))


def test_the_page_walks_with_the_preset() -> None:
    """Both make the same sums in another order: they differ by rounding, grown over 30 steps."""
    assert largest_deviation(algorithm) < 1e-11


def test_the_path_takes_both_branches_of_the_damping_and_skips_nothing() -> None:
    """Skipping is not on the page, so that the comparison holds only where nothing is skipped."""
    _, state = reference_run("kfqn_cnn", STEPS, (("weight_decay", DECAY),))[0][-1]
    counts = [block.counts for block in state.blocks]
    assert any(0 < each.damped_g < STEPS for each in counts)
    assert all(each.skipped_a == each.skipped_g == 0 for each in counts)


def test_the_page_is_one_page() -> None:
    docstrings = ast.get_docstring(ast.parse(SOURCE), clean=False)
    code = [line for line in SOURCE.splitlines() if line.strip() and "#" not in line.strip()[:1]]
    assert docstrings is not None
    assert len(code) - len([line for line in docstrings.splitlines() if line]) <= 60
    assert len(SOURCE.splitlines()) <= 110


def test_the_steps_have_the_numbers_of_the_book_in_its_order() -> None:
    numbers = [
        line.split()[1].rstrip(".") for line in SOURCE.splitlines() if line.strip().startswith("# ")
    ]
    assert numbers == ["1", "2", "3", "4.1", "4.2", "4.3", "4.4", "4.5"]


def test_every_line_of_the_page_has_a_mistake() -> None:
    marked = [[part for part in MISTAKES if part in line] for line in executable_lines()]
    assert [len(parts) for parts in marked] == [1] * len(MISTAKES)
    assert all(SOURCE.count(part) == 1 for part in MISTAKES)


@pytest.mark.parametrize("part", MISTAKES)
def test_a_mistake_in_any_line_leaves_the_path(part: str) -> None:
    """A mistake breaks the comparison by far more than rounding, or cannot run at all."""
    wrong = page(SOURCE.replace(part, MISTAKES[part]))
    assert leaves_the_path(lambda: largest_deviation(wrong))


def leaves_the_path(run: Callable[[], float]) -> bool:
    try:
        with np.errstate(all="ignore"):
            return not run() < 1e-6
    except (ValueError, AttributeError):  # shapes do not fit, or a pair without curvature
        return True
