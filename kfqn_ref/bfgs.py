"""BFGS on an inverse, and its direct twin (book: Newton, secants and BFGS).

``H`` estimates the inverse of a Hessian. A pair (s, y) with ``sᵀy > 0`` says what the inverse does
to one vector: ``H⁺ y = s``. Of all symmetric matrices that obey, BFGS takes the one nearest to
``H``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref._typing import Array, Float, checked, guarded


def _positive_curvature(H: Array, s: Array, y: Array) -> None:
    """Refuse a pair without positive curvature."""
    sy = float(s @ y)
    if not sy > 0:
        raise LinAlgError(f"sᵀy must be positive, got {sy:.3g}")


def _positive_curvatures(B: Array, s: Array, y: Array) -> None:
    """Refuse a pair without positive curvature, or an estimate that has none along ``s``."""
    _positive_curvature(B, s, y)
    sBs = s @ (B @ s)
    if not sBs > 0:
        raise LinAlgError(f"sᵀBs must be positive, got {sBs:.3g}")


@checked
@guarded(_positive_curvature)
def bfgs_inverse_update(
    H: Float[Array, "n n"], s: Float[Array, " n"], y: Float[Array, " n"]
) -> Float[Array, "n n"]:
    r"""Return the BFGS update of the inverse-Hessian estimate ``H`` (1.3).

    .. math:: H^+ = (I - \rho\, s y^\top)\, H\, (I - \rho\, y s^\top) + \rho\, s s^\top,
        \qquad \rho = 1 / s^\top y

    :math:`H^+` is symmetric positive definite when ``H`` is, and :math:`H^+ y = s`, the secant
    equation (1.2).

    Args:
        H: inverse-Hessian estimate, (n, n), symmetric positive definite.
        s: change of the iterate, (n,).
        y: change of the gradient, (n,).

    Raises:
        LinAlgError: ``sᵀy`` is not positive; no positive definite matrix maps ``y`` to ``s``.

    Source: nocedal2006, ch. 6.
    """
    rho = 1 / (s @ y)
    V = np.eye(s.size) - rho * np.outer(y, s)
    # (1.3): the first term removes what H said about y, the second says H⁺ y = s
    return V.T @ H @ V + rho * np.outer(s, s)


@checked
@guarded(_positive_curvatures)
def bfgs_direct_update(
    B: Float[Array, "n n"], s: Float[Array, " n"], y: Float[Array, " n"]
) -> Float[Array, "n n"]:
    r"""Return the BFGS update of the Hessian estimate ``B`` (1.4), the inverse of
    :func:`bfgs_inverse_update`.

    .. math:: B^+ = B - \frac{B s\, s^\top B}{s^\top B s} + \frac{y y^\top}{s^\top y}

    Args:
        B: Hessian estimate, (n, n), symmetric positive definite.
        s: change of the iterate, (n,).
        y: change of the gradient, (n,).

    Raises:
        LinAlgError: ``sᵀy`` or ``sᵀBs`` is not positive.

    Source: nocedal2006, ch. 6.
    """
    rho = 1 / (s @ y)
    Bs = B @ s
    return B - np.outer(Bs, Bs) / (s @ Bs) + rho * np.outer(y, y)


@dataclass(frozen=True)
class DenseInverse:
    """An inverse estimate kept as a matrix and changed by BFGS.

    Args:
        H: (d, d), symmetric positive definite.
    """

    H: Array

    def __matmul__(self, X: Array) -> Array:
        return self.H @ X

    def update(self, s: Array, y: Array) -> "DenseInverse":
        """Return the estimate after the pair (s, y) by :func:`bfgs_inverse_update`."""
        return DenseInverse(bfgs_inverse_update(self.H, s, y))

    def dense(self) -> Array:
        """Return ``H``, (d, d)."""
        return self.H
