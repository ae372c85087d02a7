"""A sentence of the book is shown only if its data support it and other data would refute it."""

from pathlib import Path

import pytest

from kfqn_ref.experiments.book.claims import claim, sentences

BOOK = Path(__file__).parents[1] / "book"
CHAPTERS = sorted(path for path in BOOK.glob("*.md") if path.name != "README.md")


def less(ours: float, theirs: float) -> bool:
    return ours < theirs


def test_a_sentence_carries_the_numbers_of_its_data() -> None:
    shown = claim(
        "{ours:.2f} is below {theirs}.",
        less,
        data={"ours": 0.123, "theirs": 2},
        broken={"ours": 3, "theirs": 0},
    )
    assert shown._repr_markdown_() == "0.12 is below 2."


def test_data_that_refute_the_sentence_fail_the_cell() -> None:
    with pytest.raises(AssertionError, match="do not support this sentence: 3 is below 2"):
        claim(
            "{ours} is below {theirs}.",
            less,
            data={"ours": 3, "theirs": 2},
            broken={"ours": 4, "theirs": 0},
        )


def test_a_sentence_that_no_data_refute_is_refused() -> None:
    with pytest.raises(AssertionError, match="asserted with theirs = 0 as well"):
        claim(
            "{ours} and {theirs}.",
            lambda ours, theirs: ours < 2,
            data={"ours": 1, "theirs": 2},
            broken={"ours": 3, "theirs": 0},
        )


def test_every_datum_needs_a_value_that_refutes_the_sentence() -> None:
    with pytest.raises(ValueError, match="broken must name the data"):
        claim("{ours}, {theirs}", less, data={"ours": 1, "theirs": 2}, broken={"ours": 3})


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_claim_stands_in_a_cell_tagged_so(path: Path) -> None:
    tagged = path.read_text(encoding="utf-8").count(":tags: [claim]")
    assert len(sentences(path)) == tagged
