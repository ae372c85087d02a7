"""The in-place kernels: the formulas of the method, batched over a layer's groups and masked on the
device.

Shapes: a vector is ``(groups, d)``, a matrix ``(groups, d, d)``, a scalar or a mask ``(groups,)``;
the groups may be those of several layers, joined as ``rows`` does it. A function whose name ends in
``_`` writes into its arguments and never rebinds them. Nothing here reads a tensor back to the
host: a decision is a mask, and what is masked out is replaced before it can reach an estimate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kfqn_ref.optim.joined import unjoin

EPS = 1e-8
"""What :func:`scaled_` adds to the root of the averaged squares. Source: kingma2015adam."""


def dot(u: Tensor, v: Tensor) -> Tensor:
    """Return the inner product over the last axis."""
    return torch.linalg.vecdot(u, v)


def powell_damp_(s: Tensor, y: Tensor, Hy: Tensor, *, mu1: float) -> Tensor:
    r"""Damp ``s`` into :math:`\theta s + (1 - \theta) H y`; return theta.

    Afterwards :math:`s^\top y \ge \mu_1 y^\top H y`; :math:`\theta = 1` where that holds already.

    Source: goldfarb2020kbfgs; (2.1).
    """
    sy = dot(s, y)
    yHy = dot(y, Hy)
    theta = torch.where(sy >= mu1 * yHy, 1.0, (1 - mu1) * yHy / (yHy - sy))
    s.mul_(theta[:, None]).addcmul_(Hy, (1 - theta)[:, None])  # lerp_ would round a tiny theta away
    return theta


def identity_damp_(s: Tensor, y: Tensor, *, mu2: Tensor | float) -> Tensor:
    r"""Damp ``y`` into :math:`\theta y + (1 - \theta) s`; return theta.

    Afterwards :math:`s^\top y \ge \mu_2 s^\top s`; ``mu2`` may be one a row, ``(groups,)``. Source:
    goldfarb2020kbfgs; (2.2).
    """
    sy = dot(s, y)
    ss = dot(s, s)
    theta = torch.where(sy >= mu2 * ss, 1.0, (1 - mu2) * ss / (ss - sy))
    y.mul_(theta[:, None]).addcmul_(s, (1 - theta)[:, None])
    return theta


def lm_damp_(s: Tensor, y: Tensor, *, lam: Tensor | float) -> None:
    r"""Damp ``y`` into :math:`y + \lambda s`; ``lam`` may be one a row, ``(groups, 1)``.

    Source: ren2021kfqn; (2.3).
    """
    y.add_(lam * s)


def bfgs_rank_two(s: Tensor, y: Tensor, Hy: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`s^\top y`, and ``v`` with :math:`H^+ = H + s v^\top + v s^\top` (10.1):
    (1.3) in rank-two form.

    .. math:: v = \tfrac{\rho}{2} (1 + \rho\, y^\top H y)\, s - \rho H y, \qquad \rho = 1 / s^\top y

    Source: nocedal2006.
    """
    sy, yHy = (torch.stack((s, Hy), 1) @ y[..., None]).unbind(1)  # (groups, 1) each
    rho = 1 / sy
    half = rho / 2  # rho * rho would underflow for large pairs
    v = torch.addcmul(s * torch.addcmul(half, half, rho * yHy), Hy, rho, value=-1)
    return sy[:, 0], v


def bfgs_inverse_update_(
    Hs: Sequence[Tensor], s: Tensor, y: Tensor, Hy: Tensor, accept: Tensor
) -> Tensor:
    r"""Update every ``H`` in place so that ``H y = s``; return the mask of the groups that were
    updated.

    A group is left as it is unless ``accept``, :math:`s^\top y > 0` and the change of ``H`` is
    finite. ``Hs`` are the matrices of one layer or of several; ``s``, ``y`` and ``Hy``, the old
    ``H`` times ``y``, are the joined vectors of these layers. Two passes over the rows of an ``H``:
    one matrix product of inner size two goes through ``H`` tile by tile, which is slower on a CPU
    once ``H`` has left the cache. Source: nocedal2006; (1.3).
    """
    sy, v = bfgs_rank_two(s, y, Hy)
    sv = torch.stack((s, v), 1)
    largest = sv.abs().amax(-1).prod(-1)  # of the entries of s vᵀ
    accept = accept & (sy > 0) & (largest < torch.inf)
    sv = torch.where(accept[:, None, None], sv, 0.0)
    for H, s, v in zip(Hs, *(unjoin(x, Hs) for x in sv.unbind(1)), strict=True):
        H.addcmul_(s[..., None], v[:, None]).addcmul_(v[..., None], s[:, None])
    return accept


