"""The step of ``kfqn_adam``: Adam in Nesterov's form on directions ``U = H_g (∇_W f + τ W) H_a``.

The estimates give the directions, the averaged squares their lengths. However wrong an estimate is,
no weight moves further in one step than ``α`` times :func:`box`: the step stays in a box.
"""

from dataclasses import replace

import numpy as np

from kfqn_ref._typing import Array, require
from kfqn_ref.method.state import BlockState

EPS = 1e-8
"""What is added to the root of the averaged squares. Source: kingma2015adam."""


def direction(
    block: BlockState, g: Array, t: int, *, beta: float, beta2: float
) -> tuple[Array, BlockState]:
    """Return the t-th direction of a block, and the block with its new moving averages M and V.

    ``U = H_g g H_a`` takes the gradient's place in Adam with Nesterov's momentum.

    Args:
        g: gradient with weight decay, (d_g, d_a).   t, beta, beta2: as :func:`scaled`.

    Source: derived here, with kingma2015adam and dozat2016nadam.
    """
    U = block.along(g)
    M = beta * block.M + (1 - beta) * U
    kept = 0.0 if block.V is None else beta2 * block.V
    V = (1 - beta2) * U**2 + kept
    return scaled(M, V, U, t, beta=beta, beta2=beta2), replace(block, M=M, V=V)


def scaled(M: Array, V: Array, U: Array, t: int, *, beta: float, beta2: float) -> Array:
    r"""Return the t-th step (12.2), all arrays being of one shape.

    .. math:: P = \hat M / (\sqrt{\hat V} + \epsilon), \qquad
        \hat M = \frac{\beta M}{1 - \beta^{t+1}} + \frac{(1 - \beta) U}{1 - \beta^t}, \qquad
        \hat V = \frac{V}{1 - \beta_2^t}

    Args:
        M, V: moving averages of U and of its squares, the newest U among them.   U: the newest.
        t: how many U there were, at least 1.   beta, beta2: decays of the averages, in [0, 1).

    Source: kingma2015adam, dozat2016nadam.
    """
    M_hat = beta * M / (1 - beta ** (t + 1)) + (1 - beta) * U / (1 - beta**t)
    return M_hat / (np.sqrt(V / (1 - beta2**t)) + EPS)


def weights(t: int, beta: float, beta2: float) -> tuple[Array, Array]:
    r"""Return the weights, (t,) each, oldest first, of ``U`` in ``M̂`` and of ``U²`` in ``V̂``.

    Source: derived here.
    """
    age = np.arange(t)[::-1]
    w = (1 - beta) * beta ** (age + 1) / (1 - beta ** (t + 1))
    w[-1] += (1 - beta) / (1 - beta**t)
    return w, (1 - beta2) * beta2**age / (1 - beta2**t)


def box(t: int, *, beta: float, beta2: float) -> float:
    r"""Return the largest entry that :func:`scaled` can have at its t-th step, whatever the U were.

    .. math:: |P_{ij}| \le \Big(\sum_j w_j^2 / c_j\Big)^{1/2}

    w and c are the weights in ``M̂`` and in ``V̂``; by Cauchy and Schwarz, attained (but for ε)
    where every ``U_j`` is a multiple of ``w_j / c_j``.

    Args:
        t: at least 1.   beta: in [0, 1).   beta2: in (0, 1).

    Raises:
        ValueError: a value is outside its range.

    Source: derived here.
    """
    require(
        (t >= 1, "t must be at least 1", t),
        (0 <= beta < 1, "beta must be in [0, 1)", beta),
        (0 < beta2 < 1, "beta2 must be in (0, 1)", beta2),
    )
    w, c = weights(t, beta, beta2)
    return float(np.sqrt(np.sum(w * (w / c))))
