"""Submissions made to be graded: right in several styles, each typical mistake, broken, hostile,
dishonest.

Every one says what it must score and, where it is wrong, words that its feedback must contain.
Hostile ones print a line ``ATTEMPT what : outcome`` for everything they try.
"""

import json
from pathlib import Path
from typing import Any

import nbformat

import kfqn_ref
from kfqn_ref.course.regrade import is_test
from kfqn_ref.testing import Effort, all_checks, run_checks

from . import answers
from .samples import MASTERS, Sample, changed, grade_id, points, stubs

ALL = tuple(grade_id(cell) for cell in MASTERS["a1_bfgs"].cells if is_test(cell))
USES_UPDATE = tuple(name for name in ALL if name != "direct")
NOT_INVARIANT = tuple(name for name in USES_UPDATE if name != "invariance")
NOT_DEFINITE = tuple(name for name in USES_UPDATE if name != "definite")


def bfgs(
    student: str, body: str, told: str = "", lost: tuple[str, ...] = (), **more: Any
) -> Sample:
    """A submission of assignment 1 with another update."""
    cells = {"bfgs_inverse_update": body} | more.pop("cells", {})
    return Sample(student, "a1_bfgs", points("a1_bfgs", *lost), told, cells, **more)


def wrong(student: str, **more: Any) -> Sample:
    """A wrong update, and something else."""
    return bfgs(student, answers.WITHOUT_STEP, "the term ρ s sᵀ is missing", NOT_INVARIANT, **more)


def slip(
    student: str, assignment: str, lost: str, told: str, name: str, old: str, new: str
) -> Sample:
    """The master's answers with one piece changed: what it loses, and what its feedback says."""
    score = points(assignment, *lost.split())
    return Sample(student, assignment, score, told, changed(assignment, name, old, new))


def hard_coded() -> str:
    """An update that knows the answers to the visible cases of some laws, and nothing else."""
    table: dict[str, Any] = {}

    def remember(H: Any, s: Any, y: Any) -> Any:
        answer = kfqn_ref.bfgs_inverse_update(H, s, y)
        table[repr([H.tolist(), s.tolist(), y.tolist()])] = answer.tolist()
        return answer

    names = {"bfgs.secant", "bfgs.formula", "bfgs.symmetry", "bfgs.positive_definite"}
    chosen = [check for check in all_checks() if check.name in names]
    run_checks({"bfgs_inverse_update": remember}, chosen, effort=Effort(40))
    return f"KNOWN = {json.dumps(table)}" + answers.KNOWS


def edited(notebook: Any) -> Any:
    """Every test replaced, and worth more."""
    for cell in notebook.cells:
        if is_test(cell):
            cell.source, cell.metadata.nbgrader["points"] = "100.0", 100.0
    return notebook


def deleted(notebook: Any) -> Any:
    """No tests at all."""
    notebook.cells = [cell for cell in notebook.cells if not is_test(cell)]
    return notebook


def emptied(notebook: Any) -> Any:
    """No cells at all."""
    notebook.cells = []
    return notebook


def julia(notebook: Any) -> Any:
    """A kernel that is not there."""
    notebook.metadata["kernelspec"] = {
        "name": "julia-1.9",
        "display_name": "Julia",
        "language": "julia",
    }
    return notebook


def truncated(folder: Path, notebook: Any) -> None:
    """Half a file."""
    (folder / "a1_bfgs.ipynb").write_text(nbformat.writes(notebook)[:1500], encoding="utf-8")


def renamed(folder: Path, notebook: Any) -> None:
    """Another name."""
    (folder / "homework (final).ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")


def linked(folder: Path, notebook: Any) -> None:
    """A link to a file of the teacher's."""
    (folder / "a1_bfgs.ipynb").symlink_to("/etc/passwd")


def nothing(folder: Path, notebook: Any) -> None:
    """No folder."""
    folder.rmdir()


def right_answers(course: Path, port: int) -> list[Sample]:
    """Full points, in several styles; two of them also attack the box."""
    return [
        *(Sample("master", name, points(name)) for name in MASTERS),
        bfgs("rank-two", answers.RANK_TWO),
        bfgs("loops", answers.LOOPS),
        bfgs("helpers", answers.HELPERS),
        bfgs("scratch", answers.RIGHT, own=answers.SCRATCH),
        bfgs("no-kernel", answers.RIGHT, change=julia),
        bfgs("talker", answers.RIGHT, own=answers.TALK),
        bfgs("writer", answers.RIGHT, own=answers.writes(course)),
        bfgs("caller", answers.RIGHT, own=answers.calls(port)),
    ]


