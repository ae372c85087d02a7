"""A class made of samples: handed in, graded, and what its students were told."""

import html
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kfqn_ref.course.classroom import Classroom, Record
from kfqn_ref.course.feedback import feedback
from kfqn_ref.course.grade import grade
from kfqn_ref.course.release import release
from kfqn_ref.course.sandbox import Limits

from .samples import Sample, hand_in

LIMITS = Limits(seconds=150, cell_seconds=10, memory_mb=1536)  # seconds of the processor


@dataclass
class Graded:
    """Records and pages by (student, assignment)."""

    classroom: Classroom
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    pages: dict[tuple[str, str], str] = field(default_factory=dict)


def grade_all(
    root: Path, samples: Iterable[Sample], say: Callable[[Record], None] | None = None
) -> Graded:
    """Release, hand in, grade and write the pages."""
    samples, graded = list(samples), Graded(Classroom(root))
    for name in sorted({sample.assignment for sample in samples}):
        release(graded.classroom, name, fresh_seeds=False)  # the same examples every time
    for sample in samples:
        hand_in(sample, root)
    for name in sorted({sample.assignment for sample in samples}):
        students = [sample.student for sample in samples if sample.assignment == name]
        records = grade(graded.classroom, name, students=students, limits=LIMITS, progress=say)
        for student, record in records.items():
            graded.records[student, name] = record
            graded.pages[student, name] = plain(feedback(graded.classroom, name, student))
    return graded


def plain(page: Path) -> str:
    """The words of a page, without its marks, on one line."""
    text = re.sub(
        r"<style.*?</style>|<script.*?</script>",
        "",
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", text)).split())


class Server:
    """A server of this machine that nobody in a box may reach; it counts who did."""

    def __enter__(self) -> "Server":
        self.visits, self._socket = 0, socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        try:
            while True:
                self._socket.accept()[0].close()
                self.visits += 1
        except OSError:
            return  # it was closed

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
