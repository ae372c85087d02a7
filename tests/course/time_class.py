"""Time a class of 30: `python -m tests.course.time_class OUT.json`, minutes long.

The class is one of the first assignment: right answers in four forms, mistakes of
``wrong_answers.txt``, untouched hand-outs and copies. What is written: seconds of the wall and of
the processor (of the grader and its processes, without the boxes), how many submissions were
graded, and the load of the machine (mean of five minutes; above the cores, others made it slow).
"""

import json
import os
import platform
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kfqn_ref.course.classroom import Classroom, Record
from kfqn_ref.course.grade import grade
from kfqn_ref.course.release import release

from . import answers
from .samples import Sample, cell_of, hand_in, stubs
from .wrong_answers import WRONG

NAME = "a1_bfgs"
FUNCTION = "bfgs_inverse_update"


def submissions(count: int) -> list[Sample]:
    """The class: of ten students, four are right, four have a mistake, one has not begun, and one
    hands in what another one did.
    """
    right = [cell_of(NAME, FUNCTION), answers.RANK_TWO, answers.HELPERS]
    wrong = [each.source for each in WRONG if each.function == FUNCTION]
    samples = []
    for number in range(count):
        round_, kind = divmod(number, 10)
        own = f"# student {number}\n"
        if kind < 4:
            cells = {FUNCTION: own + right[(number + round_) % len(right)]}
        elif kind < 8:
            cells = {FUNCTION: own + wrong[(4 * round_ + kind) % len(wrong)]}
        else:
            cells = stubs(NAME) if kind == 8 else samples[-9].cells
        samples.append(Sample(f"student-{number:02}", NAME, 0, cells=cells))
    return samples


def measure(count: int) -> dict[str, Any]:
    """Grade the class with two workers."""
    with TemporaryDirectory() as folder:
        classroom = Classroom(Path(folder))
        release(classroom, NAME, fresh_seeds=False)
        for sample in submissions(count):
            hand_in(sample, classroom.root)

        def show(record: Record) -> None:
            print(f"{time.monotonic() - begun:7.1f} s  {record.student} {record.score:g}")

        begun = time.monotonic()
        before = _processor()
        records = grade(classroom, NAME, workers=2, progress=show)
        wall = time.monotonic() - begun
    graded = [record for record in records.values() if record.state == "graded"]
    return {
        "students": count,
        "graded": len(graded),
        "points": sum(record.score for record in graded),
        "wall_seconds": round(wall),
        "processor_seconds": round(_processor() - before),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
    }


def _processor() -> float:
    """Seconds of the processor, of this process and of those that it has waited for."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in own)


if __name__ == "__main__":
    found = measure(int(sys.argv[2]) if len(sys.argv) > 2 else 30)
    Path(sys.argv[1]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found))
