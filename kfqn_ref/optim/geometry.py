"""What the method needs to know of a layer: its rows, and sums over samples and locations, by kind
of layer.

A layer is ``groups`` independent maps ``h_t = W ā_t`` side by side. Every vector is
``(groups, d)``. A product with the input factor stores no patches: it is a convolution with one
output channel a group, and its weight gradient; a CPU does the same by shifts.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST_CHANNELS = 4
"""On a CPU, groups with at least this many input channels use one matrix product."""

PATCH_FLOATS = 1 << 24
"""Patches are formed in slices of at most this many numbers."""

Slices = tuple[slice, ...]


class Geometry(Protocol):
    """The sums over samples and locations of one kind of layer."""

    groups: int
    d_a: int
    d_g: int
    bias: bool
    sample_axis: int

    def row_axes(self, h: Tensor) -> torch.Size:
        """Return the sizes of the axes of an output that a mask of its rows must have."""
        ...

    def as_weight(self, W: Tensor, shape: torch.Size) -> Tensor:
        """Return ``W`` without its bias column as a view with the shape of the weight."""
        ...

    def as_matrix(self, weight: Tensor) -> Tensor:
        """Return a weight as ``(groups, d_g, d_a)`` without the bias column."""
        ...

    def counts(self, h: Tensor) -> tuple[int, int]:
        """Return the number of samples ``N`` and of locations ``T`` of an output."""
        ...

    def output_sum(self, Dh: Tensor) -> Tensor:
        """Return the sum over samples and locations in wide arithmetic, ``(groups, d_g)``."""
        ...

    def batch_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the sum of the inputs of all samples, itself the input of one sample."""
        ...

    def input_sum(self, batch_sum: Tensor, rows: int) -> Tensor:
        """Return the sum of ``ā`` over ``rows`` pairs of a sample and a location,
        ``(groups, d_a)``.
        """
        ...

    def factor_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the sum of ``ā āᵀ`` over samples and locations, ``(groups, d_a, d_a)``."""
        ...

    def action(self, a: Tensor, v: Tensor) -> Tensor:
        """Return the sum of ``ā (āᵀ v)`` over samples and locations, ``(groups, d_a)``."""
        ...


def wide_sum(x: Tensor) -> Tensor:
    """Return the sum over the first axis in float64: ``y`` of (7.1) is a small difference of two
    sums.
    """
    return x.sum(0, dtype=wide(x))


def wide(x: Tensor) -> torch.dtype:
    """Return float64, or what there is instead."""
    return x.dtype if x.device.type == "mps" else torch.float64  # mps has none


def narrow(x: Tensor) -> torch.dtype:
    """Return the dtype of short sums: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


class RowGeometry:
    """What layers have in common whose weight has one row an output."""

    groups: int
    bias: bool
    d_a: int
    d_g: int
    sample_axis: int = 0

    def as_weight(self, W: Tensor, shape: torch.Size) -> Tensor:
        return W.reshape(shape)

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.reshape(self.groups, self.d_g, -1)


