"""A table of the book is a table for readers with eyes, with a screen reader, and on paper."""

import pytest

from kfqn_ref.experiments.book.tables import table


def test_a_table_names_its_columns_and_rows_and_escapes_what_it_shows() -> None:
    html = table(("method", "a < b"), [("SGD", "1"), ("Adam", "10")], caption="R & D")._repr_html_()
    assert html.count('<th scope="col">') == 2
    assert html.count('<th scope="row">') == 2
    assert "a &lt; b" in html
    assert "<caption>R &amp; D</caption>" in html


def test_in_print_the_columns_are_aligned() -> None:
    lines = repr(table(("method", "n"), [("SGD", "1"), ("Adam", "10")], caption="Counts"))
    assert lines.splitlines() == ["Counts", "method   n", "SGD      1", "Adam    10"]


def test_in_print_a_wide_table_wraps_its_cells() -> None:
    words = "two words " * 12
    row = ("SGD", words, words, "1")
    lines = repr(table(("method", "a", "b", "n"), [row], caption="Wide")).splitlines()
    assert max(map(len, lines)) == 100
    assert "".join(lines).split().count("words") == 24
    assert lines[2].startswith("SGD")
    assert lines[2].endswith("1")
    assert len(set(map(len, lines[1:]))) == 1


def test_a_row_of_another_length_and_a_table_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="a row must have 2 cells, got 1"):
        table(("a", "b"), [("1",)], caption="")
    with pytest.raises(ValueError, match="must have a row, got none"):
        table(("a", "b"), [], caption="")
