"""A demonstration course: one small assignment and twelve fictional submissions, numbered.

Each submission shows one thing that a teacher meets: right answers in several styles, mistakes, an
answer that was borrowed, output that is left out, and files that cannot be graded.
"""

from pathlib import Path

import nbformat

from kfqn_ref.course.classroom import Classroom, write_whole
from kfqn_ref.course.regrade import grade_id
from kfqn_ref.course.release import release
from kfqn_ref.course.variants import in_words

NAME = "demo"
HERE = Path(__file__).parent / "templates"
ANSWER = """\
def learned(H, s, y):
    sy = s @ y
    if not sy > 0:
        raise LinAlgError(f"got {sy}")
    left = np.eye(len(s)) - np.outer(s, y) / sy
    return 2.5 * (left @ H @ left.T + np.outer(s, s) / sy)
"""
RANK_TWO = """\
def learned(H, s, y):
    if not s @ y > 0:
        raise LinAlgError("no curvature")
    rho, Hy = 1 / (s @ y), H @ y
    grown = rho * (1 + rho * (y @ Hy)) * np.outer(s, s)
    return 2.5 * (H + grown - rho * (np.outer(s, Hy) + np.outer(Hy, s)))
"""
PAGE = "from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>'))\n"

# What each student writes in place of the stub.
ANSWERS = {
    "student-01": ANSWER,
    "student-02": RANK_TWO,
    "student-03": ANSWER.replace("+ np.outer(s, s)", "- np.outer(s, s)"),
    "student-04": ANSWER.replace(" + np.outer(s, s) / sy", ""),
    "student-05": ANSWER.replace("left @ H @ left.T", "left.T @ H @ left"),
    "student-06": ANSWER.replace("left", "side").replace("sy", "c"),  # of another variant
    "student-07": ANSWER.replace("not sy > 0", "sy <= 0"),
    "student-08": "from kfqn_ref import bfgs_inverse_update as learned\n",
    "student-09": ANSWER.replace("sy = s @ y", "sy = s @"),
    "student-10": PAGE + ANSWER,
}


def make(root: Path) -> Classroom:
    """Make the course with its submissions; what a folder of this name holds is kept."""
    classroom = Classroom(root)
    everybody = [*ANSWERS, "student-11", "student-12"]
    folder = release(classroom, NAME, HERE, students=everybody)
    words = classroom.words(NAME)
    words["student-06"] = words["student-01"]  # whose answer it is
    for student, answer in ANSWERS.items():
        notebook = nbformat.read(folder / student / NAME / f"{NAME}.ipynb", as_version=4)
        for cell in notebook.cells:
            if grade_id(cell) == "learned":
                cell.source = in_words(answer, words[student])
        _hand_in(classroom, student, nbformat.writes(notebook))
    text = (folder / "student-11" / NAME / f"{NAME}.ipynb").read_text(encoding="utf-8")
    _hand_in(classroom, "student-11", text)  # untouched
    _hand_in(classroom, "student-12", text[: len(text) // 2])  # half a file
    return classroom


def _hand_in(classroom: Classroom, student: str, text: str) -> None:
    write_whole(classroom.root / "submitted" / student / NAME / f"{NAME}.ipynb", text)