def lbfgs_push_(S: Tensor, Y: Tensor, R: Tensor, s: Tensor, y: Tensor, accept: Tensor) -> Tensor:
    r"""Store the pair as the newest row, let the oldest fall out; return the mask of the groups
    that took it.

    ``S``, ``Y`` are ``(groups, p, d)`` with the newest pair last, empty rows zero; ``R`` is
    ``(groups, p, p)``, upper triangular, :math:`R_{ij} = s_i^\top y_j`. Source: nocedal2006.
    """
    sy = dot(s, y)
    accept = accept & (sy > 0) & (sy < torch.inf)
    take = accept[:, None, None]
    for rows, new in ((S, s), (Y, y)):
        rows.copy_(torch.where(take, torch.cat((rows[:, 1:], new[:, None]), 1), rows))
    column = (S @ torch.where(accept[:, None], y, 0.0)[..., None])[:, :-1]
    shifted = torch.cat((R[:, 1:, 1:], column), -1)  # the old pairs against the new y
    bottom = torch.cat((torch.zeros_like(R[:, :1, 1:]), sy[:, None, None]), -1)
    R.copy_(torch.where(take, torch.cat((shifted, bottom), -2), R))
    return accept


def lbfgs_apply(S: Tensor, Y: Tensor, R: Tensor, q: Tensor, *, gamma: Tensor | float) -> Tensor:
    r"""Return ``H q`` for ``q`` ``(groups, d, columns)``: two loops as two solves (10.2).

    The first loop solves :math:`R \alpha = S q`; with :math:`r = \gamma (q - Y^\top \alpha)` the
    second solves :math:`R^\top \delta = D \alpha - Y r`, where ``D`` is the diagonal of ``R``;
    :math:`H q = r + S^\top \delta`. An empty row is zero and drops out. Source: nocedal2006,
    byrd1994compact; the two solves are derived here.
    """
    D = R.diagonal(dim1=-2, dim2=-1)
    R = R + torch.diag_embed(torch.where(D == 0, 1.0, 0.0))
    alpha = torch.linalg.solve_triangular(R, S @ q, upper=True)
    r = gamma * (q - Y.mT @ alpha)
    delta = torch.linalg.solve_triangular(R.mT, D[..., None] * alpha - Y @ r, upper=False)
    return r + S.mT @ delta


def average_(mean: Tensor, new: Tensor, decay: float, accept: Tensor) -> None:
    """Move ``mean`` to ``decay · mean + (1 − decay) · new`` where ``accept``."""
    mean.lerp_(torch.where(accept, new, mean), 1 - decay)


def damped_inverse(A: Tensor, lam: float, accept: Tensor) -> Tensor:
    r"""Return :math:`(A + \lambda I)^{-1}`; with ``A = 0`` where not ``accept`` or not finite.

    Source: ren2021kfqn.
    """
    finite = torch.isfinite(A.diagonal(dim1=-2, dim2=-1).sum(-1))  # the diagonal bounds the rest
    A = torch.where((accept & finite)[:, None, None], A, 0.0)
    shift = lam * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    factor, _ = torch.linalg.cholesky_ex(A + shift)
    return torch.cholesky_inverse(
        factor
    ).contiguous()  # LAPACK's columns would slow every update in place


def momentum_(M: Tensor, g: Tensor, W: Tensor, *, beta: float, tau: float, ok: Tensor) -> None:
    r"""Move ``M`` to :math:`\beta M + (1 - \beta)(g + \tau W)` if ``ok``. Source:
    goldfarb2020kbfgs.
    """
    decayed = g.add(W, alpha=tau) if tau else g
    average_(M, decayed, beta, ok)


