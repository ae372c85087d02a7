"""Layers, forward and backward side by side (book: a network as a chain of linear maps).

Every layer is a frozen value without weights. ``forward(blocks, x)`` returns the output and what
``backward`` needs; ``backward(blocks, cache, Dout)`` returns the gradient with respect to the input
and one
:class:`Record` per block. ``D…`` is the gradient of the *per-sample* loss: no 1/N anywhere.

A block is a weight matrix ``W`` (d_g, d_a) with the bias as its last column. A linear layer has one
block, a convolution one per group, an activation none. All code accepts complex input, so that a
complex step differentiates it to machine precision (book: the layer's Hessian block).
"""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np

from kfqn_ref._typing import Array
from kfqn_ref.patches import Size, append_one, col2im, im2col, output_size, pair_of

Blocks = tuple[Array, ...]


class Record(NamedTuple):
    """What one block saw in a forward-backward pass, samples × locations × features.

    Args:
        a_bar: inputs, (N, T, d_a), the bias entry 1 last.
        h: outputs ``W ā_t``, (N, T, d_g).
        Dh: gradient of the per-sample loss with respect to ``h``, (N, T, d_g).
    """

    a_bar: Array
    h: Array
    Dh: Array


class Layer(Protocol):
    """What every layer offers."""

    @property
    def block_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes (d_g, d_a) of the layer's blocks."""
        ...

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Return the output for the input ``x`` (N, …), and the cache for ``backward``."""
        ...

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Return the gradient with respect to the input, and the records of the blocks."""
        ...


def _bars(cols: Array, bias: bool) -> Array:
    return append_one(cols) if bias else cols


@dataclass(frozen=True)
class Linear:
    """``h = W ā`` on (N, d_in), or at every position of (N, positions, d_in).

    Raises:
        ValueError: a size is not positive, or the input does not have ``d_in`` features.
    """

    d_in: int
    d_out: int
    bias: bool = True

    def __post_init__(self) -> None:
        if min(self.d_in, self.d_out) < 1:
            raise ValueError(f"d_in and d_out must be positive, got {self.d_in}, {self.d_out}")

    @property
    def block_shapes(self) -> tuple[tuple[int, int], ...]:
        """One block (d_out, d_in + bias)."""
        return ((self.d_out, self.d_in + self.bias),)

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Map (N, d_in) to (N, d_out), or (N, positions, d_in) to (N, positions, d_out)."""
        if x.ndim not in (2, 3) or x.shape[-1] != self.d_in:
            raise ValueError(
                f"input must be (N, {self.d_in}) or (N, positions, {self.d_in}), got {x.shape}"
            )
        a_bar = _bars(self.to_locations(x), self.bias)
        h = a_bar @ blocks[0].T
        return h.reshape(*x.shape[:-1], self.d_out), (a_bar, h)

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Return ``Wᵀ Dh`` without its bias entry, and the record."""
        a_bar, h = cache
        Dh = self.to_locations(Dout)
        Dx = (Dh @ blocks[0])[..., : self.d_in]
        return Dx.reshape(*Dout.shape[:-1], self.d_in), (Record(a_bar, h, Dh),)

    def to_locations(self, out: Array) -> Array:
        """Return (N, …, d) as (N, T, d)."""
        return out.reshape(out.shape[0], -1, out.shape[-1])

    def from_locations(self, h: Array, out_shape: tuple[int, ...]) -> Array:
        """Undo :meth:`to_locations`."""
        return h.reshape(out_shape)


