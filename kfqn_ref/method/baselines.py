"""The first-order methods a reader compares with: SGD with momentum and Adam.

Same interface as :class:`~kfqn_ref.method.step.KFQN`: ``init``, ``direction``, ``step`` on a frozen
state.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kfqn_ref._typing import Array, require
from kfqn_ref.layers import Blocks
from kfqn_ref.method.state import Step
from kfqn_ref.network import Network, forward_backward


@dataclass(frozen=True)
class MomentState:
    """Iteration number and the moments of the gradient, one array per block."""

    k: int
    M: Blocks
    V: Blocks = ()


def _first_order_step(
    optimizer: Any, network: Network, params: Blocks, state: Any, x: Array, target: Array
) -> Step:
    """Return the step ``W − lr P`` along the optimizer's direction, which the gradient alone
    decides.
    """
    first = forward_backward(network, params, x, target)
    P, state = optimizer.direction(params, state, first.grads)
    return Step(
        tuple(W - optimizer.lr * p for W, p in zip(params, P, strict=True)), state, first.loss
    )


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with heavy-ball momentum, ``M ← momentum M + g``, as
    ``torch.optim.SGD``.

    Args:
        lr: step size, not negative.   momentum: in [0, 1).   weight_decay: L2 term, not negative.

    Raises:
        ValueError: a value is outside its range.
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(
            (self.lr >= 0, "lr must not be negative", self.lr),
            (0 <= self.momentum < 1, "momentum must be in [0, 1)", self.momentum),
            (self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay),
        )

    def init(self, params: Blocks) -> MomentState:
        """Return the state with M = 0."""
        return MomentState(0, tuple(map(np.zeros_like, params)))

    def direction(
        self, params: Blocks, state: MomentState, grads: Blocks
    ) -> tuple[Blocks, MomentState]:
        """Return M and the state that holds it."""
        M = tuple(
            self.momentum * m + g + self.weight_decay * W
            for m, g, W in zip(state.M, grads, params, strict=True)
        )
        return M, replace(state, k=state.k + 1, M=M)

    def step(
        self, network: Network, params: Blocks, state: MomentState, x: Array, target: Array
    ) -> Step:
        """Return parameters, state and loss after one iteration on the mini-batch (x, target)."""
        return _first_order_step(self, network, params, state, x, target)


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction and L2 weight decay, as ``torch.optim.Adam``.

    Args:
        lr: step size, not negative.   betas: decays of the two moments, in [0, 1).
        eps: added to the root of the second moment, positive.
        weight_decay: L2 term, not negative.

    Raises:
        ValueError: a value is outside its range.

    Source: kingma2015adam.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require(
            (self.lr >= 0, "lr must not be negative", self.lr),
            (all(0 <= beta < 1 for beta in self.betas), "betas must be in [0, 1)", self.betas),
            (self.eps > 0, "eps must be positive", self.eps),
            (self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay),
        )

    def init(self, params: Blocks) -> MomentState:
        """Return the state with both moments zero."""
        zeros = tuple(map(np.zeros_like, params))
        return MomentState(0, zeros, zeros)

    def direction(
        self, params: Blocks, state: MomentState, grads: Blocks
    ) -> tuple[Blocks, MomentState]:
        """Return ``m̂ / (√v̂ + eps)`` and the state with the new moments."""
        k = state.k + 1
        beta1, beta2 = self.betas
        grads = tuple(g + self.weight_decay * W for g, W in zip(grads, params, strict=True))
        M = tuple(beta1 * m + (1 - beta1) * g for m, g in zip(state.M, grads, strict=True))
        V = tuple(beta2 * v + (1 - beta2) * g * g for v, g in zip(state.V, grads, strict=True))
        P = tuple(
            m / (1 - beta1**k) / (np.sqrt(v / (1 - beta2**k)) + self.eps)
            for m, v in zip(M, V, strict=True)
        )
        return P, MomentState(k, M, V)

    def step(
        self, network: Network, params: Blocks, state: MomentState, x: Array, target: Array
    ) -> Step:
        """Return parameters, state and loss after one iteration on the mini-batch (x, target)."""
        return _first_order_step(self, network, params, state, x, target)
