"""``torch.optim.LBFGS``: its two loops and its memory, seen through one step from a prepared
state.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def _step(
    S: Tensor, Y: Tensor, gradient: Tensor, last: tuple[Tensor, Tensor], gamma: float, memory: int
) -> Any:
    """One iteration from given pairs; ``last`` is the (s, y) that the optimizer is about to see.

    Returns the step taken, −H q for q the gradient, and the optimizer's state.
    """
    x = torch.zeros_like(gradient, requires_grad=True)
    options = {
        "lr": 1.0,
        "max_iter": 1,
        "tolerance_grad": -1.0,
        "tolerance_change": 0.0,
        "history_size": memory,
    }
    optimizer = torch.optim.LBFGS([x], **options)
    s, y = last
    ro = [1 / (a @ b) for a, b in zip(S, Y, strict=True)]
    pairs = {
        "old_dirs": list(Y),
        "old_stps": list(S),
        "ro": ro,
        "H_diag": gamma,
    }  # torch's own names
    last_step = {"d": s, "t": 1.0, "prev_flat_grad": gradient - y, "prev_loss": 0.0}
    optimizer.state[x].update(pairs | last_step | {"n_iter": 1, "func_evals": 1})

    def closure() -> Tensor:
        x.grad = gradient.clone()
        return torch.zeros((), dtype=gradient.dtype)

    optimizer.step(closure)
    return x.detach(), optimizer.state[x]


class TorchLBFGS:
    """The two-loop recursion and the memory. A pair with y = 0 is not stored and leaves gamma as it
    is.
    """

    precision = "float64"

    def to_native(self, X: np.ndarray) -> Tensor:
        """A tensor that shares nothing with the array."""
        return torch.tensor(X)

    def lbfgs_two_loop(self, S: Tensor, Y: Tensor, q: Tensor, *, gamma: float = 1.0) -> Tensor:
        """H q, as the step not taken."""
        nothing = torch.zeros_like(q)
        return -_step(S, Y, q, (nothing, nothing), gamma, max(1, len(S)))[0]

    def lbfgs_push(
        self, S: Tensor, Y: Tensor, s: Tensor, y: Tensor, *, memory: int
    ) -> tuple[Tensor, Tensor]:
        """The pairs that the optimizer holds after it has seen (s, y)."""
        state = _step(S, Y, torch.ones_like(s), (s, y), 1.0, memory)[1]
        return torch.stack(state["old_stps"]), torch.stack(state["old_dirs"])
