"""Mistakes in the BFGS updates."""

import numpy as np

import kfqn_ref as ref
from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray


def _left(s: Array, y: Array) -> Array:
    return np.eye(len(s)) - np.outer(s, y) / (s @ y)


@mutant("bfgs_inverse_update", "H never changes: an in-place update that rebinds its argument")
def rebinds(H: Array, s: Array, y: Array) -> Array:
    return 1.0 * H


@mutant("bfgs_inverse_update", "the transposed factor: (I − ρ y sᵀ) H (I − ρ s yᵀ)")
def transposed(H: Array, s: Array, y: Array) -> Array:
    left = _left(s, y)
    return left.T @ H @ left + np.outer(s, s) / (s @ y)


@mutant("bfgs_inverse_update", "the same factor on both sides: (I − ρ s yᵀ) H (I − ρ s yᵀ)")
def one_sided(H: Array, s: Array, y: Array) -> Array:
    left = _left(s, y)
    return left @ H @ left + np.outer(s, s) / (s @ y)


@mutant("bfgs_inverse_update", "the term ρ s sᵀ is missing")
def without_step(H: Array, s: Array, y: Array) -> Array:
    left = _left(s, y)
    return left @ H @ left.T


@mutant("bfgs_inverse_update", "s sᵀ without ρ")
def step_without_rho(H: Array, s: Array, y: Array) -> Array:
    left = _left(s, y)
    return left @ H @ left.T + np.outer(s, s)


@mutant("bfgs_inverse_update", "y yᵀ instead of s sᵀ: the update of B applied to H")
def wrong_outer(H: Array, s: Array, y: Array) -> Array:
    left = _left(s, y)
    return left @ H @ left.T + np.outer(y, y) / (s @ y)


@mutant("bfgs_inverse_update", "s and y swapped: the direct update's argument order")
def swapped_pair(H: Array, s: Array, y: Array) -> Array:
    return ref.bfgs_inverse_update(H, y, s)


@mutant("bfgs_inverse_update", "ρ = sᵀy instead of 1/sᵀy")
def rho_inverted(H: Array, s: Array, y: Array) -> Array:
    rho = s @ y
    left = np.eye(len(s)) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


@mutant("bfgs_inverse_update", "rank-two form with a minus: ρ(1 − ρ yᵀHy) s sᵀ")
def rank_two_sign(H: Array, s: Array, y: Array) -> Array:
    rho = 1 / (s @ y)
    Hy = H @ y
    return (
        H + rho * (1 - rho * (y @ Hy)) * np.outer(s, s) - rho * (np.outer(s, Hy) + np.outer(Hy, s))
    )


@mutant("bfgs_inverse_update", "rank-two form with only one of the two cross terms")
def rank_two_half(H: Array, s: Array, y: Array) -> Array:
    rho = 1 / (s @ y)
    Hy = H @ y
    return H + rho * (1 + rho * (y @ Hy)) * np.outer(s, s) - rho * np.outer(s, Hy)


@mutant("bfgs_inverse_update", "a silent skip: pairs of small curvature are ignored")
def silent_skip(H: Array, s: Array, y: Array) -> Array:
    return ref.bfgs_inverse_update(H, s, y) if s @ y > 0.5 * (y @ H @ y) else 1.0 * H


@mutant("bfgs_inverse_update", "skips where sᵀy > 0, that is always")
def skip_positive(H: Array, s: Array, y: Array) -> Array:
    return 1.0 * H if s @ y > 0 else ref.bfgs_inverse_update(H, s, y)


@mutant(
    "bfgs_inverse_update",
    "symmetric rank-one update instead of BFGS: secant, not positive definite",
)
def rank_one(H: Array, s: Array, y: Array) -> Array:
    r = s - H @ y
    return H + np.outer(r, r) / (r @ y) if abs(r @ y) > 1e-12 * (s @ s) else 1.0 * H


@mutant("bfgs_inverse_update", "DFP instead of BFGS")
def dfp(H: Array, s: Array, y: Array) -> Array:
    Hy = H @ y
    return H - np.outer(Hy, Hy) / (y @ Hy) + np.outer(s, s) / (s @ y)


@mutant("bfgs_inverse_update", "an absolute guard: ρ = 1/(sᵀy + 1e-3)")
def guarded(H: Array, s: Array, y: Array) -> Array:
    rho = 1 / (s @ y + 1e-3)
    left = np.eye(len(s)) - rho * np.outer(s, y)
    return left @ H @ left.T + rho * np.outer(s, s)


@mutant("bfgs_inverse_update", "forgets H: starts from the identity")
def forgets(H: Array, s: Array, y: Array) -> Array:
    return ref.bfgs_inverse_update(np.eye(len(s)), s, y)


@mutant("bfgs_inverse_update", "an update that moves only half of the way")
def half_way(H: Array, s: Array, y: Array) -> Array:
    return (H + ref.bfgs_inverse_update(H, s, y)) / 2


@mutant("bfgs_inverse_update", "a triangular result: only the lower half is written")
def lower_half(H: Array, s: Array, y: Array) -> Array:
    return np.tril(ref.bfgs_inverse_update(H, s, y))


@mutant("bfgs_direct_update", "sign in the direct update: B s sᵀB is added")
def direct_sign(B: Array, s: Array, y: Array) -> Array:
    Bs = B @ s
    return B + np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)


@mutant("bfgs_direct_update", "yyᵀ divided by yᵀy")
def direct_scale(B: Array, s: Array, y: Array) -> Array:
    Bs = B @ s
    return B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (y @ y)


@mutant("bfgs_direct_update", "the inverse update in the place of the direct one")
def direct_inverse(B: Array, s: Array, y: Array) -> Array:
    return ref.bfgs_inverse_update(B, s, y)
