"""A variant of an assignment for each student, from one source: other words, the same laws.

The header of a script says what varies: a word of the source, such as a number or the name of a
function, and the words that may stand in its place. Everyone gets one of the combinations, so a
function that is passed on has another name or gives other numbers. The test cells vary with the
rest of the text and hold what was asked to the same laws.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import deepcopy
from itertools import product
from typing import Any

from kfqn_ref.course.classroom import Classroom, CourseError

Words = dict[str, str]  # by the word of the source
OTHERS = "{} stands in this notebook, but in the variants of other students: whose answer is it?"


def choices(master: Any) -> dict[str, list[str]]:
    """What may stand in the place of each word that varies.

    Raises:
        CourseError: the header is not well formed, or a word stands in no cell of code.
    """
    found = {word: list(others) for word, others in _header(master).items()}
    code = [cell.source for cell in master.cells if cell.cell_type == "code"]
    for word, others in found.items():
        if word not in others or len(set(others)) < 2:
            raise CourseError(f"vary must list {word} and other words in its place, got {others}")
        if not any(_pattern([word]).search(source) for source in code):
            raise CourseError(f"vary must name words of the code, got {word}, which is not there")
    return found


def _header(master: Any) -> Any:
    return master.metadata.get("kfqn", {}).get("vary", {})


def told(notebook: Any, words: Mapping[str, str]) -> Any:
    """A copy of a notebook in other words; what varies, and how, is taken out of its metadata."""
    copy = deepcopy(notebook)
    copy.metadata.get("kfqn", {}).pop("vary", None)
    if words:
        for cell in copy.cells:
            cell.source = in_words(cell.source, words)
    return copy


def in_words(text: str, words: Mapping[str, str]) -> str:
    """A text with each word replaced, all at once."""
    return _pattern(words).sub(lambda found: words[found[0]], text)


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Whole words: 2.5 is none in 12.5, and learned none in unlearned."""
    longest = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, longest))})(?![\w])")


def deal(
    classroom: Classroom, assignment: str, students: Iterable[str], *, seed: int | None = None
) -> dict[str, Words]:
    """Give each student a variant, the rarest first; who has one keeps it.

    Args:
        seed: of the order of the variants; by default nobody knows it.

    Raises:
        CourseError: nothing varies in the assignment.
    """
    master = classroom.master_notebook(assignment)
    varied = choices(master)
    if not varied:
        raise CourseError(f"{assignment} has no variants: its header has no `vary`")
    dealt = classroom.words(assignment)
    combinations = [dict(zip(varied, chosen, strict=True)) for chosen in product(*varied.values())]
    random.Random(seed).shuffle(combinations)
    used = Counter(json.dumps(words) for words in dealt.values())
    for student in students:
        if dealt.get(student) not in combinations:
            rarest = min(combinations, key=lambda words: used[json.dumps(words)])
            dealt[student] = rarest
            used[json.dumps(rarest)] += 1
    classroom.keep_words(assignment, dealt)
    return dealt


def strangers(notebook: Any, master: Any, words: Words) -> list[str]:
    """A note for each name that other variants ask for, and this one does not."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    names = [
        other
        for word, others in choices(master).items()
        for other in others
        if other.isidentifier() and other != words.get(word, word)
    ]
    there = [name for name in names if any(_pattern([name]).search(text) for text in code)]
    return [OTHERS.format(", ".join(there))] if words and there else []
