"""Damping: how a curvature pair (s, y) is changed so that ``sᵀy > 0`` (book: damping).

Powell's damping (2.1) pulls ``s`` towards ``H y``; damping with the identity (2.2) pulls ``y``
towards ``s``; Levenberg-Marquardt damping (2.3) adds ``lam s`` to ``y``. The quasi-Newton methods
use them in pairs: DD is (2.1) then (2.2), D_P D_LM is (2.1) then (2.3).
"""

import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref._typing import Array, Float, InverseEstimate, Pair, checked, guarded


def _powell_defined(H: Array | InverseEstimate, s: Array, y: Array, *, mu1: float = 0.2) -> None:
    """Refuse a threshold outside (0, 1), and an ``H`` that has no curvature along ``y``."""
    if not 0 < mu1 < 1:
        raise ValueError(f"mu1 must be in (0, 1), got {mu1}")
    yHy = y @ (H @ y)
    if not yHy > 0:
        raise LinAlgError(f"yᵀHy must be positive, got {yHy:.3g}")


def _identity_defined(s: Array, y: Array, *, mu2: float) -> None:
    """Refuse a threshold outside (0, 1), and a step that is zero or not finite."""
    if not 0 < mu2 < 1:
        raise ValueError(f"mu2 must be in (0, 1), got {mu2}")
    ss = s @ s
    if not ss > 0:
        raise LinAlgError(f"sᵀs must be positive, got {ss:.3g}")


def _damping_not_negative(s: Array, y: Array, *, lam: float) -> None:
    if not lam >= 0:
        raise ValueError(f"lam must not be negative, got {lam}")


@checked
@guarded(_powell_defined, result=float)
def powell_theta(
    H: Float[Array, "n n"] | InverseEstimate,
    s: Float[Array, " n"],
    y: Float[Array, " n"],
    *,
    mu1: float = 0.2,
) -> float:
    r"""Return the weight :math:`\theta \in (0, 1]` that Powell's damping gives to ``s``.

    .. math::
        \theta = \begin{cases} 1 & s^\top y \ge \mu_1\, y^\top H y \\
        (1 - \mu_1)\, y^\top H y / (y^\top H y - s^\top y) & \text{otherwise} \end{cases}

    Args:
        H: inverse-Hessian estimate, (n, n), symmetric positive definite.
        s: change of the iterate, (n,).
        y: change of the gradient, (n,), not zero.
        mu1: curvature to keep, as a fraction of ``yᵀHy``; in (0, 1).

    Raises:
        ValueError: ``mu1`` is not in (0, 1).
        LinAlgError: ``yᵀHy`` is not positive: ``y`` is zero or ``H`` is not positive definite.

    Source: powell1978, goldfarb2020kbfgs.
    """
    sy = s @ y
    yHy = y @ (H @ y)
    if sy >= mu1 * yHy:
        return 1.0
    # the θ for which s̃ᵀy = mu1 yᵀHy
    theta = (1 - mu1) * yHy / (yHy - sy)
    return theta  # pyright: ignore[reportReturnType]  # a number, which NumPy's types do not say


@checked
def powell_damp(
    H: Float[Array, "n n"] | InverseEstimate,
    s: Float[Array, " n"],
    y: Float[Array, " n"],
    *,
    mu1: float = 0.2,
) -> Float[Array, " n"]:
    r"""Return ``s`` damped so that its curvature along ``y`` stays positive (2.1).

    .. math:: \tilde s = \theta s + (1 - \theta) H y

    with the :math:`\theta` of :func:`powell_theta`, so that
    :math:`\tilde s^\top y \ge \mu_1 y^\top H y`, with equality whenever the damping acts.

    Args, raises: as :func:`powell_theta`.

    Source: powell1978, goldfarb2020kbfgs.
    """
    theta = powell_theta(H, s, y, mu1=mu1)
    return theta * s + (1 - theta) * (H @ y)


@checked
@guarded(_identity_defined, result=float)
def identity_theta(s: Float[Array, " n"], y: Float[Array, " n"], *, mu2: float) -> float:
    r"""Return the weight :math:`\theta \in (0, 1]` that damping with the identity gives to ``y``.

    .. math::
        \theta = \begin{cases} 1 & s^\top y \ge \mu_2\, s^\top s \\
        (1 - \mu_2)\, s^\top s / (s^\top s - s^\top y) & \text{otherwise} \end{cases}

    Args:
        s: change of the iterate, (n,), not zero.
        y: change of the gradient, (n,).
        mu2: smallest curvature ``sᵀy / sᵀs`` to keep; in (0, 1).

    Raises:
        ValueError: ``mu2`` is not in (0, 1).
        LinAlgError: ``sᵀs`` is not positive: ``s`` is zero or not finite.

    Source: goldfarb2020kbfgs.
    """
    sy = s @ y
    ss = s @ s
    if sy >= mu2 * ss:
        return 1.0
    # the θ for which sᵀỹ = mu2 sᵀs
    theta = (1 - mu2) * ss / (ss - sy)
    return theta  # pyright: ignore[reportReturnType]  # a number, which NumPy's types do not say


