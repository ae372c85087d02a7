"""Whether this machine can make a box, and the words for a test that needs one."""

import pytest

from kfqn_ref.course.sandbox import NoBox, require_box


def box_problem() -> str:
    """Why there is no box here, or nothing."""
    try:
        require_box()
    except NoBox as problem:
        return str(problem)
    return ""


PROBLEM = box_problem()
needs_box = pytest.mark.skipif(bool(PROBLEM), reason=f"foreign code runs in a box only: {PROBLEM}")
