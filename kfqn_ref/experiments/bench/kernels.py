"""How many kernels a step launches on a GPU, counted where there is none."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kfqn_ref.optim import update
from kfqn_ref.optim.geometry import ConvGeometry

NO_KERNELS = {
    "_unsafe_view",
    "promote_types",
    "new_empty",
    "empty",
    "_record_function_enter_new",
    "_record_function_exit",
    "empty_like",
}
"""Operations that are no views by name, and launch nothing either."""


class Kernels(TorchDispatchMode):
    """Counts the operations dispatched inside; views launch nothing and are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count the operation, then run it."""
        self.count += not (func.is_view or func._opname in NO_KERNELS)
        return func(*args, **(kwargs or {}))


@contextmanager
def as_on_a_gpu(opt: torch.optim.Optimizer) -> Iterator[None]:
    """Let steps take the way of a GPU: convolutions in place of shifts, and torch's fused loops."""
    convolve = ConvGeometry._action_by_convolutions
    with ExitStack() as stack:
        for shifts in ("_action_by_shifts", "_action_by_offsets"):
            stack.enter_context(patch.object(ConvGeometry, shifts, convolve))
        for group in opt.param_groups:
            if "foreach" in group:
                stack.enter_context(patch.dict(group, foreach=True))
        yield


def kernels_a_step(
    opt: torch.optim.Optimizer, step: Callable[[], Any], steps: int = 10
) -> dict[str, float]:
    """Return the mean number of kernels that a step would launch on a GPU.

    Nothing for what is compiled, which runs uncompiled when counted.
    """
    if getattr(opt, "_update_", update.update_) is not update.update_:
        return {}
    with as_on_a_gpu(opt), Kernels() as kernels:
        for _ in range(steps):
            step()
    return {"kernels": kernels.count / steps}