class LinearGeometry(RowGeometry):
    """A linear layer: the last axis holds the features, ``sample_axis`` the samples (the first one
    unless it is set), and the others are the locations.
    """

    def __init__(self, module: nn.Module) -> None:
        self.groups = 1
        self.bias = module.bias is not None
        weight: Any = module.weight
        self.d_g = int(weight.shape[0])
        self.d_a = int(weight.shape[1]) + self.bias

    def counts(self, h: Tensor) -> tuple[int, int]:
        if h.ndim == 1:
            return 1, 1
        if self.sample_axis > h.ndim - 2:
            raise ValueError(
                f"sample_axis={self.sample_axis} must be an axis of a linear layer's output before "
                f"the last one, got the shape {tuple(h.shape)}: name the layers on (T, N, d) alone"
            )
        rows = h.shape[:-1]
        locations = rows[: self.sample_axis] + rows[self.sample_axis + 1 :]
        return rows[self.sample_axis], prod(locations)

    def row_axes(self, h: Tensor) -> torch.Size:
        return h.shape[:-1]

    def output_sum(self, Dh: Tensor) -> Tensor:
        locations = tuple(range(1, Dh.ndim - 1))
        Dh = Dh.sum(locations, dtype=narrow(Dh)) if locations else Dh.reshape(-1, self.d_g)
        return wide_sum(Dh)[None]

    def batch_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        return a.reshape(-1, a.shape[-1]).sum(0, keepdim=True, dtype=dtype)

    def input_sum(self, batch_sum: Tensor, rows: int) -> Tensor:
        return F.pad(batch_sum, (0, 1), value=rows) if self.bias else batch_sum

    def factor_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        a_bar = a.reshape(1, -1, a.shape[-1]).to(dtype)
        a_bar = F.pad(a_bar, (0, 1), value=1.0) if self.bias else a_bar
        return a_bar.mT @ a_bar

    def action(self, a: Tensor, v: Tensor) -> Tensor:
        rows = a.reshape(-1, a.shape[-1]).to(v.dtype)
        if not self.bias:
            return (rows.mT @ (rows @ v[0]))[None]
        u = torch.addmv(v[0, -1], rows, v[0, :-1])
        return torch.cat((rows.mT @ u, u.sum()[None]))[None]


class EmbeddingGeometry(LinearGeometry):
    r"""An embedding as a linear layer without bias on one-hot rows; its weight is ``(d_a, d_g)``.

    The input of a token is the unit vector of its number, so that ``A`` is diagonal:

    .. math:: A = \tfrac1N \sum_{n, t} e_{n,t} e_{n,t}^\top
        = \tfrac1N \operatorname{diag}(\text{how often each token occurs})

    The damped inverse of ``A`` is then at hand, and no pair is needed to estimate it: ``H_a`` is
    the exact ``(A + λ_A I)⁻¹``, a vector, not a BFGS estimate. Give it to ``register_layer``.
    """

    def __init__(self, module: nn.Module) -> None:
        self.groups = 1
        self.bias = False
        weight: Any = module.weight
        self.d_a, self.d_g = weight.shape

    def as_weight(self, W: Tensor, shape: torch.Size) -> Tensor:
        return W[0].mT

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.mT[None]

    def batch_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.bincount(a.flatten(), minlength=self.d_a).to(dtype)[None]

    def factor_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.diag_embed(self.batch_sum(a, dtype))

    def action(self, a: Tensor, v: Tensor) -> Tensor:
        return self.batch_sum(a, v.dtype) * v


