"""Laws of whole optimizer steps: direction, both sides of the curvature update, damping, counters,
skipping.
"""

from typing import Any

import numpy as np

from kfqn_ref.testing import oracles
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.checks.bfgs import product_form
from kfqn_ref.testing.checks.lbfgs import recursion
from kfqn_ref.testing.checks.replayed_run import (
    Averages,
    DampedPair,
    Seen,
    damp,
    lambdas_of,
    skipped,
    walk,
)
from kfqn_ref.testing.law import at_most, equal, holds, law
from kfqn_ref.testing.strategies.kernels import frozen
from kfqn_ref.testing.strategies.networks import runs

COST = 2


def _where(name: str, seen: Seen) -> str:
    return f"{name} of block {seen.block} after step {seen.k}"


def _inverse_error(f: Any, H_a: np.ndarray, k: int) -> float:
    """The first H_a is an inverse that the check computed itself; the later ones were reported."""
    return tol.rounding(f.u, len(H_a), tol.cond(H_a) * tol.norm(H_a)) if k == 0 else 0.0


@law(
    "A step goes along the averaged gradient, preconditioned from both sides by the matrices "
    "of the step "
    "before.",
    "M ← β M + (1 − β)(∇_W f + τ W),  W ← W − lr · H_g M H_a;  at first M = 0, H_g = I, H_a "
    "= (A + λ_A I)⁻¹",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def direction(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    for seen in walk(f, network, params, batches, options):
        H_a = seen.before.H_a
        H_g = seen.before.H_g
        lr = options["lr"]
        wanted = seen.W - lr * H_g @ seen.M @ H_a
        bound = tol.rounding(f.u, 1, tol.norm(seen.W)) + lr * tol.product(f.u, H_g, seen.M, H_a)
        bound += (
            lr
            * tol.norm(H_g)
            * (seen.error * tol.norm(H_a) + tol.norm(seen.M) * _inverse_error(f, H_a, seen.k))
        )
        if "_l" in options["preset"]:
            bound += (
                lr
                * tol.norm(seen.M)
                * tol.norm(H_a)
                * tol.rounding(f.u, seen.k + 1, tol.cond(H_g) * tol.norm(H_g))
            )
        equal(_where("W", seen), seen.W_plus, "W − lr · H_g M H_a", wanted, bound)


@law(
    "The input side learns from the Hessian action at the mean input, by one BFGS update.",
    "s = H_a ā̄, y = A s + λ_A s,  H_a ← BFGS(H_a, s, y)   (6.2)",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def input_update(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    averages = Averages(options)
    for seen in walk(f, network, params, batches, options):
        A = averages.factor(seen)
        if not seen.updates:
            continue
        H = seen.before.H_a
        mean = seen.first[0].mean(axis=(0, 1))
        s = H @ mean
        y = A @ s + seen.after.lambda_a * s
        if skipped((s, y), mean, options) is not False:
            continue
        ds = (
            _inverse_error(f, H, seen.k) * tol.norm(mean)
            + tol.product(f.u, H, mean)
            + tol.norm(H) * seen.error
        )
        curvature = tol.norm(A) + seen.after.lambda_a
        dy = (
            curvature * ds
            + tol.rounding(f.u, mean.size, curvature * tol.norm(s))
            + seen.error * tol.norm(s)
        )
        bound = tol.inverse_update(f.u, H, s, y) + tol.update_change(H, s, y, ds, dy)
        bound += (1 + tol.cosine(s, y)) ** 2 * _inverse_error(f, H, seen.k)
        equal(_where("H_a", seen), seen.after.H_a, "BFGS(H_a, s, y)", product_form(H, s, y), bound)


def _output_pair(averages: Averages, seen: Seen, options: Any) -> DampedPair | None:
    """The damped output pair, or None where there is none or rounding decides."""
    s, y = averages.output_pair(seen)
    if not np.linalg.norm(y) > 1e3 * seen.error:  # three digits of a difference at least
        return None
    pair = damp(seen.before.H_g, s, y, seen.after.lambda_g, options, 2 * seen.error)
    g = seen.first[2].mean(axis=(0, 1))
    return None if skipped((pair.s, pair.y), g, options) is not False else pair


@law(
    "The output side learns from what the step changed, averaged and damped, by one BFGS update.",
    "(s̃, ỹ) = damp(averages of (7.1)),  H_g ← BFGS(H_g, s̃, ỹ)   (7.1)-(7.2), (2.1)-(2.3); "
    "no weight decay "
    "in y",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def output_update(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    averages = Averages(options)
    for seen in walk(f, network, params, batches, options):
        if not seen.updates or (pair := _output_pair(averages, seen, options)) is None:
            continue
        if "_l" in options["preset"] and seen.before.updates_g >= options["memory"]:
            continue  # a pair was dropped as well: the law of the memory says what remains
        H = seen.before.H_g
        bound = tol.inverse_update(f.u, H, pair.s, pair.y) + tol.update_change(
            H, *pair[:2], pair.ds, pair.dy
        )
        wanted = product_form(H, pair.s, pair.y)
        equal(_where("H_g", seen), seen.after.H_g, "BFGS(H_g, s̃, ỹ)", wanted, bound)


@law(
    "After the update H_g maps the damped change of gradient to the damped step.",
    "H_g ỹ = s̃",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def output_secant(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    averages = Averages(options)
    for seen in walk(f, network, params, batches, options):
        if not seen.updates or (pair := _output_pair(averages, seen, options)) is None:
            continue
        H = seen.after.H_g
        bound = (
            tol.inverse_update(f.u, seen.before.H_g, pair.s, pair.y) * tol.norm(pair.y) + pair.ds
        )
        equal(_where("H_g ỹ", seen), H @ pair.y, "s̃", pair.s, bound + tol.norm(H) * pair.dy)


@law(
    "L-BFGS keeps the last `memory` pairs and forgets the older ones.",
    "H_g = (1.3) from I with the last `memory` damped pairs",
    chapter="optimizer",
    requires="optimizer_steps",
    given=lambda p: runs(p).filter(
        lambda case: "_l" in case["options"]["preset"]
    ),  # two presets of five
    cost=COST,
)
def output_memory(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    averages = Averages(options)
    kept = {}
    known = {}
    for seen in walk(f, network, params, batches, options):
        if not seen.updates or not known.get(seen.block, True):
            continue
        pair = _output_pair(averages, seen, options)
        if pair is None:
            known[seen.block] = False  # what rounding decided here says nothing of later steps
            continue
        pairs = kept.setdefault(seen.block, [])
        pairs.append(pair)
        last = pairs[-options["memory"] :]
        S = np.array([p.s for p in last])
        Y = np.array([p.y for p in last])
        bound = tol.lbfgs(f.u, S, Y, 1.0)
        H = np.eye(S.shape[1])
        for p in last:
            bound = (1 + tol.cosine(p.s, p.y)) ** 2 * bound + tol.update_change(
                H, p.s, p.y, p.ds, p.dy
            )
            H = product_form(H, p.s, p.y)
        equal(
            _where("H_g", seen),
            seen.after.H_g,
            "(1.3) with the last pairs",
            recursion(S, Y, 1.0),
            bound,
        )


@law(
    "Both inverse estimates stay symmetric and positive definite.",
    "H = Hᵀ,  λ_min(H) > 0",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def definite(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    snapshots = f.optimizer_steps(network, params, batches, **options)
    for k, snapshot in enumerate(snapshots):
        for l, view in enumerate(snapshot.blocks):
            for name, H in ("H_a", view.H_a), ("H_g", view.H_g):
                label = f"{name} of block {l} after step {k}"
                bound = tol.rounding(f.u, len(H) * (k + 2), tol.cond(H) * tol.norm(H))
                equal(label, H, "its transpose", H.T, bound)
                at_most("0", 0.0, f"λ_min of {label}", np.linalg.eigvalsh((H + H.T) / 2)[0], bound)


@law(
    "The two sides' dampings multiply to λ and stay as they were at the first mini-batch.",
    "λ_A = λ_G = √λ;  kbfgs_2022: λ_A = √(λ|T|), λ_G = √(λ/|T|)",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def damping_split(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    for seen in walk(f, network, params, batches, options):
        T = seen.first[0].shape[1]
        wanted = lambdas_of(options, T)
        found = seen.after.lambda_a, seen.after.lambda_g
        equal(
            _where("(λ_A, λ_G)", seen),
            found,
            "from λ and |T|",
            wanted,
            tol.rounding(f.u, 1, tol.norm(np.array(wanted))),
        )
        holds(_where("T", seen), int(seen.after.T), "|T|", T)


@law(
    "Between curvature updates both inverse estimates rest.",
    "k mod curvature_interval ≠ 0  ⟹  H_a, H_g unchanged",
    chapter="optimizer",
    requires="optimizer_steps",
    given=lambda p: runs(p).filter(
        lambda case: case["options"]["curvature_interval"] > 1
    ),  # one case of two
    cost=COST,
)
def rest(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    for seen in walk(f, network, params, batches, options):
        if not seen.updates:
            equal(_where("H_a", seen), seen.after.H_a, "H_a before", seen.before.H_a, 0.0)
            equal(_where("H_g", seen), seen.after.H_g, "H_g before", seen.before.H_g, 0.0)


@law(
    "Every curvature step is counted once on each side: as an update or as a skip.",
    "updates + skipped = number of curvature steps · blocks; damped_g = number of accepted "
    "pairs with θ < 1",
    chapter="optimizer",
    requires="optimizer_steps",
    given=runs,
    cost=COST,
)
def counters(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    averages = Averages(options)
    damped = 0
    unsure = 0
    steps = 0
    last = {}
    for seen in walk(f, network, params, batches, options):
        last[seen.block] = seen.after
        if seen.updates:
            steps += 1
            pair = _output_pair(averages, seen, options)
            damped = damped + (pair is not None and pair.damped)
            unsure = unsure + (pair is None)
    views = last.values()
    for side in "ag":
        counted = sum(
            int(getattr(v, f"updates_{side}") + getattr(v, f"skipped_{side}")) for v in views
        )
        holds(f"updates_{side} + skipped_{side}", counted, "curvature steps · blocks", steps)
    if not unsure:
        holds("damped_g", sum(int(v.damped_g) for v in views), "pairs with θ < 1", damped)


@law(
    "A mini-batch whose gradient is not finite changes nothing.",
    "∇_W f not finite  ⟹  W, H_a, H_g, M and the averages as before",
    chapter="optimizer",
    requires="optimizer_steps",
    given=lambda p: runs(p).filter(lambda case: len(case["batches"]) > 1),  # three cases of four
    cost=COST,
)
def not_finite(f: Any, network: Any, params: Any, batches: Any, options: Any) -> None:
    x, target = batches[0]
    bad = frozen(np.full(x.shape, np.nan)), target
    if np.isfinite(oracles.run(network.layers, params, bad[0])[0]).all():
        return  # a stride past the only pixel: the layer reads zero padding alone
    options = options | {"curvature_interval": 1}
    plain = f.optimizer_steps(network, params, batches, **options)
    disturbed = f.optimizer_steps(network, params, (batches[0], bad, *batches[1:]), **options)
    for name, step, same in ("bad", disturbed[1], plain[0]), ("last", disturbed[-1], plain[-1]):
        for l, (W, wanted) in enumerate(zip(step.params, same.params, strict=True)):
            equal(
                f"W of block {l} after the {name} step",
                W,
                "W without the bad mini-batch",
                wanted,
                0.0,
            )
        for l, (view, wanted) in enumerate(zip(step.blocks, same.blocks, strict=True)):
            equal(
                f"H_a of block {l} after the {name} step",
                view.H_a,
                "H_a without it",
                wanted.H_a,
                0.0,
            )
            equal(
                f"H_g of block {l} after the {name} step",
                view.H_g,
                "H_g without it",
                wanted.H_g,
                0.0,
            )
