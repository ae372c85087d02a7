"""The closure that a step takes, made of a model, a loss function and one mini-batch."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def closure(
    model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: tuple[Any, Any]
) -> Callable[[], Tensor]:
    """Return the function that clears the gradients, runs the model on the mini-batch, calls
    ``backward`` and returns the loss; ``opt.step`` calls it once or twice.

    Args:
        model: the model, which is called with the inputs alone.
        loss_fn: takes the outputs and the targets, and returns their mean loss.
        batch: inputs and targets.

    Raises:
        TypeError: ``model`` or ``loss_fn`` cannot be called.
        ValueError: ``batch`` does not have two parts.
    """
    for name, given in (("model", model), ("loss_fn", loss_fn)):
        if not callable(given):
            raise TypeError(f"{name} must be callable, got {type(given).__name__}")
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(
            f"batch must be inputs and targets, (x, y), got {type(batch).__name__}: "
            f"write a closure of your own for another form"
        )
    inputs, targets = batch

    def run() -> Tensor:
        model.zero_grad()
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        return loss

    return run
