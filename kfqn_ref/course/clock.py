"""Time of foreign code: what it used of the processor counts against it, what the machine was slow
does not.

A loop that never ends uses up its seconds on any machine. A right answer on a busy machine does
not; where the wall clock runs out first, the submission has no score: it is to be graded again.
"""

import time
from collections.abc import Callable

PATIENCE = 10.0  # wall time, as a multiple of the seconds of processor time that are allowed
OUT_OF_TIME = "out of time"  # the state of a submission that the machine was too slow for


class OutOfTime(Exception):
    """The wall clock ran out before the processor time did: this says nothing about the
    submission.
    """


class Stopwatch:
    """Processor and wall time since now.

    Args:
        seconds: processor time allowed.
        used: processor time of those who are watched, in seconds; it may forget those that have
            ended.
        grace: seconds more, for those who stop by themselves when their time is over.
    """

    def __init__(self, seconds: float, used: Callable[[], float], grace: float = 0.0):
        self.seconds = seconds
        self._used = used
        self._grace = grace
        self._begun = time.monotonic()
        self._before = used()

    def over(self) -> bool:
        """Whether the allowed processor time was used."""
        return self._used() - self._before > self.seconds + self._grace

    def late(self) -> bool:
        """Whether the wall clock ran out."""
        return time.monotonic() - self._begun > PATIENCE * self.seconds + self._grace

    def report(self, what: str) -> str:
        """What a teacher does where the wall clock ran out."""
        used = self._used() - self._before
        waited = time.monotonic() - self._begun
        return (
            f"the grader ran out of time: {what} had {used:.1f} s of the processor in "
            f"{waited:.0f} s. The machine is busy, or the code waits (sleep, input): grade it "
            "again with --workers 1, or longer --seconds and --cell-seconds"
        )