def scaled_(
    M: Tensor, V: Tensor, t: Tensor, U: Tensor, *, beta: float, beta2: float, ok: Tensor
) -> Tensor:
    r"""Average ``U`` in ``M`` and its squares in ``V`` if ``ok``; return Adam's step in Nesterov's
    form.

    .. math:: P = \hat M / (\sqrt{\hat V} + \epsilon), \qquad
        \hat M = \frac{\beta M}{1 - \beta^{t+1}} + \frac{(1 - \beta) U}{1 - \beta^t}, \qquad
        \hat V = \frac{V}{1 - \beta_2^t}

    ``t`` counts the sound iterations. ``M``, ``V`` and ``U`` have one shape. Source:
    kingma2015adam, dozat2016nadam.
    """
    U = torch.where(ok, U, 0.0)
    weight = ok.to(M.dtype)
    M.lerp_(U, weight * (1 - beta))
    V.lerp_(U * U, weight * (1 - beta2))
    t.add_(ok)
    n = t.clamp(min=1).to(M.dtype)
    M_hat = U.mul_((1 - beta) / (1 - beta**n)).addcmul_(M, beta / (1 - beta ** (n + 1)))
    return M_hat.div_((V / (1 - beta2**n)).sqrt_().add_(EPS))


COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of the polynomial in :func:`orthogonal`. Source: jordan2024muon."""
LEAST_NORM = 1e-7
"""The least norm that a matrix is divided by in :func:`orthogonal`. Source: jordan2024muon."""


def orthogonal(X: Tensor, steps: int) -> Tensor:
    r"""Return about the orthogonal factor of every ``X``, ``(groups, d_g, d_a)``.

    Every step maps the singular values of :math:`X / \lVert X \rVert_F` by
    :math:`p(\sigma) = a \sigma + b \sigma^3 + c \sigma^5`. All is done in the dtype of ``X``.

    Source: jordan2024muon.
    """
    a, b, c = COEFFICIENTS
    tall = X.shape[-2] > X.shape[-1]
    X = X.mT if tall else X  # the smaller Gram matrix
    norm = torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True)
    X = X / norm.clamp(min=LEAST_NORM)
    for _ in range(steps):
        gram = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X


def adamw_(
    p: Tensor,
    g: Tensor,
    M: Tensor,
    V: Tensor,
    t: Tensor,
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    decay: float,
    ok: Tensor,
) -> None:
    r"""Move ``p`` by AdamW's step if ``ok``; average ``g`` in ``M`` and its squares in ``V``.

    .. math:: p \leftarrow (1 - \alpha \tau)\, p - \alpha\, \hat M / (\sqrt{\hat V} + \epsilon),
        \qquad \hat M = \frac{M}{1 - \beta_1^t}, \qquad \hat V = \frac{V}{1 - \beta_2^t}

    ``t`` counts the sound iterations. Source: loshchilov2019adamw.
    """
    g = torch.where(ok, g, 0.0).to(M.dtype)
    weight = ok.to(M.dtype)
    beta1, beta2 = betas
    M.lerp_(g, weight * (1 - beta1))
    V.lerp_(g * g, weight * (1 - beta2))
    t.add_(ok)
    n = t.clamp(min=1).to(M.dtype)  # 0 only where nothing moves
    root = (V / (1 - beta2**n)).sqrt_().add_(EPS)
    P = M / (1 - beta1**n) / root
    alpha = weight * lr
    p.mul_((1 - alpha * decay).to(p.dtype))
    descend_(p, P, alpha)


def descend_(W: Tensor, P: Tensor, alpha: Tensor) -> None:
    r"""Move ``W`` to :math:`W - \alpha P`; ``alpha`` has no axes."""
    W.addcmul_(P, alpha, value=-1)


def all_finite(values: Sequence[Tensor]) -> Tensor:
    """Return whether every entry of every value is finite, a mask without axes."""
    filled = [v.detach() for v in values if v.numel()]
    largest = torch._foreach_max(torch._foreach_abs(filled))  # type: ignore[reportPrivateImportUsage]  # torch.optim's own way
    # of several dtypes: in the one that holds them all
    return torch.isfinite(torch.stack(largest)).all()
