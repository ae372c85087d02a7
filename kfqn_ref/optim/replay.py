"""The second pass: the same closure at the new weights, on the same random numbers, leaving no
trace.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Replay:
    """Remembers the random state at the first pass, and lets one run a pass again from it.

    The generators of the CPU and of the CUDA devices that hold the model are those that are
    remembered.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        devices = (
            {p.device for p in model.parameters() if p.is_cuda}
            if torch.cuda.is_available()
            else set()
        )
        self.random = torch.get_rng_state()
        self.cuda_random = {device: torch.cuda.get_rng_state(device) for device in devices}

    def rewind(self) -> None:
        """Put the random state back."""
        torch.set_rng_state(self.random)
        for device, state in self.cuda_random.items():
            torch.cuda.set_rng_state(state, device)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Run inside with the remembered random state and frozen weights; put buffers, gradients
        back after.

        Frozen weights cost no weight gradients; the pass begins to be differentiated at the first
        watched layer.
        """
        parameters = list(self.model.parameters())
        kept = [(p, p.requires_grad, p.grad) for p in parameters]
        buffers = _buffers(self.model)
        self.rewind()
        torch.clear_autocast_cache()  # it may hold casts of the old weights
        try:
            for p in parameters:
                p.requires_grad_(False)
                p.grad = None
            yield
        finally:
            for p, needs_grad, grad in kept:
                p.requires_grad_(needs_grad)
                p.grad = grad
            _put_back(buffers)


Kept = list[tuple[nn.Module, str, Tensor, Tensor]]


def _buffers(model: nn.Module) -> Kept:
    """Return every buffer with its owner, its name, and a copy."""
    return [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]


def _put_back(buffers: Kept) -> None:
    with torch.no_grad():
        for module, name, buffer, copy in buffers:
            buffer.copy_(copy)
            module._buffers[name] = buffer
