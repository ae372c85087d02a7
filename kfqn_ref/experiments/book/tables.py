"""Tables of the book: rows that a cell computes, as a table on a page and as columns in print.

A number in a cell of the table is formatted by the caller, so that it is read as it is meant.
"""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDEST = 100  # characters of a line of output that fit on paper


@dataclass(frozen=True)
class Table:
    """What a cell shows: a table with a caption, whose first column names the rows."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.header)
        body = "".join(
            f'<tr><th scope="row">{escape(first)}</th>'
            + "".join(f"<td>{escape(value)}</td>" for value in rest)
            + "</tr>"
            for first, *rest in self.rows
        )
        return (
            f'<table class="kfqn-table"><caption>{escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def __repr__(self) -> str:
        columns = list(zip(self.header, *self.rows, strict=True))
        widths = _fit([max(map(len, column)) for column in columns])
        lines = [self.caption]
        for row in (self.header, *self.rows):
            wrapped = [textwrap.wrap(text, width) for text, width in zip(row, widths, strict=True)]
            for first, *rest in itertools.zip_longest(*wrapped, fillvalue=""):
                cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
                lines.append("  ".join([first.ljust(widths[0]), *cells]))
        return "\n".join(lines)


def _fit(widths: list[int]) -> list[int]:
    """Return the widths of columns with the widest made narrower until a line fits on paper."""
    fitting = list(widths)
    while sum(fitting) + 2 * (len(fitting) - 1) > _WIDEST:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Table:
    """Return a table as the value of a cell.

    Args:
        header: names of the columns.   rows: one text a column; the first names the row.
        caption: what the table shows, with the conditions.

    Raises:
        ValueError: a row has more or fewer cells than the header, or there is no row.
    """
    if not rows:
        raise ValueError("a table must have a row, got none")
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row must have {len(header)} cells, got {len(row)}: {row}")
    return Table(tuple(header), tuple(map(tuple, rows)), caption)
