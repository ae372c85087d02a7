"""The step itself: gradients into their moving averages, parameters along their directions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.kernels import descend_, momentum_
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.update import Pairs, direction


class Move:
    """One step of all parameters of one group.

    Args:
        group: the parameter group's options.   alpha: step size, before the mask.
        scale: factor that makes gradients those of a mean loss.   ok: mask of a sound iteration.
    """

    def __init__(self, group: dict[str, Any], alpha: float, scale: float, ok: Tensor) -> None:
        self.beta, self.alpha, self.scale, self.ok = group["momentum"], alpha, scale, ok
        decay = group["weight_decay"]
        self.tau, self.shrink = (0.0, decay) if group["decoupled"] else (decay, 0.0)

    def plain_(self, p: nn.Parameter, state: dict[str, Any]) -> None:
        """Move a parameter that no layer covers by the momentum step."""
        M = state.setdefault("M", torch.zeros_like(p))
        self._average_([p], [M])
        self._descend_([p], [M])

    def layer_(self, layer: Layer, state: dict[str, Any], pairs: Pairs | None) -> None:
        """Move the weights of a covered layer along ``H_g M H_a``."""
        self.along_(layer, self.direction_(layer, state, pairs))

    def direction_(self, layer: Layer, state: dict[str, Any], pairs: Pairs | None) -> Tensor:
        """Average the gradient of a covered layer, and return its ``P = H_g M H_a``."""
        M = state.setdefault("M", layer.weight.new_zeros(layer.shape, dtype=layer.dtype))
        self._average_(layer.parameters, layer.split(M))
        return direction(state, pairs)

    def along_(self, layer: Layer, P: Tensor) -> None:
        """Move the weights of a covered layer along ``P``."""
        self._descend_(layer.parameters, layer.split(P))

    def _average_(self, parameters: Sequence[nn.Parameter], Ms: Sequence[Tensor]) -> None:
        for p, M in zip(parameters, Ms, strict=True):
            if p.grad is not None:
                g = p.grad if self.scale == 1 else p.grad * self.scale
                momentum_(M, g, p, beta=self.beta, tau=self.tau, ok=self.ok)

    def _descend_(self, parameters: Sequence[nn.Parameter], Ps: Sequence[Tensor]) -> None:
        alpha = self.ok.to(Ps[0].dtype) * self.alpha
        for p, P in zip(parameters, Ps, strict=True):
            if p.grad is not None:
                if self.shrink:
                    p.mul_(1 - alpha * self.shrink)
                descend_(p, P, alpha)
