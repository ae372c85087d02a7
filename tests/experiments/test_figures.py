"""Figures of the book: complete, small, the same at every build, and readable without eyes."""

import re
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from kfqn_ref.experiments.book.break_it import break_it
from kfqn_ref.experiments.book.drawing import in_numbers
from kfqn_ref.experiments.book.figures import BLUE, explorable, figure, show


def draw(step: int, name: str = "a") -> Figure:
    fig, ax = figure(width=2, height=1.5)
    ax.plot([0, step + 1], color=BLUE, label=name)
    ax.set_title(f"{name} {step}")
    return fig


def data(picture: Any) -> dict[str, Any]:
    return picture._repr_mimebundle_()


def test_a_picture_is_svg_on_the_page_and_png_in_print() -> None:
    picture = data(show(draw(1), 'a line that rises from 0 to "2"'))
    assert picture["image/png"].startswith(b"\x89PNG")
    assert picture["text/html"].count("<svg") == 1
    assert 'aria-label="a line that rises from 0 to &quot;2&quot;"' in picture["text/html"]
    assert picture["text/plain"] == 'a line that rises from 0 to "2"'


def test_colours_are_the_pages() -> None:
    html = data(show(draw(1), "a line"))["text/html"]
    assert "var(--kfqn-0)" in html
    assert BLUE not in html
    assert "#000000" not in html


def test_the_same_figure_is_the_same_page() -> None:
    assert data(show(draw(1), "a line")) == data(show(draw(1), "a line"))


def test_every_position_of_the_sliders_has_its_picture_and_one_is_shown() -> None:
    html = data(explorable(draw, alt="lines", start=[2, 1], step=range(3), name=["a", "b"]))[
        "text/html"
    ]
    frames = re.findall(r'<div class="kfqn-frame"( hidden)?>.*?</div>', html, flags=re.DOTALL)
    assert [frame == "" for frame in frames] == [False] * 5 + [True]
    titles = re.findall(r">([ab] \d)<", html)
    assert titles == ["a 0", "b 0", "a 1", "b 1", "a 2", "b 2"]
    assert html.count('type="range"') == 2
    assert 'data-values="0|1|2" aria-valuetext="2"' in html
    assert 'data-values="a|b" aria-valuetext="b"' in html


def test_no_id_occurs_twice() -> None:
    html = data(explorable(draw, alt="lines", step=range(4)))["text/html"]
    for frame in html.split('class="kfqn-frame"')[1:]:
        used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", frame))
        assert used <= set(re.findall(r'id="([^"]+)"', frame))
    ids = re.findall(r'id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("positions", [0, 81])
def test_too_many_positions_are_refused(positions: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 80 positions together, got {positions}"):
        explorable(draw, alt="lines", step=range(positions))


def test_break_it_shows_what_a_law_sees_and_what_it_does_not() -> None:
    said = break_it("bfgs_inverse_update:rebinds", "bfgs.symmetry", "bfgs.secant", examples=30)
    assert re.search(r"bfgs\.symmetry: passed in all \d+ cases", said)
    assert "bfgs.secant: FAILED" in said
    assert re.search(r"H = +\[1\]", said)
    assert max(map(len, said.splitlines())) <= 80


def test_numbers_are_drawn_and_said() -> None:
    """Every entry stands in the picture and in the alternative text, in the order of the matrix."""
    matrix = np.array([[1.0, -2.0], [0.5, 7 / 3]])
    picture = in_numbers(("A", matrix), "·", ("v", np.array([3.0, 4.0])))
    assert picture.alt == "A: (1, -2), (1/2, 7/3) · v: (3, 4)"
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", picture.html)
    assert [word for word in drawn if re.fullmatch(r"[−\d/-]+", word)] == [
        *("1", "-2", "1/2", "7/3"),
        *("3", "4"),
    ]


def test_a_fraction_that_is_too_long_for_its_cell_is_rounded() -> None:
    picture = in_numbers(("v", np.array([-26 / 15, -2236 / 3135, 5.0001])))
    assert picture.alt == "v: (-26/15, -0.713, 5.00)"


def test_a_small_figure_stays_small() -> None:
    one = in_numbers(("v", np.array([1.0]))).html
    many = in_numbers(("A", np.ones((1, 12)))).html
    narrow, wide = (int(re.findall(r"--kfqn-width: (\d+)px", html)[0]) for html in (one, many))
    assert narrow < 100
    assert wide > 640


def test_a_sign_can_be_told_without_colour() -> None:
    def dashed(value: float) -> int:
        return in_numbers(("v", np.array([value]))).html.count("stroke-dasharray")

    assert dashed(1.0) == 0
    assert dashed(-1.0) == 1


@pytest.mark.parametrize("items", [("=",), (("cube", np.zeros((1, 1, 1))),)])
def test_only_vectors_and_matrices_are_drawn(items: Any) -> None:
    with pytest.raises(ValueError, match="a matrix"):
        in_numbers(*items)
