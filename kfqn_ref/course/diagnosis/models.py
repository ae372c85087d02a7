# ruff: noqa: D103  # each is one formula or operation, said by its name
"""The functions of the assignments, written so that a change of one place is one mistake.

Each follows its formula, one operation at a time, in the names of :mod:`.words`. A second or third
form of a function (its name, ``__`` and a word) is the same function by another formula: a wrong
sign in one form is no single wrong sign in another. Which of them a submission resembles is seen
from numbers alone.
"""

from typing import Any

import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref import Pair, forward_backward
from kfqn_ref.course.diagnosis.primitives import (
    block_matrix,
    cut,
    diag,
    entries,
    flat,
    identity,
    inverse,
    joined,
    last_rows,
    mean_locations,
    mean_samples,
    ones_last,
    outer,
    padded,
    patches,
    pieces,
    root,
    tensor_product,
    upper,
)
from kfqn_ref.course.tasks import Block

Array = np.ndarray


def bfgs_inverse_update(H: Array, s: Array, y: Array) -> Array:
    sy = s @ y
    if not sy > 0:
        raise LinAlgError("sᵀy must be positive")
    rho = 1 / sy
    V = identity(s) - rho * outer(y, s)
    return V.T @ H @ V + rho * outer(s, s)


def bfgs_inverse_update__brackets(H: Array, s: Array, y: Array) -> Array:
    sy = s @ y
    if not sy > 0:
        raise LinAlgError("sᵀy must be positive")
    rho = 1 / sy
    left = identity(s) - rho * outer(s, y)
    right = identity(s) - rho * outer(y, s)
    return left @ H @ right + rho * outer(s, s)


def bfgs_inverse_update__terms(H: Array, s: Array, y: Array) -> Array:
    sy = s @ y
    if not sy > 0:
        raise LinAlgError("sᵀy must be positive")
    rho = 1 / sy
    Hy = H @ y
    yHy = y @ Hy
    return H + rho * (1 + rho * yHy) * outer(s, s) - rho * outer(s, Hy) - rho * outer(Hy, s)


def bfgs_direct_update(B: Array, s: Array, y: Array) -> Array:
    Bs = B @ s
    sBs = s @ Bs
    sy = s @ y
    return B - outer(Bs, Bs) / sBs + outer(y, y) / sy


def inverse_from_products(multiply: Any, n: int) -> list[Array]:
    H = np.eye(n)
    found = []
    steps: list[Any] = []
    for e in np.eye(n):
        s = e
        y = multiply(e)
        for old_s, old_y in steps:
            weight = (old_y @ e) / (old_y @ old_s)
            s = s - weight * old_s
            y = y - weight * old_y
        H = bfgs_inverse_update(H, s, y)
        steps.append((s, y))
        found.append(H)
    return found


def powell_damp(H: Array, s: Array, y: Array, *, mu1: float = 0.2) -> Array:
    Hy = H @ y
    sy = s @ y
    yHy = y @ Hy
    if sy >= mu1 * yHy:
        theta = 1.0
    else:
        theta = (1 - mu1) * yHy / (yHy - sy)
    return theta * s + (1 - theta) * Hy


def lm_damp(s: Array, y: Array, *, lam: float) -> Array:
    return y + lam * s


def dp_dlm_damp(H: Array, s: Array, y: Array, *, mu1: float = 0.2, lam: float) -> Pair:
    s_tilde = powell_damp(H, s, y, mu1=mu1)
    y_tilde = lm_damp(s_tilde, y, lam=lam)
    return Pair(s_tilde, y_tilde)


def lbfgs_push(S: Array, Y: Array, s: Array, y: Array, *, memory: int) -> tuple[Array, Array]:
    S_new = last_rows(joined(S, s), memory)
    Y_new = last_rows(joined(Y, y), memory)
    return S_new, Y_new


def lbfgs_dense(S: Array, Y: Array, *, gamma: float = 1.0) -> Array:
    H = gamma * np.eye(S.shape[1])
    for s, y in list(zip(S, Y, strict=True)):
        H = bfgs_inverse_update(H, s, y)
    return H


def lbfgs_two_loop(S: Array, Y: Array, q: Array, *, gamma: float = 1.0) -> Array:
    m = len(S)
    start = q  # noqa: F841  # what an edit puts in the place of the running q
    alphas = np.zeros(m)
    for i in reversed(range(m)):
        s = S[i]
        y = Y[i]
        rho = 1 / (s @ y)
        alpha = rho * (s @ q)
        alphas[i] = alpha
        q = q - alpha * y
    r = gamma * q
    for i in range(m):
        s = S[i]
        y = Y[i]
        rho = 1 / (s @ y)
        alpha = alphas[i]
        beta = rho * (y @ r)
        r = r + (alpha - beta) * s
    return r


def lbfgs_compact(S: Array, Y: Array, *, gamma: float = 1.0) -> Array:
    R = inverse(upper(S @ Y.T))
    D = diag(S @ Y.T)
    corner = R.T @ (D + gamma * Y @ Y.T) @ R
    middle = block_matrix(corner, -R.T, -R)
    outside = joined(S, gamma * Y)
    return gamma * np.eye(S.shape[1]) + outside.T @ middle @ outside


