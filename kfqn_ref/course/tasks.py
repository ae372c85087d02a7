"""Laws that belong to an assignment and to no module of the package: a whole step, assumptions,
puzzles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from kfqn_ref import InverseEstimate, dp_dlm_damp, forward_backward, input_factor
from kfqn_ref.hessian import layer_blocks
from kfqn_ref.method.options import BfgsInput
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.checks import optimizer
from kfqn_ref.testing.checks.theorems import _well_conditioned
from kfqn_ref.testing.implementation import NAMES, Implementation
from kfqn_ref.testing.law import Check, at_most, equal, holds
from kfqn_ref.testing.mutants import Mutant
from kfqn_ref.testing.strategies.kernels import lambdas, thresholds
from kfqn_ref.testing.strategies.layers import second_derivatives
from kfqn_ref.testing.strategies.networks import BlockView, Snapshot, runs
from kfqn_ref.testing.tolerances import Precision

OWN_NAMES = ("inverse_from_products", "worst_pair", "assumption_errors", "lonely_failure")
ASSUMPTIONS = ("SUD", "IAD", "SH")


class Block(NamedTuple):
    """What one block remembers between steps: arrays only.

    Args:
        M: averaged gradient, (d_g, d_a).   H_a, H_g: inverse estimates, (d_a, d_a) and (d_g, d_g).
        s_g, y_g: averaged output pair, (d_g,).
    """

    M: np.ndarray
    H_a: np.ndarray
    H_g: np.ndarray
    s_g: np.ndarray
    y_g: np.ndarray


class Student(Implementation):
    """A student's functions, seen by the checks: the names of the suite, and those of the
    assignments.
    """

    def __init__(self, names: Mapping[str, Any]):
        super().__init__(names, label="submission")
        self.functions |= {name: names[name] for name in OWN_NAMES if callable(names.get(name))}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in OWN_NAMES and name not in NAMES:
            return self.functions[name]
        return super().__getattr__(name)


def start(
    a_bars: tuple[np.ndarray, ...], params: tuple[np.ndarray, ...], lam: float
) -> tuple[Block, ...]:
    """The blocks before the first step: M = 0, H_a = (A + λ_A I)⁻¹, H_g = I, s_g = y_g = 0."""
    blocks = []
    for a_bar, W in zip(a_bars, params, strict=True):
        d_g, d_a = W.shape
        H_a = np.linalg.inv(input_factor(a_bar) + np.sqrt(lam) * np.eye(d_a))
        blocks.append(Block(np.zeros((d_g, d_a)), H_a, np.eye(d_g), np.zeros(d_g), np.zeros(d_g)))
    return tuple(blocks)


def with_adapters(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The namespace, and ``optimizer_steps`` made of the student's ``kfqn_step`` where there is
    one.
    """
    step = namespace.get("kfqn_step")
    if callable(step):
        return dict(namespace) | {"optimizer_steps": _runner(step)}
    return dict(namespace)


def _runner(kfqn_step: Callable[..., Any]) -> Callable[..., Any]:
    def optimizer_steps(network: Any, params: Any, batches: Any, **options: Any) -> list[Snapshot]:
        chosen = {name: options[name] for name in ("lr", "damping", "momentum", "pair_decay")}
        records = forward_backward(network, params, *batches[0]).records
        blocks = start(tuple(r.a_bar for r in records), params, options["damping"])
        lam = np.sqrt(options["damping"])
        snapshots = []
        for x, target in batches:
            params, blocks = kfqn_step(network, params, blocks, x, target, **chosen)
            blocks = tuple(Block(*block) for block in blocks)
            views = [BlockView(b.H_a, b.H_g, lam, lam, r.a_bar.shape[1], 0, 0, 0, 0, 0)
                     for b, r in zip(blocks, records, strict=True)]  # fmt: skip  # a view a block
            snapshots.append(Snapshot(tuple(params), tuple(views)))
        return snapshots

    return optimizer_steps


def _kfqn_cnn(precision: Precision) -> Any:
    fixed = {"preset": "kfqn_cnn", "weight_decay": 0.0, "curvature_interval": 1}
    return runs(precision).map(lambda case: {**case, "options": case["options"] | fixed})


