"""Pooling layers: the largest or the mean entry of each window (book: convolutions)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kfqn_ref._typing import Array
from kfqn_ref.layers import Blocks, Record, WithoutBlocks
from kfqn_ref.patches import Size, col2im, im2col, output_size


def _windows(
    x: Array, kernel_size: Size, stride: Size | None
) -> tuple[Array, dict[str, Any], tuple]:
    """Return the pooling windows of ``x`` as (N·C, T, K), their geometry and the output shape."""
    if stride is None:  # windows side by side
        stride = kernel_size
    step = {"stride": stride}
    size = output_size(x.shape[2:], kernel_size, **step)
    cols = im2col(x.reshape(-1, 1, *x.shape[2:]), kernel_size, **step)
    return cols, step, (*x.shape[:2], *size)


@dataclass(frozen=True)
class MaxPool2d(WithoutBlocks):
    """The largest entry of each window; ``stride`` is the window unless given. Ties go to the first
    entry.
    """

    kernel_size: Size
    stride: Size | None = None

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Map (N, C, H, W) to (N, C, H', W')."""
        cols, step, out_shape = _windows(x, self.kernel_size, self.stride)
        best = np.real(cols).argmax(axis=2)[..., None]  # (N·C, T, 1)
        return np.take_along_axis(cols, best, axis=2).reshape(out_shape), (
            x.shape,
            cols.shape,
            best,
            step,
        )

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Send each gradient to the entry that was the largest."""
        x_shape, cols_shape, best, step = cache
        cols = np.zeros(cols_shape, Dout.dtype)
        np.put_along_axis(cols, best, Dout.reshape(best.shape), axis=2)
        return _unwindow(cols, x_shape, self.kernel_size, step), ()


@dataclass(frozen=True)
class AvgPool2d(WithoutBlocks):
    """The mean of each window; ``stride`` is the window unless given."""

    kernel_size: Size
    stride: Size | None = None

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Map (N, C, H, W) to (N, C, H', W')."""
        cols, step, out_shape = _windows(x, self.kernel_size, self.stride)
        return cols.mean(axis=2).reshape(out_shape), (x.shape, cols.shape, step)

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Spread each gradient evenly over its window."""
        x_shape, cols_shape, step = cache
        cols = np.broadcast_to(Dout.reshape(*cols_shape[:2], 1) / cols_shape[2], cols_shape)
        return _unwindow(cols, x_shape, self.kernel_size, step), ()


def _unwindow(
    cols: Array, x_shape: tuple[int, ...], kernel_size: Size, step: dict[str, Any]
) -> Array:
    """Return the adjoint of :func:`_windows`: (N·C, T, K) to (N, C, H, W)."""
    N, C, H, W = x_shape
    return col2im(cols, (N * C, 1, H, W), kernel_size, **step).reshape(x_shape)
