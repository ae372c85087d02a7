"""Laws of L-BFGS: its three forms are one matrix, and the memory keeps the newest pairs."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.bfgs import product_form
from kfqn_ref.testing.law import EVERY_SIZE, Case, equal, law
from kfqn_ref.testing.strategies.axes import choose
from kfqn_ref.testing.strategies.kernels import frozen, lbfgs_cases, pairs
from kfqn_ref.testing.tolerances import Precision


def recursion(S: np.ndarray, Y: np.ndarray, gamma: float) -> np.ndarray:
    """(1.3) from gamma I, oldest pair first."""
    H = gamma * np.eye(S.shape[1])
    for s, y in zip(S, Y, strict=True):
        H = product_form(H, s, y)
    return H


@st.composite
def memories(draw: DrawFn, precision: Precision) -> Case:
    """Pairs to push, one after the other, into a memory: fewer than it has room for, and more."""
    n = choose(draw, "n")
    memory = choose(draw, "memory")
    pushes = max(1, memory + choose(draw, "pushes"))
    rows = [draw(pairs(n)) for _ in range(pushes)]
    stacked = [frozen([pair[i] for pair in rows]) for i in (0, 1)]
    return {"S": stacked[0], "Y": stacked[1], "memory": memory}


@law(
    "The two-loop recursion applies the matrix that (1.3) builds from gamma I, oldest pair first.",
    "two_loop(S, Y, q) = H q,  H by (1.3) from gamma I",
    chapter="lbfgs",
    requires="lbfgs_two_loop",
    given=lbfgs_cases,
    sizes=EVERY_SIZE,
)
def two_loop(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    bound = tol.lbfgs(f.u, S, Y, gamma) * tol.norm(q)
    equal(
        "two_loop(S, Y, q)",
        f.lbfgs_two_loop(S, Y, q, gamma=gamma),
        "H q",
        recursion(S, Y, gamma) @ q,
        bound,
    )


@law(
    "The compact form is the matrix that (1.3) builds from gamma I, oldest pair first.",
    "compact(S, Y) = H,  H by (1.3) from gamma I",
    chapter="lbfgs",
    requires="lbfgs_compact",
    given=lbfgs_cases,
    sizes=EVERY_SIZE,
)
def compact(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    H = f.lbfgs_compact(S, Y, gamma=gamma)
    equal("compact(S, Y)", H, "H by (1.3)", recursion(S, Y, gamma), tol.lbfgs(f.u, S, Y, gamma))


@law(
    "The dense form is the matrix that (1.3) builds from gamma I, oldest pair first.",
    "dense(S, Y) = H,  H by (1.3) from gamma I",
    chapter="lbfgs",
    requires="lbfgs_dense",
    given=lbfgs_cases,
    sizes=EVERY_SIZE,
)
def dense(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    H = f.lbfgs_dense(S, Y, gamma=gamma)
    equal("dense(S, Y)", H, "H by (1.3)", recursion(S, Y, gamma), tol.lbfgs(f.u, S, Y, gamma))


@law(
    "Two-loop recursion, compact form and dense recursion agree.",
    "two_loop(S, Y, q) = compact(S, Y) q = dense(S, Y) q",
    chapter="lbfgs",
    requires="lbfgs_two_loop lbfgs_compact lbfgs_dense",
    given=lbfgs_cases,
)
def three_forms(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    bound = 2 * tol.lbfgs(f.u, S, Y, gamma) * tol.norm(q)
    by_loops = f.lbfgs_two_loop(S, Y, q, gamma=gamma)
    equal(
        "two_loop(S, Y, q)",
        by_loops,
        "compact(S, Y) q",
        f.lbfgs_compact(S, Y, gamma=gamma) @ q,
        bound,
    )
    equal(
        "two_loop(S, Y, q)", by_loops, "dense(S, Y) q", f.lbfgs_dense(S, Y, gamma=gamma) @ q, bound
    )


@law(
    "The newest pair satisfies the secant equation.",
    "H y_m = s_m",
    chapter="lbfgs",
    requires="lbfgs_two_loop",
    given=lambda p: lbfgs_cases(p).filter(
        lambda case: len(case["S"]) > 0
    ),  # no pair, no newest: one case of five
)
def newest_secant(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    bound = tol.lbfgs(f.u, S, Y, gamma) * tol.norm(Y[-1])
    equal("two_loop(S, Y, y_m)", f.lbfgs_two_loop(S, Y, Y[-1], gamma=gamma), "s_m", S[-1], bound)


@law(
    "A function that takes the columns of a matrix applies H to each of them.",
    "two_loop(S, Y, Q) = H Q, or refused",
    chapter="lbfgs",
    requires="lbfgs_two_loop",
    given=lbfgs_cases,
)
def two_loop_columns(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    # one column more than rows: a function of vectors alone then refuses Q, and broadcasts nothing
    Q = np.stack([k * q[::-1] + k for k in range(len(q))] + [q], axis=1)
    try:
        columns = f.lbfgs_two_loop(S, Y, Q, gamma=gamma)
    except Exception:  # a function of vectors alone may refuse a matrix
        return
    bound = tol.lbfgs(f.u, S, Y, gamma) * tol.norm(np.ravel(Q))
    equal("two_loop(S, Y, Q)", columns, "H Q", recursion(S, Y, gamma) @ Q, bound)


@law(
    "Where nothing else is said, the matrix starts from the identity.",
    "gamma = 1 by default",
    chapter="lbfgs",
    requires="lbfgs_two_loop",
    given=lbfgs_cases,
    sizes=EVERY_SIZE,
)
def two_loop_default(f: Any, S: np.ndarray, Y: np.ndarray, q: np.ndarray, gamma: float) -> None:
    bound = tol.lbfgs(f.u, S, Y, 1.0) * tol.norm(q)
    equal(
        "two_loop(S, Y, q)",
        f.lbfgs_two_loop(S, Y, q),
        "H q from H_0 = I",
        recursion(S, Y, 1.0) @ q,
        bound,
    )


def _pushed(f: Any, S: np.ndarray, Y: np.ndarray, memory: int) -> tuple[np.ndarray, np.ndarray]:
    kept_S = frozen(S[:0])
    kept_Y = frozen(Y[:0])
    for s, y in zip(S, Y, strict=True):
        kept_S, kept_Y = f.lbfgs_push(kept_S, kept_Y, frozen(s), frozen(y), memory=memory)
    return kept_S, kept_Y


@law(
    "The memory never holds more pairs than it was given room for, and all of them while "
    "there is room.",
    "number of pairs kept = min(number pushed, memory)",
    chapter="lbfgs",
    requires="lbfgs_push",
    given=memories,
)
def push_memory(f: Any, S: np.ndarray, Y: np.ndarray, memory: int) -> None:
    kept_S, kept_Y = _pushed(f, S, Y, memory)
    room = np.array([min(len(S), memory)] * 2)
    equal("pairs kept (s, y)", [len(kept_S), len(kept_Y)], "min(pushed, memory)", room, 0.0)


@law(
    "A full memory drops its oldest pair: the newest ones are kept, oldest first.",
    "S, Y after pushing = the last `memory` pairs, in the order in which they came",
    chapter="lbfgs",
    requires="lbfgs_push",
    given=memories,
    sizes=EVERY_SIZE,
)
def push_newest(f: Any, S: np.ndarray, Y: np.ndarray, memory: int) -> None:
    kept_S, kept_Y = _pushed(f, S, Y, memory)
    exact = tol.rounding(f.u, 1, 1.0)  # a stored pair may have been rounded, as by a difference
    equal("S kept", kept_S, "the newest s", S[-memory:], exact * tol.norm(S))
    equal("Y kept", kept_Y, "the newest y", Y[-memory:], exact * tol.norm(Y))
    thirds = _pushed(f, S / 3, Y / 3, memory)  # a cast to float32 on the way would change them
    equal("S/3 kept", thirds[0], "the newest s / 3", S[-memory:] / 3, exact * tol.norm(S))
    equal("Y/3 kept", thirds[1], "the newest y / 3", Y[-memory:] / 3, exact * tol.norm(Y))
