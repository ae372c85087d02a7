"""Correct implementations of the kernels that differ in formula, arithmetic, memory layout or kind
of container.

``ALTERNATIVES[kernel][name]`` is what ``load`` takes. None of them calls the reference.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Function = Callable[..., Any]
FORMULAS: dict[str, dict[str, Function]] = {}


def formula(kernel: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        FORMULAS.setdefault(kernel, {})[function.__name__] = function
        return function

    return register


def _rho(s: Any, y: Any) -> Any:
    return 1 / (s @ y)


@formula("bfgs_inverse_update")
def product(H: Any, s: Any, y: Any) -> Any:
    left = np.eye(len(s), dtype=H.dtype) - _rho(s, y) * np.outer(s, y)
    return left @ H @ left.T + _rho(s, y) * np.outer(s, s)


@formula("bfgs_inverse_update")
def rank_two(H: Any, s: Any, y: Any) -> Any:
    rho, Hy = _rho(s, y), H @ y
    return (
        H + rho * (1 + rho * (y @ Hy)) * np.outer(s, s) - rho * (np.outer(s, Hy) + np.outer(Hy, s))
    )


@formula("bfgs_inverse_update")
def two_products(H: Any, s: Any, y: Any) -> Any:
    rho, Hy = _rho(s, y), H @ y
    v = rho / 2 * (1 + rho * (y @ Hy)) * s - rho * Hy
    return H + np.outer(s, v) + np.outer(v, s)


@formula("bfgs_inverse_update")
def cholesky_updated(H: Any, s: Any, y: Any) -> Any:
    L = np.linalg.cholesky(H)
    root = np.vstack([(L - _rho(s, y) * np.outer(s, y @ L)).T, np.sqrt(_rho(s, y)) * s])
    R = np.linalg.qr(root, mode="r")
    return R.T @ R


@formula("bfgs_inverse_update")
def through_B(H: Any, s: Any, y: Any) -> Any:
    B = np.linalg.inv(H)
    Bs = B @ s
    return np.linalg.inv(B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) * _rho(s, y))


@formula("bfgs_inverse_update")
def dfp_and_more(H: Any, s: Any, y: Any) -> Any:
    Hy = H @ y
    q, w = y @ Hy, s * _rho(s, y) - Hy / (y @ Hy)
    return H - np.outer(Hy, Hy) / q + np.outer(s, s) * _rho(s, y) + q * np.outer(w, w)


@formula("bfgs_inverse_update")
def python_loops(H: Any, s: Any, y: Any) -> Any:
    n, rho = len(s), 1 / sum(a * b for a, b in zip(s, y, strict=True))
    Hy = [sum(H[i][j] * y[j] for j in range(n)) for i in range(n)]
    c = rho * (1 + rho * sum(a * b for a, b in zip(y, Hy, strict=True)))
    return [
        [H[i][j] + c * s[i] * s[j] - rho * (s[i] * Hy[j] + Hy[i] * s[j]) for j in range(n)]
        for i in range(n)
    ]


@formula("bfgs_direct_update")
def direct_formula(H: Any, s: Any, y: Any) -> Any:
    Bs = H @ s
    return H - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)


@formula("bfgs_direct_update")
def direct_einsum(H: Any, s: Any, y: Any) -> Any:
    Bs = np.einsum("ij,j->i", H, s)
    return H - np.einsum("i,j->ij", Bs / (s @ Bs), Bs) + np.einsum("i,j->ij", y / (s @ y), y)


@formula("bfgs_direct_update")
def direct_projection(H: Any, s: Any, y: Any) -> Any:
    """B − B s sᵀB/(sᵀBs) is what B leaves of vectors made B-orthogonal to s."""
    P = np.eye(len(s), dtype=H.dtype) - np.outer(s, s @ H) / (s @ H @ s)
    return P.T @ H @ P + np.outer(y, y) / (s @ y)


@formula("bfgs_direct_update")
def direct_factored(H: Any, s: Any, y: Any) -> Any:
    """B = L Lᵀ; L⁺ = L + (y/√(sᵀy) − L v/‖v‖) vᵀ/‖v‖ with v = Lᵀs."""
    L = np.linalg.cholesky(H)
    v = L.T @ s
    v = v / np.linalg.norm(v)
    L_plus = L + np.outer(y / np.sqrt(s @ y) - L @ v, v)
    return L_plus @ L_plus.T


@formula("powell_damp")
def by_theta(H: Any, s: Any, y: Any, *, mu1: float = 0.2) -> Any:
    Hy = H @ y
    sy, q = s @ y, y @ Hy
    theta = 1 if sy >= mu1 * q else (1 - mu1) * q / (q - sy)
    return theta * s + (1 - theta) * Hy


@formula("powell_damp")
def by_correction(H: Any, s: Any, y: Any, *, mu1: float = 0.2) -> Any:
    Hy = H @ y
    sy, q = s @ y, y @ Hy
    missing = max(0, mu1 * q - sy)
    return s + (missing / (q - sy) if missing > 0 else 0) * (Hy - s)


@formula("powell_damp")
def in_cholesky_coordinates(H: Any, s: Any, y: Any, *, mu1: float = 0.2) -> Any:
    """With H = L Lᵀ the metric becomes I: ŝ = L⁻¹ s, ŷ = Lᵀ y."""
    L = np.linalg.cholesky(H)
    y_hat = L.T @ y
    sy, q = s @ y, y_hat @ y_hat
    theta = np.where(sy >= mu1 * q, 1, (1 - mu1) * q / np.where(q == sy, 1, q - sy))
    return theta * s + L @ ((1 - theta) * y_hat)


@formula("identity_damp")
def identity_by_theta(s: Any, y: Any, *, mu2: float) -> Any:
    sy, q = s @ y, s @ s
    theta = 1 if sy >= mu2 * q else (1 - mu2) * q / (q - sy)
    return theta * y + (1 - theta) * s


@formula("identity_damp")
def identity_by_correction(s: Any, y: Any, *, mu2: float) -> Any:
    sy, q = s @ y, s @ s
    missing = max(0, mu2 * q - sy)
    return y + (missing / (q - sy) if missing > 0 else 0) * (s - y)


@formula("identity_damp")
def identity_by_difference(s: Any, y: Any, *, mu2: float) -> Any:
    """What must be added along s − y, from (s − y)ᵀs."""
    d = s - y
    need = mu2 * (s @ s) - y @ s
    return y + (need / (d @ s)) * d if need > 0 else 1 * y


@formula("lm_damp")
def lm_sum(s: Any, y: Any, *, lam: float) -> Any:
    return y + lam * s


@formula("lm_damp")
def lm_product(s: Any, y: Any, *, lam: float) -> Any:
    return np.stack([y, s], axis=1) @ np.array([1, lam], dtype=y.dtype)


@formula("lm_damp")
def lm_loop(s: Any, y: Any, *, lam: float) -> Any:
    return [b + lam * a for a, b in zip(s, y, strict=True)]


@formula("double_damp")
def double_by_theta(H: Any, s: Any, y: Any, *, mu1: float = 0.2, mu2: float) -> Any:
    s = by_theta(H, s, y, mu1=mu1)
    return s, identity_by_theta(s, y, mu2=mu2)


@formula("double_damp")
def double_by_correction(H: Any, s: Any, y: Any, *, mu1: float = 0.2, mu2: float) -> Any:
    s = by_correction(H, s, y, mu1=mu1)
    return [s, identity_by_difference(s, y, mu2=mu2)]


@formula("dp_dlm_damp")
def dp_dlm_by_theta(H: Any, s: Any, y: Any, *, mu1: float = 0.2, lam: float) -> Any:
    s = by_theta(H, s, y, mu1=mu1)
    return s, y + lam * s


@formula("dp_dlm_damp")
def dp_dlm_by_correction(H: Any, s: Any, y: Any, *, mu1: float = 0.2, lam: float) -> Any:
    s = by_correction(H, s, y, mu1=mu1)
    return [s, lm_product(s, y, lam=lam)]


@formula("dp_dlm_damp")
def dp_dlm_in_cholesky_coordinates(H: Any, s: Any, y: Any, *, mu1: float = 0.2, lam: float) -> Any:
    s = in_cholesky_coordinates(H, s, y, mu1=mu1)
    return s, lam * s + y


@formula("lbfgs_dense")
def dense_recursion(S: Any, Y: Any, *, gamma: float = 1.0) -> Any:
    H = gamma * np.eye(S.shape[1], dtype=S.dtype)
    for s, y in zip(S, Y, strict=True):
        H = product(H, s, y)
    return H


@formula("lbfgs_dense")
def dense_rank_two(S: Any, Y: Any, *, gamma: float = 1.0) -> Any:
    H = gamma * np.eye(S.shape[1], dtype=S.dtype)
    for s, y in zip(S, Y, strict=True):
        H = rank_two(H, s, y)
    return H


@formula("lbfgs_two_loop")
def two_loops(S: Any, Y: Any, q: Any, *, gamma: float = 1.0) -> Any:
    q, alphas = q + 0, []
    for s, y in list(zip(S, Y, strict=True))[::-1]:
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = gamma * q
    for s, y in zip(S, Y, strict=True):
        r = r + (alphas.pop() - (y @ r) / (s @ y)) * s
    return r


@formula("lbfgs_two_loop")
def recursive(S: Any, Y: Any, q: Any, *, gamma: float = 1.0) -> Any:
    if not len(S):
        return gamma * q
    s, y = S[-1], Y[-1]
    alpha = (s @ q) / (s @ y)
    r = recursive(S[:-1], Y[:-1], q - alpha * y, gamma=gamma)
    return r + (alpha - (y @ r) / (s @ y)) * s


@formula("lbfgs_two_loop")
def by_matrix(S: Any, Y: Any, q: Any, *, gamma: float = 1.0) -> Any:
    return dense_rank_two(S, Y, gamma=gamma) @ q


@formula("lbfgs_compact")
def compact_form(S: Any, Y: Any, *, gamma: float = 1.0) -> Any:
    m = len(S)
    H = gamma * np.eye(S.shape[1], dtype=S.dtype)
    if not m:
        return H
    R, D = np.triu(S @ Y.T), np.diag(np.einsum("mn,mn->m", S, Y))
    R_inv = np.linalg.solve(R.astype(float), np.eye(m)).astype(S.dtype)
    middle = np.block([[R_inv.T @ (D + gamma * Y @ Y.T) @ R_inv, -R_inv.T], [-R_inv, 0 * R]])
    wide = np.hstack([S.T, gamma * Y.T])
    return H + wide @ middle @ wide.T


@formula("lbfgs_compact")
def compact_by_recursion(S: Any, Y: Any, *, gamma: float = 1.0) -> Any:
    return dense_recursion(S, Y, gamma=gamma)


@formula("lbfgs_push")
def push_stack(S: Any, Y: Any, s: Any, y: Any, *, memory: int) -> Any:
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]


@formula("lbfgs_push")
def push_list(S: Any, Y: Any, s: Any, y: Any, *, memory: int) -> Any:
    return [*S, s][-memory:], [*Y, y][-memory:]


@formula("lbfgs_push")
def push_shift(S: Any, Y: Any, s: Any, y: Any, *, memory: int) -> Any:
    first = max(0, len(S) + 1 - memory)
    return np.concatenate([S[first:], s[None]]), np.concatenate([Y[first:], y[None]])


def _map(function: Callable[[Any], Any], result: Any) -> Any:
    return (
        tuple(function(entry) for entry in result)
        if isinstance(result, tuple | list)
        else function(result)
    )


def _on(f: Function, inward: Callable[[Any], Any], outward: Callable[[Any], Any]) -> Function:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return _map(outward, f(*map(inward, args), **kwargs))

    return wrapped


def _flip(X: Any) -> Any:
    """The coordinates in reverse order: of H both axes, of S and Y (pairs in rows, fewer or more
    than n) the second.
    """
    return np.asarray(X)[..., ::-1]


def _only_numbers(kwargs: dict[str, Any]) -> None:
    """Refuse arrays by keyword: these wrappers change the arrays that come by position."""
    if any(np.ndim(value) for value in kwargs.values()):
        raise TypeError("arrays are given by position here")


def _flipped(f: Function, kernel: str) -> Function:
    both = {"H"} if kernel.startswith(("bfgs", "powell", "d")) else set()

    def wrapped(first: Any, *rest: Any, **kwargs: Any) -> Any:
        _only_numbers(kwargs)
        flipped = _flip(first)[::-1] if both else _flip(first)
        result = f(flipped, *map(_flip, rest), **kwargs)
        square = kernel in (
            "bfgs_inverse_update",
            "bfgs_direct_update",
            "lbfgs_compact",
            "lbfgs_dense",
        )
        return _map(lambda X: _flip(X)[::-1] if square else _flip(X), result)

    return wrapped


def _scaled(f: Function, kernel: str) -> Function:
    """All vectors on another scale, by a power of two, and back."""
    homogeneous = kernel in (
        "powell_damp",
        "identity_damp",
        "lm_damp",
        "double_damp",
        "dp_dlm_damp",
        "lbfgs_push",
    )

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _only_numbers(kwargs)
        first_is_H = kernel.startswith(("bfgs", "powell", "d"))
        stays = (
            {0} if first_is_H else {2} if kernel == "lbfgs_two_loop" else set()
        )  # a matrix, a right side
        moved = [X if i in stays else 4 * np.asarray(X) for i, X in enumerate(args)]
        return _map(lambda X: np.asarray(X) / 4 if homogeneous else X, f(*moved, **kwargs))

    return wrapped


def _containers(kernel: str, f: Function) -> dict[str, dict[str, Any]]:
    fortran = lambda X: np.asfortranarray(X)  # noqa: E731  # one of a row of converters
    strided = lambda X: np.repeat(np.asarray(X), 2, axis=-1)[..., ::2]  # noqa: E731  # as above
    single = lambda X: np.asarray(X, dtype=np.float32)  # noqa: E731  # as above
    wide = lambda X: np.asarray(X, dtype=np.longdouble)  # noqa: E731  # as above
    entry = {
        "float32": {kernel: _on(f, single, single), "precision": "float32"},
        "fortran": {kernel: _on(f, fortran, fortran)},
        "strided": {kernel: _on(f, strided, strided)},
        "lists": {kernel: _on(f, np.array, lambda X: np.asarray(X).tolist()), "to_native": _lists},
        "tensors": {kernel: _on(f, lambda t: t.numpy(), lambda X: torch.tensor(np.asarray(X))),
                    "to_native": lambda X: torch.tensor(X)},
        "flipped": {kernel: _flipped(f, kernel)},
        "scaled": {kernel: _scaled(f, kernel)},
    }  # fmt: skip  # one container a line
    if kernel != "lbfgs_compact":  # its triangular solve is LAPACK's, which knows no long double
        entry["longdouble"] = {kernel: _on(f, wide, lambda X: np.asarray(X, dtype=float))}
    return entry


def _lists(X: np.ndarray) -> Any:
    return X if X.size == 0 else X.tolist()  # a list without rows has no columns


def _all() -> dict[str, dict[str, dict[str, Any]]]:
    found = {}
    for kernel, formulas in FORMULAS.items():
        first, *rest = formulas.items()
        found[kernel] = _containers(kernel, first[1])
        for name, f in (first, *rest):
            found[kernel][name] = {kernel: f}
        if len(formulas) > 1:
            name, f = rest[0]
            found[kernel][f"{name}, float32"] = {
                kernel: _on(
                    f,
                    lambda X: np.asarray(X, dtype=np.float32),
                    lambda X: np.asarray(X, dtype=np.float32),
                ),
                "precision": "float32",
            }
    return found


ALTERNATIVES = _all()