class ConvGeometry(RowGeometry):
    """A convolution over one, two or three axes."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    channels: int
    padding: tuple[int, ...]
    pad: tuple[int, ...]

    def __init__(self, module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        self.groups = module.groups
        self.bias = module.bias is not None
        self.kernel = module.kernel_size
        self.stride = module.stride
        self.dilation = module.dilation
        self.channels = module.in_channels // module.groups
        self.d_a = self.channels * prod(self.kernel) + self.bias
        self.d_g = module.out_channels // module.groups
        self._set_padding(module)

    def _set_padding(self, module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
        self.mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        both = (
            module._reversed_padding_repeated_twice
        )  # the sides of each axis, last axis first, as F.pad takes them
        symmetric = both[::2] == both[1::2]
        inside = self.mode == "constant" and symmetric
        self.padding = tuple(reversed(both[::2])) if inside else (0,) * len(self.kernel)
        self.pad = () if inside else tuple(both)

    def counts(self, h: Tensor) -> tuple[int, int]:
        axes = len(self.kernel)
        N = h.shape[0] if h.ndim > axes + 1 else 1
        return N, prod(h.shape[-axes:])

    def row_axes(self, h: Tensor) -> torch.Size:
        return h.shape[: h.ndim - len(self.kernel) - 1]

    def output_sum(self, Dh: Tensor) -> Tensor:
        Dh = self._batched(Dh).sum(tuple(range(2, len(self.kernel) + 2)), dtype=narrow(Dh))
        return wide_sum(Dh).reshape(self.groups, self.d_g)

    def batch_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        return self._batched(a).sum(0, keepdim=True, dtype=dtype)

    def input_sum(self, batch_sum: Tensor, rows: int) -> Tensor:
        windows = self._windows(
            self._padded(batch_sum)
        )  # the patches of a sum are the sum of the patches
        locations = range(3, 3 + len(self.kernel))
        columns = windows.sum((0, *locations)).reshape(self.groups, -1)
        return F.pad(columns, (0, 1), value=rows) if self.bias else columns

    def factor_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        factor = a.new_zeros(self.groups, self.d_a, self.d_a, dtype=dtype)
        for a_bar in self._slices(self._padded(a), dtype):
            factor.baddbmm_(a_bar, a_bar.mT)
        return factor

    def action(self, a: Tensor, v: Tensor) -> Tensor:
        a = self._padded(a).to(v.dtype)
        if a.device.type != "cpu":
            return self._action_by_convolutions(a, v)
        few = self.channels < FEWEST_CHANNELS
        return self._action_by_shifts(a, v) if few else self._action_by_offsets(a, v)

    def _action_by_convolutions(self, a: Tensor, v: Tensor) -> Tensor:
        """Return the sum of ``ā (āᵀ v)`` of a padded input: a one-channel convolution and its
        gradient.
        """
        weight, bias = self._as_kernel(v)
        zeros = (0,) * len(self.kernel)
        conv = (self.stride, self.padding, self.dilation, False, zeros, self.groups)
        return self._weight_gradient(a, torch.convolution(a, weight, bias, *conv))

    def _action_by_shifts(self, a: Tensor, v: Tensor) -> Tensor:
        """Return the sum of ``ā (āᵀ v)`` of a padded input: shifts of every channel, which are
        few.
        """
        kernel, bias = self._as_kernel(v)
        axes = (0, *range(2, 2 + len(self.kernel)))
        channels = a.unflatten(1, (self.groups, self.channels)).unbind(2)
        weights = kernel.flatten(2).unsqueeze(-1).unflatten(-1, (1,) * len(self.kernel)).unbind(1)
        u = a.new_zeros(len(a), self.groups, *self._locations(a.shape[2:]))
        shifts = self._shifts(a.shape[2:])
        for x, w in zip(channels, weights, strict=True):
            for k, (there, here) in enumerate(shifts):
                u[(..., *there)].addcmul_(x[(..., *here)], w[:, k])
        u = u if bias is None else u + bias.reshape(-1, *(1 for _ in self.kernel))
        columns = [
            (x[(..., *here)] * u[(..., *there)]).sum(axes)
            for x in channels
            for there, here in shifts
        ]
        if bias is not None:
            columns.append(u.sum(axes))
        return torch.stack(columns, 1)

    def _action_by_offsets(self, a: Tensor, v: Tensor) -> Tensor:
        """Return the sum of ``ā (āᵀ v)`` of a padded input: a matrix product for all offsets, and
        shifts.

        A CPU's convolution with one output channel computes sixteen.
        """
        kernel, bias = self._as_kernel(v)
        weight = kernel.flatten(2).mT  # (groups, offsets, channels)
        rows = a.flatten(2).unflatten(
            1, (self.groups, self.channels)
        )  # (N, groups, channels, places)
        z = (weight @ rows).unflatten(
            -1, a.shape[2:]
        )  # what each offset adds to u, at the place it reads
        u = z.new_zeros(len(a), self.groups, *self._locations(a.shape[2:]))
        U = torch.zeros_like(z)
        shifts = self._shifts(a.shape[2:])
        for k, (there, here) in enumerate(shifts):
            u[(..., *there)].add_(z[(slice(None), slice(None), k, *here)])
        u = u if bias is None else u + bias.reshape(-1, *(1 for _ in self.kernel))
        for k, (there, here) in enumerate(shifts):
            U[(slice(None), slice(None), k, *here)] = u[(..., *there)]
        columns = (U.flatten(3) @ rows.mT).sum(0).mT.reshape(self.groups, -1)
        return (
            columns
            if bias is None
            else torch.cat((columns, u.sum((0, *range(2, u.ndim)))[:, None]), 1)
        )

    def _as_kernel(self, v: Tensor) -> tuple[Tensor, Tensor | None]:
        weight, bias = (v[:, :-1], v[:, -1]) if self.bias else (v, None)
        return weight.reshape(self.groups, self.channels, *self.kernel), bias

    def _shifts(self, sizes: tuple[int, ...]) -> tuple[tuple[Slices, Slices], ...]:
        """Return, per offset of the kernel, the locations it serves and the places of the input it
        reads.
        """
        return _shifts(
            sizes, self._locations(sizes), self.kernel, self.stride, self.padding, self.dilation
        )

    def _batched(self, x: Tensor) -> Tensor:
        return x if x.ndim == len(self.kernel) + 2 else x[None]

    def _padded(self, a: Tensor) -> Tensor:
        a = self._batched(a)
        return F.pad(a, self.pad, mode=self.mode) if self.pad else a

    def _locations(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        axes = zip(sizes, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)

    def _weight_gradient(self, a: Tensor, u: Tensor) -> Tensor:
        """Return the sum of ``u ā``, ``(groups, d_a)``; ``u`` is ``(N, groups, *locations)``."""
        weight = a.new_empty(self.groups, self.channels, *self.kernel)  # only its shape is read
        geometry = (
            self.stride,
            self.padding,
            self.dilation,
            False,
            (0,) * len(self.kernel),
            self.groups,
        )
        sizes = [self.groups] if self.bias else None
        wanted = [False, True, self.bias]
        _, columns, ones = torch.ops.aten.convolution_backward(
            u, a, weight, sizes, *geometry, wanted
        )
        columns = columns.reshape(self.groups, -1)
        return torch.cat((columns, ones[:, None]), 1) if self.bias else columns

    def _slices(self, a: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield the patches of a padded input, in slices of at most ``PATCH_FLOATS`` numbers."""
        step = max(1, PATCH_FLOATS // (self.groups * self.d_a * prod(self._locations(a.shape[2:]))))
        for part in a.split(step):
            yield self._patches(part.to(dtype))

    def _patches(self, a: Tensor) -> Tensor:
        """Return every patch, ``(groups, d_a, N T)``, rows in the order of
        ``weight.reshape(C_out, -1)``.
        """
        axes = len(self.kernel)
        places = range(3, 3 + axes)
        kernel = range(3 + axes, 3 + 2 * axes)
        rows = self._windows(a).permute(1, 2, *kernel, 0, *places)
        patches = a.new_empty(self.groups, self.d_a, rows.shape[2 + axes :].numel())
        patches[:, : self.d_a - self.bias].view(rows.shape).copy_(rows)
        if self.bias:
            patches[:, -1] = 1.0
        return patches

    def _windows(self, a: Tensor) -> Tensor:
        """Return a view of every window of the input,
        ``(N, groups, channels, *locations, *kernel)``.
        """
        if any(self.padding):
            a = F.pad(a, [p for p in reversed(self.padding) for _ in range(2)])
        for i, (k, stride, dilation) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True)
        ):
            a = a.unfold(2 + i, dilation * (k - 1) + 1, stride)[..., ::dilation]
        return a.unflatten(1, (self.groups, self.channels))


@lru_cache
def _shifts(*geometry: tuple[int, ...]) -> tuple[tuple[Slices, Slices], ...]:
    axes = [
        [_served(n, T, s, d * i - p) for i in range(k)]
        for n, T, k, s, p, d in zip(*geometry, strict=True)
    ]
    served = (zip(*offset, strict=True) for offset in itertools.product(*axes))
    return tuple((there, here) for there, here in served)


def _served(n: int, T: int, stride: int, shift: int) -> tuple[slice, slice]:
    """Return the t in [0, T) with ``stride t + shift`` in [0, n), and those places."""
    first = max(0, -(shift // stride))
    last = max(first, min(T, (n - 1 - shift) // stride + 1))
    start = stride * first + shift
    return slice(first, last), slice(start, start + stride * (last - first), stride)


def total(terms: Sequence[Tensor]) -> Tensor:
    """Return the sum of the contributions of the micro-batches."""
    return terms[0] if len(terms) == 1 else torch.stack(list(terms)).sum(0)
