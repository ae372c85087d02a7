"""The inverse second moment of the inputs of hidden layers, as Newton-Muon needs it.

Dense and plain on purpose: it is the yardstick of the project's own input side, which keeps such an
inverse without inverting anything.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of the layers but the first and the last."""
    weights: list[Any] = [
        module.weight for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return weights[1:-1]


class InputFactors:
    """Keeps ``(A + λI)⁻¹`` of some layers, from the calls of every ``interval``-th step.

    Args:
        model: the model.   weights: those of linear layers and 2-D convolutions of one group.
        damping: λ over the mean eigenvalue of ``A``.   interval: steps from one to the next.
    """

    def __init__(
        self, model: nn.Module, weights: Sequence[nn.Parameter], damping: float, interval: int
    ) -> None:
        self.damping = damping
        self.interval = interval
        self.calls: dict[nn.Parameter, int] = {}
        self.inverses: dict[nn.Parameter, Tensor] = {}
        for module in model.modules():
            weight: Any = getattr(module, "weight", None)
            if any(weight is wanted for wanted in weights):
                module.register_forward_pre_hook(partial(self._called, weight))

    def inverse(self, weight: nn.Parameter) -> Tensor:
        """Return the inverse of a layer, ``(d_a, d_a)``."""
        return self.inverses[weight]

    def _called(self, weight: nn.Parameter, module: Any, args: tuple[Tensor, ...]) -> None:
        if not module.training:
            return
        count = self.calls.get(weight, 0)
        self.calls[weight] = count + 1
        if count % self.interval:
            return
        Z = input_rows(module, args[0].detach())
        A = Z.mT @ Z / len(Z)
        damped = A + self.damping * A.diagonal().mean() * torch.eye(len(A))
        self.inverses[weight] = torch.linalg.inv(damped)


def input_rows(module: Any, x: Tensor) -> Tensor:
    """Return the inputs of a layer as rows: of a convolution, its patches."""
    if isinstance(module, nn.Linear):
        return x.flatten(0, -2)
    geometry = {
        "dilation": module.dilation,
        "padding": module.padding,
        "stride": module.stride,
    }
    return F.unfold(x, module.kernel_size, **geometry).mT.flatten(0, 1)
