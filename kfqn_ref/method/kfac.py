"""KFAC and KFC: the Kronecker-factored Fisher matrix, the neighbour to compare with (book: the
neighbours).

Same structure ``A ⊗ G`` and the same direction ``G⁻¹ M A⁻¹``; but G is the second moment of ``Dh``
on targets drawn from the model, and both factors are formed and inverted.
"""

from dataclasses import dataclass, replace

import numpy as np

from kfqn_ref._typing import Array, Float, checked, require
from kfqn_ref.factors import input_factor
from kfqn_ref.layers import Blocks, Record
from kfqn_ref.method.state import Step
from kfqn_ref.network import Network, backward, forward, gradient


@dataclass(frozen=True)
class KFACBlock:
    """Of one block: averaged gradient M (d_g, d_a), averaged factors A (d_a, d_a), G (d_g, d_g),
    inverses.
    """

    M: Array
    A: Array
    G: Array
    H_a: Array
    H_g: Array


@dataclass(frozen=True)
class KFACState:
    """Iteration number and the blocks' states."""

    k: int
    blocks: tuple[KFACBlock, ...]


@checked
def fisher_output_factor(Dh: Float[Array, "N T d_g"]) -> Float[Array, "d_g d_g"]:
    r"""Return KFC's output factor
    :math:`\tfrac1N \sum_n \tfrac1{|T|} \sum_t Dh_{n,t} Dh_{n,t}^\top`.

    Args:
        Dh: per-sample gradients on targets drawn from the model.

    Source: grosse2016kfc; for ``|T|`` = 1 martens2015kfac.
    """
    return np.tensordot(Dh, Dh, axes=([0, 1], [0, 1])) / (Dh.shape[0] * Dh.shape[1])


@checked
def factored_damping(
    A: Float[Array, "a a"], G: Float[Array, "g g"], *, lam: float
) -> tuple[Float[Array, "a a"], Float[Array, "g g"]]:
    r"""Return ``A + π√λ I`` and ``G + (√λ/π) I``; where a trace is zero, π is 1.

    .. math:: \pi^2 = (\operatorname{tr} A / d_a) / (\operatorname{tr} G / d_g)

    Source: martens2015kfac.
    """
    mean_a = np.trace(A) / len(A)
    mean_g = np.trace(G) / len(G)
    pi = np.sqrt(mean_a / mean_g) if mean_a > 0 and mean_g > 0 else 1.0
    root = np.sqrt(lam)
    return A + pi * root * np.eye(len(A)), G + root / pi * np.eye(len(G))


@dataclass(frozen=True)
class KFAC:
    """KFAC for linear layers and KFC for convolutions, with targets drawn from the model.

    Args:
        lr: step size, not negative.   damping: λ, positive.
        momentum: decay of the gradient's moving average, in [0, 1).
        weight_decay: L2 term, not negative.
        factor_decay: decay of the factors' moving average, in [0, 1); it starts from the first
            mini-batch's.
        curvature_interval: iterations from one inversion to the next.   seed: of the drawn targets.

    Raises:
        ValueError: a value is outside its range.

    Source: martens2015kfac, grosse2016kfc.
    """

    lr: float = 0.03
    damping: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    factor_decay: float = 0.95
    curvature_interval: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            (self.lr >= 0, "lr must not be negative", self.lr),
            (self.damping > 0, "damping must be positive", self.damping),
            (0 <= self.momentum < 1, "momentum must be in [0, 1)", self.momentum),
            (self.weight_decay >= 0, "weight_decay must not be negative", self.weight_decay),
            (0 <= self.factor_decay < 1, "factor_decay must be in [0, 1)", self.factor_decay),
            (
                self.curvature_interval >= 1,
                "curvature_interval must be at least 1",
                self.curvature_interval,
            ),
        )

    def init(self, params: Blocks) -> KFACState:
        """Return the state with everything zero; the first step sets the factors."""
        blocks = []
        for d_g, d_a in (W.shape for W in params):
            A = np.zeros((d_a, d_a))
            G = np.zeros((d_g, d_g))
            blocks.append(KFACBlock(np.zeros((d_g, d_a)), A, G, A, G))
        return KFACState(0, tuple(blocks))

    def update(self, state: KFACState, records: tuple[Record, ...]) -> KFACState:
        """Return the state with factors and inverses updated from records on the model's own
        targets.
        """
        keep = self.factor_decay if state.k else 0.0
        blocks = []
        for block, record in zip(state.blocks, records, strict=True):
            A = keep * block.A + (1 - keep) * input_factor(record.a_bar)
            G = keep * block.G + (1 - keep) * fisher_output_factor(record.Dh)
            H_a, H_g = map(np.linalg.inv, factored_damping(A, G, lam=self.damping))
            blocks.append(replace(block, A=A, G=G, H_a=H_a, H_g=H_g))
        return replace(state, blocks=tuple(blocks))

    def direction(
        self, params: Blocks, state: KFACState, grads: Blocks
    ) -> tuple[Blocks, KFACState]:
        """Return the directions ``H_g M H_a`` and the state with the new M."""
        P = []
        blocks = []
        for W, g, block in zip(params, grads, state.blocks, strict=True):
            M = self.momentum * block.M + (1 - self.momentum) * (g + self.weight_decay * W)
            P.append(block.H_g @ M @ block.H_a)
            blocks.append(replace(block, M=M))
        return tuple(P), replace(state, blocks=tuple(blocks))

    def step(
        self, network: Network, params: Blocks, state: KFACState, x: Array, target: Array
    ) -> Step:
        """Return parameters, state and loss after one iteration on the mini-batch (x, target)."""
        outputs, caches = forward(network.layers, params, x)
        loss = float(network.loss.value(outputs, target).mean())
        if state.k % self.curvature_interval == 0:
            drawn = network.loss.sample(outputs, np.random.default_rng((self.seed, state.k)))
            Dout = network.loss.gradient(outputs, drawn)
            state = self.update(state, backward(network.layers, params, caches, Dout)[1])
        Dout = network.loss.gradient(outputs, target)
        records = backward(network.layers, params, caches, Dout)[1]
        P, state = self.direction(params, state, tuple(map(gradient, records)))
        new = tuple(W - self.lr * p for W, p in zip(params, P, strict=True))
        return Step(new, replace(state, k=state.k + 1), loss)