@dataclass(frozen=True)
class _GivenInput(BfgsInput):
    """A first ``H_a`` whose λ_A is given."""

    lam: float

    def start(self, A: np.ndarray, lam: float, memory: int) -> InverseEstimate:
        return super().start(A, self.lam, memory)


def _lambda_after_the_start(*args: Any, damping: float, **options: Any) -> list[Snapshot]:
    """The student's step has λ on both sides; the first H_a is given, and has √λ."""
    return reference.optimizer_steps(
        *args,
        damping=damping,
        split=lambda lam, T: (lam, lam),
        input_inverse=_GivenInput(np.sqrt(damping)),
        **options,
    )


def _sign_in_theta(H: np.ndarray, s: np.ndarray, y: np.ndarray, *, mu1: float = 0.2) -> np.ndarray:
    """Divides by zero where sᵀy = −yᵀHy."""
    Hy = H @ y
    sy = s @ y
    yHy = y @ Hy
    theta = 1.0 if sy >= mu1 * yHy else (1 - mu1) * yHy / (yHy + sy)
    return theta * s + (1 - theta) * Hy


# Known mistakes in what a student writes; the suite's own mutants have λ in the given part as well.
MISTAKES = (
    Mutant("step:lambda_not_root", "λ instead of √λ", "optimizer_steps", _lambda_after_the_start),
    Mutant(
        "powell_damp:sign_in_theta",
        "sign in θ: yᵀHy + sᵀy below the line, where yᵀHy − sᵀy belongs",
        "powell_damp",
        _sign_in_theta,
    ),  # fmt: skip  # the fields in their order
)


def _errors_case(precision: Precision) -> Any:
    return second_derivatives(precision).filter(
        lambda case: np.any(layer_blocks(**case).exact)
    )  # a block of zeros has no relative error: few cases


def _error(name: str) -> Callable[..., None]:
    def statement(f: Any, a_bar: np.ndarray, Hh: np.ndarray) -> None:
        blocks = layer_blocks(a_bar, Hh)
        wanted = blocks.errors()[name]
        scale = tol.norm(blocks.exact)
        size = float(np.sum(a_bar**2) * np.sum(np.abs(Hh)))
        bound = tol.rounding(f.u, a_bar.shape[0] * a_bar.shape[1] ** 2, (1 + wanted) * size / scale)
        found = f.assumption_errors(a_bar, Hh)
        holds("keys", sorted(found), "wanted", sorted((*ASSUMPTIONS, "total")))
        equal(f"error of {name}", found[name], "‖step of the chain‖ / ‖exact‖", wanted, bound)

    return statement


def _lonely(name: str) -> Callable[..., None]:
    def statement(f: Any) -> None:
        a_bar, Hh = (np.asarray(part, dtype=float) for part in f.lonely_failure(name))
        N, T = a_bar.shape[:2]
        holds("shape of Hh", Hh.shape, "(N, T, d_g, T, d_g)", (N, T, Hh.shape[2], T, Hh.shape[2]))
        equal(
            "Hh",
            Hh,
            "its own transpose (a second derivative is symmetric)",
            Hh.transpose(0, 3, 4, 1, 2),
            0.0,
        )
        blocks = layer_blocks(a_bar, Hh)
        size = float(np.sum(a_bar**2) * np.sum(np.abs(Hh))) / tol.norm(blocks.exact)
        for other, error in blocks.errors().items():
            if other == name:
                holds(f"{name} is broken by more than 10 %", bool(error > 0.1), "wanted", True)
            elif other != "total":
                equal(f"error of {other}", error, "0", 0.0, tol.rounding(f.u, N * T * T, size))

    return statement


class Products:
    """``A v`` for an A that is not shown, at most ``budget`` times."""

    def __init__(self, A: np.ndarray, budget: int):
        self.__A = A
        self.__left = budget
        self.__budget = budget

    def __call__(self, v: np.ndarray) -> np.ndarray:
        if self.__left == 0:
            raise RuntimeError(f"more than {self.__budget} products were asked for")
        self.__left -= 1
        return self.__A @ np.asarray(v, dtype=float)


@st.composite
def _hidden_matrix(draw: st.DrawFn, precision: Precision) -> dict[str, np.ndarray]:
    n = draw(st.integers(1, 4))
    return {"A": draw(_well_conditioned(n))}