@dataclass(frozen=True)
class Conv2d:
    """A convolution with zero padding on (N, C_in, H, W); options as in torch, one int or (rows,
    columns).

    A grouped convolution is ``groups`` independent layers side by side, one block each.

    Raises:
        ValueError: sizes that are not positive, ``groups`` that does not divide the channels, or an
            input that does not have ``in_channels`` channels or is smaller than the kernel.
    """

    in_channels: int
    out_channels: int
    kernel_size: Size
    stride: Size = 1
    padding: Size = 0
    dilation: Size = 1
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        if min(self.in_channels, self.out_channels, self.groups) < 1:
            raise ValueError(f"channels and groups must be positive, got {self}")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(f"groups must divide the channels, got {self}")

    @property
    def block_shapes(self) -> tuple[tuple[int, int], ...]:
        """``groups`` blocks (C_out / groups, C_in / groups · kh · kw + bias)."""
        d_a = self.in_channels // self.groups * prod(pair_of(self.kernel_size)) + self.bias
        return ((self.out_channels // self.groups, d_a),) * self.groups

    @property
    def geometry(self) -> dict[str, Size]:
        """The keyword arguments of :func:`~kfqn_ref.patches.im2col`."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Map (N, C_in, H, W) to (N, C_out, H', W'): patches times ``Wᵀ``, group by group."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"input must be (N, {self.in_channels}, H, W), got {x.shape}")
        a_bars = [
            _bars(im2col(part, self.kernel_size, **self.geometry), self.bias)
            for part in np.split(x, self.groups, axis=1)
        ]
        hs = [a_bar @ W.T for a_bar, W in zip(a_bars, blocks, strict=True)]
        size = output_size(x.shape[2:], self.kernel_size, **self.geometry)
        out = self.from_locations(
            np.concatenate(hs, axis=2), (x.shape[0], self.out_channels, *size)
        )
        return out, (x.shape, a_bars, hs)

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Return the adjoint of the convolution applied to ``Dout``, and the records of the
        groups.
        """
        (N, C, H, W_), a_bars, hs = cache
        Dhs = np.split(self.to_locations(Dout), self.groups, axis=2)
        Dx = []
        for W, Dh in zip(blocks, Dhs, strict=True):
            cols = (Dh @ W)[..., : W.shape[1] - self.bias]
            Dx.append(col2im(cols, (N, C // self.groups, H, W_), self.kernel_size, **self.geometry))
        return np.concatenate(Dx, axis=1), tuple(map(Record, a_bars, hs, Dhs))

    def to_locations(self, out: Array) -> Array:
        """Return (N, C, H', W') as (N, T, C)."""
        return out.reshape(*out.shape[:2], -1).transpose(0, 2, 1)

    def from_locations(self, h: Array, out_shape: tuple[int, ...]) -> Array:
        """Undo :meth:`to_locations`."""
        return h.transpose(0, 2, 1).reshape(out_shape)


class WithoutBlocks:
    """What layers without weights have in common: no block."""

    @property
    def block_shapes(self) -> tuple[tuple[int, int], ...]:
        """No block."""
        return ()


@dataclass(frozen=True)
class ReLU(WithoutBlocks):
    """``max(x, 0)``, with derivative 0 at 0."""

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Keep positive entries."""
        mask = np.real(x) > 0
        return np.where(mask, x, 0), mask

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Pass the gradient where the input was positive."""
        return np.where(cache, Dout, 0), ()


@dataclass(frozen=True)
class Tanh(WithoutBlocks):
    """``tanh(x)``."""

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Apply tanh."""
        out = np.tanh(x)
        return out, out

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Multiply by ``1 − tanh²``."""
        return Dout * (1 - cache * cache), ()


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(−x))``, written with tanh so that no exponential overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


@dataclass(frozen=True)
class Sigmoid(WithoutBlocks):
    """``1 / (1 + exp(−x))``."""

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Apply the logistic function."""
        out = sigmoid(x)
        return out, out

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Multiply by ``σ (1 − σ)``."""
        return Dout * cache * (1 - cache), ()


@dataclass(frozen=True)
class Flatten(WithoutBlocks):
    """(N, …) to (N, features)."""

    def forward(self, blocks: Blocks, x: Array) -> tuple[Array, Any]:
        """Flatten all axes but the first."""
        return x.reshape(x.shape[0], -1), x.shape

    def backward(self, blocks: Blocks, cache: Any, Dout: Array) -> tuple[Array, tuple[Record, ...]]:
        """Restore the shape."""
        return Dout.reshape(cache), ()
