"""A transposed convolution as a layer with patches (book: convolutions)."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from kfqn_ref._typing import Array
from kfqn_ref.layers import Blocks, Record
from kfqn_ref.patches import Size, append_one, col2im, im2col, output_size, pair_of


@dataclass(frozen=True)
class ConvTranspose2d:
    r"""A transposed convolution on (N, C_in, H, W); options as in torch, one int or a pair.

    .. math:: h_{t'} = \sum_k W_k\, \tilde a_{t' + p - k d}

    where :math:`\tilde a` is the input with ``stride - 1`` zeros between neighbours. Location by
    location this is ``h = W ā_t'`` with the entries of :math:`\tilde a` that the kernel reads as
    patch: a convolution of stride 1 on :math:`\tilde a`, whose kernel stands in reverse order.
    So the layer's Hessian block has the form (4.4), and the Kronecker factor is (4.5).

    The block is (C_out, C_in · kh · kw + bias), columns in the order (channel, row, column) of the
    weight.

    Raises:
        ValueError: a size is not positive, ``output_padding`` is as large as both stride and
            dilation, or the input does not have ``in_channels`` channels.

    Source: derived here.
    """

    in_channels: int
    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size = 0
    output_padding: Size = 0
    dilation: Size = 1
    bias: bool = True

    def __post_init__(self) -> None:
        if min(self.in_channels, self.out_channels) < 1:
            raise ValueError(f"channels must be positive, got {self}")
        options = map(pair_of, (self.output_padding, self.stride, self.dilation))
        if any(extra >= max(step, dil) for extra, step, dil in zip(*options, strict=True)):
            raise ValueError(f"output_padding must be below stride or dilation, got {self}")

    @property
    def block_shapes(self) -> tuple[tuple[int, int], ...]:
        """One block (C_out, C_in · kh · kw + bias)."""
        d_a = self.in_channels * prod(pair_of(self.kernel_size)) + self.bias
        return ((self.out_channels, d_a),)

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"input must be (N, {self.in_channels}, H, W), got {x.shape}")
        spread = self._spread(x)
        cols = im2col(spread, self.kernel_size, dilation=self.dilation)
        cols = self._reversed(cols)
        a_bar = append_one(cols) if self.bias else cols
        h = a_bar @ blocks[0].T
        size = output_size(spread.shape[2:], self.kernel_size, dilation=self.dilation)
        out = self.from_locations(h, (x.shape[0], self.out_channels, *size))
        return out, (x.shape, spread.shape, a_bar, h)

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Return the adjoint of :meth:`forward` applied to ``Dout``, and the record."""
        x_shape, spread_shape, a_bar, h = cache
        Dh = self.to_locations(Dout)
        cols = self._reversed((Dh @ blocks[0])[..., : a_bar.shape[2] - self.bias])
        Dspread = col2im(cols, spread_shape, self.kernel_size, dilation=self.dilation)
        return self._gathered(Dspread, x_shape), (Record(a_bar, h, Dh),)

    def to_locations(self, out: Array) -> Array:
        """Return (N, C, H', W') as (N, T, C)."""
        return out.reshape(*out.shape[:2], -1).transpose(0, 2, 1)

    def from_locations(self, h: Array, out_shape: tuple[int, ...]) -> Array:
        """Undo :meth:`to_locations`."""
        return h.transpose(0, 2, 1).reshape(out_shape)

    def _reversed(self, cols: Array) -> Array:
        """Return patches with the entries of every channel in reverse order."""
        N, T, size = cols.shape
        return cols.reshape(N, T, self.in_channels, -1)[..., ::-1].reshape(N, T, size)

    def _margins(self) -> list[tuple[int, int]]:
        """Return, per axis, how many zeros stand before and after the spread input."""
        options = (self.kernel_size, self.dilation, self.padding, self.output_padding)
        return [
            (dil * (k - 1) - pad, dil * (k - 1) - pad + extra)
            for k, dil, pad, extra in zip(*map(pair_of, options), strict=True)
        ]

    def _places(self, sizes: tuple[int, ...]) -> tuple[list[int], tuple[Array, ...]]:
        """Return the size of the spread input, and where each row and column of the input goes."""
        spread = []
        places = []
        for n, step, (before, after) in zip(
            sizes, pair_of(self.stride), self._margins(), strict=True
        ):
            spread.append(step * (n - 1) + 1 + before + after)
            places.append(step * np.arange(n) + before)
        return spread, tuple(places)

    def _spread(self, x: Array) -> Array:
        """Return the input with zeros between neighbours and around; negative margins cut it."""
        (H, W), (rows, columns) = self._places(x.shape[2:])
        spread = np.zeros((*x.shape[:2], H, W), x.dtype)
        rows_in = (rows >= 0) & (rows < H)
        columns_in = (columns >= 0) & (columns < W)
        there = np.ix_(rows[rows_in], columns[columns_in])
        spread[(..., *there)] = x[(..., *np.ix_(rows_in, columns_in))]
        return spread

    def _gathered(self, Dspread: Array, x_shape: tuple[int, ...]) -> Array:
        """Return the adjoint of :meth:`_spread`."""
        (H, W), (rows, columns) = self._places(x_shape[2:])
        Dx = np.zeros(x_shape, Dspread.dtype)
        rows_in = (rows >= 0) & (rows < H)
        columns_in = (columns >= 0) & (columns < W)
        there = np.ix_(rows[rows_in], columns[columns_in])
        Dx[(..., *np.ix_(rows_in, columns_in))] = Dspread[(..., *there)]
        return Dx
