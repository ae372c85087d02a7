r"""The step of ``kfqn_muon``: Muon's orthogonal step on the gradient times ``H_a``.

The estimate of the input side turns the averaged gradient; what is stepped along is its orthogonal
factor, in which all directions are about equally long. With ``H_a = I`` this is Muon
(jordan2024muon), with ``H_a = (A + λ_A I)⁻¹`` it is Newton-Muon (du2026newtonmuon).
"""

from math import sqrt

import numpy as np

from kfqn_ref._typing import Array
from kfqn_ref.method.state import BlockState

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""Of the polynomial ``p(σ) = a σ + b σ³ + c σ⁵``. Source: jordan2024muon."""
EPS = 1e-7
"""The least norm that a matrix is divided by. Source: jordan2024muon."""


def newton_schulz(X: Array, steps: int = 5) -> Array:
    r"""Return about the orthogonal factor ``U Vᵀ`` of ``X = U Σ Vᵀ``, in the shape of ``X``.

    Every step maps the singular values σ to ``p(σ)``, and leaves U and V as they are. They begin
    at most at 1, since ``X`` is divided by its Frobenius norm, and end between about 0.7 and 1.2,
    unless they were very small.

    Args:
        X: a matrix.   steps: iterations of the polynomial.

    Source: jordan2024muon.
    """
    a, b, c = COEFFICIENTS
    tall = X.shape[0] > X.shape[1]
    if tall:
        X = X.T  # the smaller Gram matrix
    X = X / max(np.linalg.norm(X), EPS)
    for _ in range(steps):
        gram = X @ X.T
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X.T if tall else X


def direction(block: BlockState, g: Array, *, beta: float, steps: int = 5) -> Array:
    r"""Return the direction (12.3) of a block whose average ``M`` has the newest gradient.

    .. math:: P = \sqrt{\max(1, d_g / d_a)}\; \operatorname{msgn}\big(H_g \bar M H_a\big), \qquad
        \bar M = \beta M + (1 - \beta)(\nabla_W f + \tau W)

    Args:
        block: with ``M`` (d_g, d_a).   g: the newest gradient with weight decay, (d_g, d_a).
        beta: decay of ``M``, as in Nesterov's momentum.   steps: of :func:`newton_schulz`.

    Source: derived here, with jordan2024muon and du2026newtonmuon.
    """
    d_g, d_a = g.shape
    turned = block.along(beta * block.M + (1 - beta) * g)
    return sqrt(max(1, d_g / d_a)) * newton_schulz(turned, steps)