def im2col(x: Array, kernel_size: Any, *, stride: Any, padding: Any, dilation: Any) -> Array:
    kh, kw = kernel_size
    sh, sw = stride
    ph, pw = padding
    dh, dw = dilation
    inside = padded(x, ph, pw)
    return flat(patches(inside, kh, kw, sh, sw, dh, dw))


def append_one(a: Array) -> Array:
    return ones_last(a)


def input_factor(a_bar: Array) -> Array:
    N, T = a_bar.shape[:2]
    return entries("nta,ntb->ab", a_bar, a_bar) / N


def output_factor(Hh: Array) -> Array:
    N, T = Hh.shape[:2]
    return entries("ntgth->gh", Hh) / (N * T)


def cvec(X: Array) -> Array:
    return X.T.ravel()


def kron(A: Array, G: Array) -> Array:
    return tensor_product(A, G)


def kron_matvec(A: Array, G: Array, X: Array) -> Array:
    return G @ X @ A.T


def hessian_action(a_bar: Array, v: Array) -> Array:
    N, T = a_bar.shape[:2]
    u = a_bar @ v
    return entries("nt,nta->a", u, a_bar) / N


def conv_hessian_action(conv: Any, a: Array, v: Array) -> Array:
    N = len(a)
    kh, kw = conv.kernel_size
    sh, sw = conv.stride
    ph, pw = conv.padding
    dh, dw = conv.dilation
    seen = flat(patches(padded(a, ph, pw), kh, kw, sh, sw, dh, dw))
    kernel, bias = cut(v, conv.bias)
    u = seen @ kernel + bias
    weights = entries("nt,nta->a", u, seen) / N
    last = u.sum() / N
    return pieces(weights, last, conv.bias)


def input_mean(a_bar: Array) -> Array:
    return mean_locations(mean_samples(a_bar))


def input_pair(H_a: Array, a_mean: Array, A: Array, *, lam: float) -> Pair:
    s = H_a @ a_mean
    v = s
    if A.ndim == 2:
        As = A @ v
    else:
        As = hessian_action(A, v)
    return Pair(s, As + lam * s)


def output_pair(first: Any, second: Any) -> Pair:
    s = mean_locations(mean_samples(second.h - first.h))
    y = mean_locations(mean_samples(second.Dh - first.Dh))
    return Pair(s, y)


def average_pair(old: Pair, new: Pair, *, decay: float) -> Pair:
    s = decay * old.s + (1 - decay) * new.s
    y = decay * old.y + (1 - decay) * new.y
    return Pair(s, y)


def average_pair__once(old: Pair, new: Pair, *, decay: float) -> Pair:
    keep = 1.0 * decay
    weight = 1 - keep
    return Pair(keep * old.s + weight * new.s, keep * old.y + weight * new.y)


def kfqn_step(
    network: Any,
    params: Any,
    blocks: Any,
    x: Array,
    target: Array,
    *,
    lr: float,
    damping: float,
    momentum: float,
    pair_decay: float,
) -> Any:
    lam_a = root(damping)
    lam_g = root(damping)
    beta = 1.0 * momentum
    keep = 1.0 * pair_decay
    first = forward_backward(network, params, x, target)
    means = []
    new = []
    for W, block, g in zip(params, blocks, first.grads, strict=True):
        M = beta * block.M + (1 - beta) * g
        means.append(M)
        new.append(W - lr * block.H_g @ M @ block.H_a)
    second = forward_backward(network, tuple(new), x, target)
    after = []
    for block, M, before, behind in zip(blocks, means, first.records, second.records, strict=True):
        a_bar = before.a_bar
        s, y = input_pair(block.H_a, mean_locations(mean_samples(a_bar)), a_bar, lam=lam_a)
        H_a = block.H_a
        if s @ y > 0:
            H_a = bfgs_inverse_update(H_a, s, y)
        pair = output_pair(before, behind)
        average = Pair(
            keep * block.s_g + (1 - keep) * pair.s, keep * block.y_g + (1 - keep) * pair.y
        )
        H_g = block.H_g
        damped = average
        if average.y @ H_g @ average.y > 0:
            damped = dp_dlm_damp(H_g, average.s, average.y, lam=lam_g)
            if damped.s @ damped.y > 0:
                H_g = bfgs_inverse_update(H_g, damped.s, damped.y)
        s_g, y_g = average
        after.append(Block(M, H_a, H_g, s_g, y_g))
    return tuple(new), tuple(after)


def assumption_errors(a_bar: Array, Hh: Array) -> dict[str, Any]:
    N, T = a_bar.shape[:2]
    exact = entries("nta,nub,ntguh->agbh", a_bar, a_bar, Hh) / N
    sud = entries("nta,ntb,ntgth->agbh", a_bar, a_bar, Hh) / N
    A_t = entries("nta,ntb->tab", a_bar, a_bar) / N
    G_t = entries("ntgth->tgh", Hh) / N
    iad = entries("tab,tgh->agbh", A_t, G_t)
    A = entries("tab->ab", A_t)
    G = entries("tgh->gh", G_t) / T
    both = entries("ab,gh->agbh", A, G)
    scale = np.linalg.norm(exact)
    return {
        "SUD": np.linalg.norm(sud - exact) / scale,
        "IAD": np.linalg.norm(iad - sud) / scale,
        "SH": np.linalg.norm(both - iad) / scale,
        "total": np.linalg.norm(both - exact) / scale,
    }
