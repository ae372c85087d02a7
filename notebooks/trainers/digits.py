"""The data and the network of the examples in this folder: scikit-learn's digits, offline."""

import torch
from torch import nn

from kfqn_ref.experiments.data import load_data


def batches(size: int = 128) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the mini-batches of one epoch, the images as vectors."""
    (x, target), _ = load_data("digits")
    pixels = torch.as_tensor(x, dtype=torch.float32).flatten(1)
    pairs = zip(pixels.split(size), torch.as_tensor(target).split(size), strict=True)
    return [pair for pair in pairs if len(pair[1]) == size]


def network() -> nn.Module:
    """Return a small network, the same every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