def _inverse(f: Any, A: np.ndarray) -> None:
    """Each of n updates multiplies an earlier error by (1 + κ)² at most, κ ≤ (c + 1)/(2√c), c =
    cond A.
    """
    n = len(A)
    c = tol.cond(A)
    history = [
        np.eye(n),
        *(np.asarray(H, dtype=float) for H in f.inverse_from_products(Products(A, n), n)),
    ]
    holds("number of matrices", len(history) - 1, "n", n)
    bound = tol.rounding(
        f.u, n, (2 + (c + 1) / (2 * np.sqrt(c))) ** (2 * n) * (1 + 1 / tol.norm(A))
    )
    equal("H_n", history[-1], "A⁻¹", np.linalg.inv(A), bound)
    for k, (before, after) in enumerate(zip(history, history[1:], strict=False)):
        third = np.linalg.svd(after - before, compute_uv=False)[2:].max(initial=0.0)
        at_most(f"third singular value of H_{k + 1} − H_{k}", third, "0 (rank two)", 0.0, bound)


def _any_metric(precision: Precision) -> Any:
    """(H, mu1, lam) for the lemma's bound."""
    metric = st.integers(1, 4).flatmap(_well_conditioned)
    return st.fixed_dictionaries({"H": metric, "mu1": thresholds(), "lam": lambdas()})


def _attained(f: Any, H: np.ndarray, mu1: float, lam: float) -> None:
    s, y = (np.asarray(part, dtype=float) for part in f.worst_pair(H))
    holds("y is not zero", bool(np.any(y)), "wanted", True)
    damped = dp_dlm_damp(H, s, y, mu1=mu1, lam=lam)
    most = lam + tol.norm(np.linalg.inv(H)) / mu1
    ratio = damped.y @ damped.y / (damped.s @ damped.y)
    bound = tol.rounding(f.u, len(y), most * tol.cond(H) ** 2 / mu1)
    equal("ỹᵀỹ / s̃ᵀỹ", ratio, "λ + ‖B‖ / mu1", most, bound)


def _no_case(precision: Precision) -> Any:
    return st.just({})


def _step(check: Any) -> Check:
    """A law of the suite's optimizer steps, for the one preset that the assignment is about."""
    return replace(check, name=check.name.replace("optimizer", "step"), given=_kfqn_cnn)


CHAIN = {
    "SUD": "exact → without t ≠ t'",
    "IAD": "→ product of means, location by location",
    "SH": "→ A ⊗ G",
}


def _assumption_tasks(name: str) -> tuple[Check, Check]:
    words = f"The error of {name} is what this assumption alone adds, relative to the exact block."
    law = f"assumptions.{name}_error"
    wants = ("assumption_errors",)
    error = Check(law, words, CHAIN[name], "hessian", wants, _errors_case, _error(name))
    words = f"{name} alone can fail: the two other assumptions hold exactly in the example."
    law = f"assumptions.{name}_alone"
    formula = f"error of {name} > 0.1, the others 0"
    alone = Check(law, words, formula, "hessian", ("lonely_failure",), _no_case, _lonely(name))
    return error, alone


def _tasks() -> dict[str, Check]:
    steps = optimizer.direction, optimizer.input_update, optimizer.output_update, optimizer.definite
    words = "n updates along conjugate steps find the inverse, rank two at a time."
    formula = "s_iᵀA s_j = 0 (i ≠ j), y_i = A s_i  ⟹  H_n = A⁻¹"
    wants = ("inverse_from_products",)
    inverse = Check("secants.inverse", words, formula, "bfgs", wants, _hidden_matrix, _inverse)
    words = "The bound (2.6) of D_P D_LM is reached: no smaller one holds."
    formula = "ỹᵀỹ / s̃ᵀỹ = λ + ‖B‖ / mu1"
    attained = Check(
        "lemma.attained", words, formula, "damping", ("worst_pair",), _any_metric, _attained
    )
    found = [
        inverse,
        attained,
        *map(_step, steps),
        *(c for name in CHAIN for c in _assumption_tasks(name)),
    ]
    return {check.name: check for check in found}


TASKS = _tasks()