def mistakes() -> list[Sample]:
    """Typical ones, each with what it costs and how the feedback names it."""
    right = answers.RIGHT
    inverted, trusting = right.replace("/ (s @ y)", "* (s @ y)"), right.replace(answers.REFUSE, "")
    nan = right.replace("not s @ y > 0", "s @ y <= 0")
    direct = changed("a1_bfgs", "bfgs_direct_update", "B - np.outer", "B + np.outer")
    return [
        Sample("stub", "a1_bfgs", 0, "is still the stub", stubs("a1_bfgs")),
        wrong("half"),
        bfgs("transposed", answers.TRANSPOSED, "the transposed factor", NOT_DEFINITE),
        bfgs("rebinds", answers.REBINDS, "H never changes", USES_UPDATE),
        bfgs("in-place", answers.IN_PLACE, "writes into its argument", USES_UPDATE),
        bfgs("prints", answers.PRINTS, "a return is missing", USES_UPDATE),
        bfgs("rho", inverted, "ρ = sᵀy instead of 1/sᵀy", USES_UPDATE),
        bfgs("trusting", trusting, "no test of the arguments", ("refusal",)),
        bfgs("nan", nan, "one that NaN passes", ("refusal",)),
        bfgs("direct-sign", right, "sign in the direct update", ("direct", "twins"), cells=direct),
        slip(
            "sign",
            "a2_damping",
            "powell curvature invariance both lemma",
            "sign in Powell's damping",
            "powell_damp",
            "+ (1 - theta) * Hy",
            "- (1 - theta) * Hy",
        ),
        slip(
            "swapped",
            "a2_damping",
            "powell curvature invariance both lemma",
            "(1 − mu1) and mu1 swapped",
            "powell_damp",
            "else (1 - mu1) * yHy",
            "else mu1 * yHy",
        ),
        slip(
            "undamped",
            "a2_damping",
            "both lemma",
            "with the undamped step s",
            "dp_dlm_damp",
            "lm_damp(s_tilde, y",
            "lm_damp(s, y",
        ),
        slip(
            "reversed",
            "a3_lbfgs",
            "two_loop newest agree",
            "second loop runs in the order of the first",
            "lbfgs_two_loop",
            "    for i in range(len(S)):",
            "    for i in reversed(range(len(S))):",
        ),
        slip(
            "drops",
            "a3_lbfgs",
            "memory",
            "drops the newest",
            "lbfgs_push",
            "[-memory:]",
            "[:memory]",
        ),
        slip(
            "overwrites",
            "a3_lbfgs",
            "two_loop newest agree",
            "writes into its argument",
            "lbfgs_two_loop",
            "q = q - alphas[i] * Y[i]",
            "q -= alphas[i] * Y[i]",
        ),
        slip(
            "bias-first",
            "a4_kronecker",
            "bias",
            "bias",
            "append_one",
            "[a, np.ones((*a.shape[:2], 1))]",
            "[np.ones((*a.shape[:2], 1)), a]",
        ),
        slip(
            "rows",
            "a4_kronecker",
            "flat matvec",
            "rows instead of columns",
            "kronecker",
            "X.T.ravel()",
            "X.ravel()",
        ),
        slip(
            "per-location",
            "a4_kronecker",
            "A",
            "A divided by |T|",
            "factors",
            "/ len(a_bar)",
            "/ a_bar[..., 0].size",
        ),
        slip(
            "no-dilation",
            "a5_action",
            "convolution",
            "dilation",
            "conv_hessian_action",
            "conv.dilation",
            "(1, 1)",
        ),
        slip(
            "no-lambda", "a5_action", "pair", "λ_A s is missing", "input_side", " + lam * s)", ")"
        ),
        slip(
            "not-root",
            "a6_step",
            "input_side output_side definite",
            "λ instead of √λ",
            "kfqn_step",
            "lam = np.sqrt(damping)",
            "lam = damping",
        ),
        slip(
            "one-sided",
            "a6_step",
            "direction",
            "from one side only",
            "kfqn_step",
            "b.H_g @ m @ b.H_a",
            "b.H_g @ m",
        ),
    ]


def broken() -> list[Sample]:
    """What does not run, or does not stop."""
    endless = answers.UPDATE + "    while True:\n        pass\n"
    hog = answers.UPDATE + "    return np.ones((10**5, 10**5)) + H\n"
    crash = answers.UPDATE + answers.REFUSE + "    return H @ s[:, None] @ y\n"
    syntax = answers.UPDATE + "    return H +\n"
    return [
        Sample("empty", "a1_bfgs", 0, "has lost its marks", change=emptied, state="lost its marks"),
        bfgs("syntax", syntax, "the cell that defines it stops with SyntaxError", USES_UPDATE),
        bfgs("crash", crash, "stops with an error", USES_UPDATE),
        bfgs("endless", endless, "a loop that never ends", USES_UPDATE),
        bfgs("hog", hog, "Unable to allocate", USES_UPDATE),
        Sample("hogs", "a1_bfgs", 0, "the memory limit of", own=answers.HOGS),
        Sample("exit", "a1_bfgs", 0, "ended by its own doing", own="import os\nos._exit(0)\n"),
        Sample(
            "corrupt", "a1_bfgs", 0, "the file is not a notebook", write=truncated, state="corrupt"
        ),
        Sample(
            "renamed",
            "a1_bfgs",
            0,
            "must be named a1_bfgs.ipynb",
            write=renamed,
            state="wrong name",
        ),
        Sample(
            "linked", "a1_bfgs", 0, "is a link and not a file", write=linked, state="wrong name"
        ),
        Sample("absent", "a1_bfgs", 0, "nothing was handed in", write=nothing, state="missing"),
    ]


def dishonest() -> list[Sample]:
    """Wrong answers, and an attempt to be graded as right."""
    borrow = "from kfqn_ref import bfgs_inverse_update\n"
    return [
        wrong("edited-tests", change=edited),
        wrong("deleted-tests", change=deleted),
        wrong("no-allclose", own=answers.NO_ALLCLOSE),
        wrong("no-norm", own=answers.NO_NORM),
        wrong("seeker", own=answers.SEEK),
        wrong("forger", own=answers.FORGE),
        bfgs("hard-coded", hard_coded(), "made for the examples that you see", USES_UPDATE),
        bfgs("borrowed", borrow, "this calls the package's own", USES_UPDATE),
        bfgs("scipy", answers.SCIPY, "this calls scipy.optimize.BFGS", USES_UPDATE),
    ]


def corpus(course: Path, port: int) -> list[Sample]:
    """All of them, for a course in this folder and a server at this port."""
    return [*right_answers(course, port), *mistakes(), *broken(), *dishonest()]
