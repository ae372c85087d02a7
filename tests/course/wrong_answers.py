"""Wrong submissions: those of ``wrong_answers.txt``, and what feedback on each must say.

The first 75 were written before the diagnosis engine, 61, 27 and 41 before it was tried on them;
none is made by an edit of a solution. Of the last 41, 38 were named or located at once and stand
here; it said of three only how often they go wrong. Each has the assignment, the function that is
wrong, the mistake in words, a pattern that a right reason or a right region must match, and the
code as a student might write it. The last entry has the right pieces that some of them call.
"""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wrong:
    """One wrong submission of one function."""

    assignment: str
    function: str
    mistake: str
    told: str
    source: str

    @property
    def id(self) -> str:
        """A short name for a test."""
        return f"{self.function}-{'-'.join(re.findall('[a-z0-9]+', self.mistake.lower())[:6])}"


def _parse(text: str) -> list[Wrong]:
    """Entries ``## assignment function | mistake | pattern`` and the code below each."""
    found = []
    for part in text.strip().split("\n## "):
        head, _, source = part.partition("\n")
        place, mistake, told = (piece.strip() for piece in head.removeprefix("## ").split(" | "))
        assignment, function = place.split()
        found.append(Wrong(assignment, function, mistake, told, source.strip() + "\n"))
    return found


TEXT, _, HELPERS = (
    Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").partition("\n## helpers\n")
)
WRONG = _parse(TEXT)
