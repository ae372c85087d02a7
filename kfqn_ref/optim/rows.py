"""Which rows of a mini-batch count: those that the loss ignores (padding, masks) are left out.

A row is a pair of a sample and a location. Leaving a row out of ``A`` and of the means is the same
as not having it in the mini-batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from kfqn_ref.optim.layer import Layer


class Rows:
    """The rows that count in the calls that are being made.

    Attributes:
        keep: mask of the rows, or ``None`` where all count.
    """

    def __init__(self) -> None:
        self.keep: Tensor | None = None

    @contextmanager
    def only(self, weights: Tensor) -> Iterator[None]:
        """Let only rows of weight 1 count inside.

        Raises:
            TypeError: ``weights`` is not a tensor.
            ValueError: a weight is neither 0 nor 1.
        """
        if not isinstance(weights, Tensor):
            raise TypeError(f"row weights must be a tensor, got {type(weights).__name__}")
        keep = weights.detach() == 1
        if weights.dtype != torch.bool and not bool((keep | (weights.detach() == 0)).all()):
            raise ValueError(
                "row weights must be 0 or 1 (the rows that the loss ignores, and the others), got "
                "another number: weight the terms of the loss instead"
            )
        before = self.keep
        self.keep = keep
        try:
            yield
        finally:
            self.keep = before

    def of(self, layer: Layer, h: Tensor) -> Tensor | None:
        """Return the mask of the rows of one output, ``None`` where all count.

        Raises:
            ValueError: the mask fits neither the rows of the output nor its samples.
        """
        if self.keep is None:
            return None
        rows = layer.geometry.row_axes(h)
        axis = layer.geometry.sample_axis
        keep = self.keep.to(h.device)
        if keep.shape == rows:
            return keep
        if axis < len(rows) and keep.shape == rows[axis : axis + 1]:
            return keep.reshape(-1, *(1 for _ in rows[axis + 1 :])).expand(rows)
        raise ValueError(
            f"row weights must have the shape of the rows of every layer that is called, or of its "
            f"samples, but for {layer.name!r} these are {tuple(rows)} and "
            f"{tuple(rows[axis : axis + 1])}, got {tuple(keep.shape)}: call it outside of "
            f"row_weights, or with weights of its own"
        )


def counts(layer: Layer, h: Tensor, keep: Tensor | None) -> tuple[int, int]:
    """Return the number of samples and of rows of an output that count.

    A sample counts if one of its rows does. With a mask this reads the device.
    """
    if keep is None:
        N, T = layer.geometry.counts(h)
        return N, N * T
    axes = keep[:, None] if keep.ndim == 1 else keep
    by_sample = axes.movedim(layer.geometry.sample_axis, 0).flatten(1)
    T = layer.geometry.counts(h)[1] if keep.ndim == 1 else 1  # of a mask of whole samples
    samples, rows = torch.stack((by_sample.any(1).sum(), by_sample.sum())).tolist()
    return samples, rows * T