@checked
def identity_damp(
    s: Float[Array, " n"], y: Float[Array, " n"], *, mu2: float
) -> Float[Array, " n"]:
    r"""Return ``y`` damped towards ``s``: Powell's damping with ``B = I`` (2.2).

    .. math:: \tilde y = \theta y + (1 - \theta) s

    with the :math:`\theta` of :func:`identity_theta`, so that
    :math:`s^\top \tilde y \ge \mu_2 s^\top s`.

    Args, raises: as :func:`identity_theta`.

    Source: goldfarb2020kbfgs.
    """
    theta = identity_theta(s, y, mu2=mu2)
    return theta * y + (1 - theta) * s


@checked
@guarded(_damping_not_negative)
def lm_damp(s: Float[Array, " n"], y: Float[Array, " n"], *, lam: float) -> Float[Array, " n"]:
    r"""Return ``y`` as if ``lam I`` had been added to the Hessian (2.3): Levenberg-Marquardt
    damping.

    .. math:: \tilde y = y + \lambda s

    Args:
        s: change of the iterate, (n,).
        y: change of the gradient, (n,).
        lam: damping, not negative; units of ``y`` per ``s``.

    Raises:
        ValueError: ``lam`` is negative or NaN.

    Source: ren2021kfqn.
    """
    return y + lam * s


@checked
def double_damp(
    H: Float[Array, "n n"] | InverseEstimate,
    s: Float[Array, " n"],
    y: Float[Array, " n"],
    *,
    mu1: float = 0.2,
    mu2: float,
) -> Pair:
    r"""Return the doubly damped pair of DD: Powell's damping (2.1) on ``H``, then damping with the
    identity (2.2).

    .. math:: \tilde s = \text{powell}(H, s, y; \mu_1), \qquad
        \tilde y = \text{identity}(\tilde s, y; \mu_2)

    Args, raises: as :func:`powell_damp` and :func:`identity_damp`.

    Source: goldfarb2020kbfgs.
    """
    s_tilde = powell_damp(H, s, y, mu1=mu1)
    return Pair(s_tilde, identity_damp(s_tilde, y, mu2=mu2))


@checked
def dp_dlm_damp(
    H: Float[Array, "n n"] | InverseEstimate,
    s: Float[Array, " n"],
    y: Float[Array, " n"],
    *,
    mu1: float = 0.2,
    lam: float,
) -> Pair:
    r"""Return the damped pair of D_P D_LM: Powell's damping on ``H``, then Levenberg-Marquardt
    damping.

    .. math:: \tilde s = \text{powell}(H, s, y; \mu_1), \qquad \tilde y = y + \lambda \tilde s

    The bounds that the damped pair satisfies, (2.4), (2.5), (2.6), (2.7) and (2.8), are derived in
    the book.

    Args, raises: as :func:`powell_damp` and :func:`lm_damp`.

    Source: ren2021kfqn.
    """
    s_tilde = powell_damp(H, s, y, mu1=mu1)
    return Pair(s_tilde, lm_damp(s_tilde, y, lam=lam))


@checked
def h0_damp(
    s: Float[Array, " n"], y: Float[Array, " n"], *, gamma: float, mu1: float = 0.2, lam: float
) -> Pair:
    r"""Return the pair of D_P D_LM with Powell's damping taken against ``H_0 = gamma I`` (9.1).

    The bounds of the damped pair are then the same at every iteration, which the convergence
    theorem needs.

    Args:
        s: change of the iterate, (n,).
        y: change of the gradient, (n,), not zero.
        gamma: scale of ``H_0``, positive.
        mu1, lam: as :func:`dp_dlm_damp`.

    Raises:
        ValueError: ``gamma`` is not positive; ``mu1`` or ``lam`` as :func:`dp_dlm_damp`.
        LinAlgError: ``y`` is zero.

    Source: derived here, in the framework of wang2017sqn.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be positive, got {gamma}")
    return dp_dlm_damp(gamma * np.eye(s.size), s, y, mu1=mu1, lam=lam)
