"""Small torch models, data and closures for the tests of the optimizer."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

Closure = Callable[[], Tensor]


def data(
    n: int = 16, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Images (n, 2, 6, 6) and five classes."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, 6, 6, generator=rng, dtype=dtype), torch.randint(
        0, 5, (n,), generator=rng
    )


def cnn(*, seed: int = 1, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two convolutions and a linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, dtype=dtype),
        nn.Tanh(),
        nn.Conv2d(4, 3, 3, stride=2, bias=False, dtype=dtype),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 5, dtype=dtype),
    )


def mlp(*, seed: int = 1, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two linear layers on flattened images."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(72, 6, dtype=dtype), nn.Tanh(), nn.Linear(6, 5, dtype=dtype)
    )


def model_for(preset: str, *, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A model that the preset takes."""
    return mlp(dtype=dtype) if preset.endswith("2020") else cnn(dtype=dtype)


def closure_of(model: nn.Module, x: Tensor, target: Tensor, *, reduction: str = "mean") -> Closure:
    """The usual closure on one mini-batch."""

    def closure() -> Tensor:
        model.zero_grad()
        loss = F.cross_entropy(model(x), target, reduction=reduction)
        loss.backward()
        return loss

    return closure


def run(opt: KFQN, model: nn.Module, steps: int, *, first: int = 0) -> None:
    """Do iterations on mini-batches that depend on their number only."""
    dtype = next(model.parameters()).dtype
    for k in range(first, first + steps):
        opt.step(closure_of(model, *data(seed=k, dtype=dtype)))


def weights(model: nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [p.detach().clone() for p in model.parameters()]


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    items = (
        state.values()
        if isinstance(state, dict)
        else state
        if isinstance(state, list | tuple)
        else ()
    )
    return [tensor for item in items for tensor in tensors(item)]


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Whether two lists of tensors are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def close(ours: list[Tensor], theirs: list[Tensor], rtol: float) -> bool:
    """Whether two lists of tensors are equal relative to the norm of each."""
    return all(
        float((a - b).norm()) <= rtol * float(b.norm()) for a, b in zip(ours, theirs, strict=True)
    )
