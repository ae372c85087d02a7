"""The numbers of the running example, drawn: a row of small matrices with their entries as
fractions, or rounded where the fraction is long.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from kfqn_ref._typing import Array
from kfqn_ref.experiments.book.example import fraction
from kfqn_ref.experiments.book.figures import BLUE, ORANGE, Picture, figure, show

_CELL = 0.52  # inches
_STRONGEST = 0.45  # opacity of the largest entry
_LONGEST = 6  # characters that a cell has room for


def in_numbers(*items: tuple[str, Array] | str) -> Picture:
    """Return a figure of named vectors and matrices with signs between them.

    A positive entry has a blue cell and a negative one an orange cell with a dashed edge, the
    stronger the larger it is in its matrix. The alternative text has all numbers.

    Args:
        items: a name with its vector (n,), drawn as a column, or its matrix (m, n); a text such
            as ``"="`` stands between two of them.

    Raises:
        ValueError: no matrix is given, or one has more than two axes.
    """
    matrices = [_matrix(item) for item in items if not isinstance(item, str)]
    if not matrices:
        raise ValueError(f"there must be a vector or a matrix to draw, got only {items}")
    rows = max(len(matrix) for matrix in matrices)
    widths = [_width(item) for item in items]
    fig, axes = figure(
        1,
        len(items),
        width=_CELL * sum(widths),
        height=_CELL * (rows + 1),
        width_ratios=widths,
        squeeze=False,
    )
    for item, ax in zip(items, axes[0], strict=True):
        ax.set_axis_off()
        if isinstance(item, str):
            ax.text(0.5, (0.1 + rows / 2) / (rows + 1), item, ha="center", va="center")
        else:
            _draw(ax, item[0], _matrix(item))
            _same_scale(ax, _matrix(item), _width(item), rows)
    return show(fig, " ".join(_words(item) for item in items))


def _matrix(item: tuple[str, Array]) -> Array:
    value = np.asarray(item[1], float)
    if not 1 <= value.ndim <= 2:
        raise ValueError(f"{item[0]} must be a vector or a matrix, got shape {value.shape}")
    if value.ndim == 1:
        return value[:, None]
    return value


def _width(item: tuple[str, Array] | str) -> float:
    """Cells that an item takes: its columns, or as many as its name needs."""
    if isinstance(item, str):
        return 0.35 + 0.25 * len(item)
    return max(_matrix(item).shape[1] + 0.2, 0.22 * len(item[0]))


def _draw(ax: Any, name: str, matrix: Array) -> None:
    largest = np.abs(matrix).max() or 1.0
    for (row, column), value in np.ndenumerate(matrix):
        colour = BLUE
        edge = "-"
        if value < 0:
            colour = ORANGE
            edge = "--"
        opacity = _STRONGEST * abs(value) / largest
        corner = (column, row)
        ax.add_patch(_cell(corner, facecolor=colour, alpha=opacity, edgecolor="none"))
        ax.add_patch(_cell(corner, fill=False, edgecolor=colour, linestyle=edge, linewidth=0.8))
        ax.text(column + 0.5, row + 0.5, _number(value), ha="center", va="center", fontsize=8)
    ax.text(matrix.shape[1] / 2, -0.25, name, ha="center", va="bottom", fontsize=10)


def _number(value: float) -> str:
    """Return the number as a fraction, or with three digits where that is too long for a cell."""
    exact = fraction(value)
    if len(exact) <= _LONGEST:
        return exact
    return f"{value:#.3g}"


def _same_scale(ax: Any, matrix: Array, width: float, rows: int) -> None:
    """Give the matrix a window of this many cells, so that all cells have one size."""
    middle = matrix.shape[1] / 2
    height = len(matrix)
    above = 0.9 + (rows - height) / 2  # room for the name
    below = 0.1 + (rows - height) / 2
    ax.set(xlim=(middle - width / 2, middle + width / 2), ylim=(height + below, -above))
    ax.set_aspect("equal")


def _cell(corner: Sequence[float], **style: Any) -> Any:
    return Rectangle((corner[0] + 0.03, corner[1] + 0.03), 0.94, 0.94, **style)


def _words(item: tuple[str, Array] | str) -> str:
    if isinstance(item, str):
        return item.replace("→", "then")
    rows = ["(" + ", ".join(map(_number, row)) + ")" for row in _matrix(item)]
    if np.ndim(item[1]) == 1:
        rows = ["(" + ", ".join(map(_number, item[1])) + ")"]
    return f"{item[0]}: {', '.join(rows)}"
