"""KFQN with Accelerate: ``accelerator.backward`` inside the closure, or no closure at all.

Accelerate returns nothing from ``step``, so the closure notes the loss itself. With accumulation it
would call the last closure only: accumulate inside the closure, as ``train`` does. The preset
``kfqn_input`` needs no closure, and takes Accelerate's own accumulation: ``train_without_closure``.
Run it: python notebooks/trainers/accelerate_loop.py
"""

import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from kfqn_ref.optim import KFQN


def train(
    net: nn.Module, batches: list, lr: float = 0.1, clip: float = 0.0, parts: int = 1, **options
) -> list[float]:
    """Train one epoch on the mini-batches (x, target); return the loss of every step.

    clip: largest norm of the gradient, 0 for none.   parts: micro-batches of a step.
    """
    accelerator = Accelerator(cpu=True, **options)
    model, optimizer = accelerator.prepare(net, KFQN(net, lr=lr))
    losses = []
    for x, target in batches:

        def closure(x=x, target=target):
            optimizer.zero_grad()
            total = 0.0
            for x_part, target_part in zip(x.chunk(parts), target.chunk(parts), strict=True):
                loss = F.cross_entropy(model(x_part), target_part) / parts
                accelerator.backward(loss)
                total += loss.detach()
            if clip:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            if not optimizer.optimizer.in_second_pass:
                losses.append(float(total))
            return total

        optimizer.step(closure)
    return losses


def train_without_closure(
    net: nn.Module, batches: list, lr: float = 0.1, clip: float = 0.0, **options
) -> list[float]:
    """Train one epoch on the micro-batches (x, target); return the loss of every one.

    clip: largest norm of the gradient, 0 for none.
    """
    accelerator = Accelerator(cpu=True, **options)
    model, optimizer = accelerator.prepare(net, KFQN(net, "kfqn_input", lr=lr))
    losses = []
    for x, target in batches:
        with accelerator.accumulate(model):
            loss = F.cross_entropy(model(x), target)
            accelerator.backward(loss)
            if clip and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


if __name__ == "__main__":
    from digits import batches, network

    found = train(network(), batches())
    print(f"loss {found[0]:.3f} -> {found[-1]:.3f}")
