"""The kinds of modules that are covered as layers, and how another kind is added.

A module is covered if its forward pass is that of a kind listed here: the kind itself, or a
subclass that inherits ``forward`` unchanged. A subclass with a forward pass of its own (a
standardised convolution, a quantised layer) computes something else, and is not covered.
"""

from collections.abc import Callable
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim.geometry import ConvGeometry, Geometry, LinearGeometry

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ColumnLinearGeometry(LinearGeometry):
    """A linear layer whose weight has one column an output, ``(d_in, d_out)``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.d_a, self.d_g = self.d_g + self.bias, self.d_a - self.bias

    def as_weight(self, W: Tensor, shape: torch.Size) -> Tensor:
        return W[0].mT

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.mT[None]


class SameGeometry(ConvGeometry):
    """A convolution that pads its input so that ``ceil(n / stride)`` locations come out."""

    def _padded(self, a: Tensor) -> Tensor:
        a = self._batched(a)
        pad: list[int] = []
        axes = zip(a.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        for n, k, stride, dilation in reversed([*axes]):  # F.pad begins with the last axis
            missing = (ceil(n / stride) - 1) * stride + dilation * (k - 1) + 1 - n
            before = max(missing, 0) // 2
            pad += [before, max(missing, 0) - before]
        return F.pad(a, pad)


class TransposedGeometry(ConvGeometry):
    r"""A transposed convolution without groups.

    Its output is a convolution of stride 1 of the input with ``stride − 1`` zeros between
    neighbours, padded by ``dilation · (kernel − 1) − padding``, with the kernel flipped:

    .. math:: h_{t'} = \sum_k W_k\, \tilde a_{t' + p - k d}
              = \sum_{k'} W_{K - 1 - k'}\, \tilde a_{t' - ((K - 1) d - p) + k' d}

    So its Hessian block has the form (4.4) with those patches as ``ā_t``, and everything that holds
    for a convolution holds here. Columns stand in the order of the weight, not of the flipped
    kernel. Source: derived here.
    """

    def __init__(self, module: Any) -> None:
        self.groups = 1
        self.bias = module.bias is not None
        self.kernel = module.kernel_size
        self.dilation = module.dilation
        self.between = module.stride
        self.stride = (1,) * len(self.kernel)
        self.channels = module.in_channels
        self.d_g = module.out_channels
        self.d_a = self.channels * torch.Size(self.kernel).numel() + self.bias
        self.padding = (0,) * len(self.kernel)
        self.pad = ()
        self.mode = "constant"
        axes = zip(self.kernel, self.dilation, module.padding, module.output_padding, strict=True)
        for k, d, p, more in reversed([*axes]):  # F.pad begins with the last axis
            self.pad += (d * (k - 1) - p, d * (k - 1) - p + more)

    def as_weight(self, W: Tensor, shape: torch.Size) -> Tensor:
        return W[0].unflatten(-1, (self.channels, *self.kernel)).transpose(0, 1)

    def as_matrix(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, 1).flatten(1)[None]

    def input_sum(self, batch_sum: Tensor, rows: int) -> Tensor:
        return self._flipped(super().input_sum(batch_sum, rows))

    def factor_sum(self, a: Tensor, dtype: torch.dtype) -> Tensor:
        A = super().factor_sum(a, dtype)
        return self._flipped(self._flipped(A).mT).mT

    def action(self, a: Tensor, v: Tensor) -> Tensor:
        return self._flipped(super().action(a, self._flipped(v)))

    def _flipped(self, v: Tensor) -> Tensor:
        """Return ``v`` with the columns of every channel in reverse order, bias column last."""
        size = self.d_a - self.bias
        columns = v[..., :size].unflatten(-1, (self.channels, -1)).flip(-1).flatten(-2)
        return torch.cat((columns, v[..., size:]), -1)

    def _padded(self, a: Tensor) -> Tensor:
        a = self._batched(a)
        sizes = [s * (n - 1) + 1 for n, s in zip(a.shape[2:], self.between, strict=True)]
        spread = a.new_zeros(*a.shape[:2], *sizes)
        spread[(..., *(slice(None, None, s) for s in self.between))] = a
        return F.pad(spread, self.pad)


GeometryOf = Callable[[Any], Geometry]

KINDS: dict[type[nn.Module] | str, GeometryOf] = {
    nn.Linear: LinearGeometry,
    nn.Conv1d: ConvGeometry,
    nn.Conv2d: ConvGeometry,
    nn.Conv3d: ConvGeometry,
    nn.ConvTranspose1d: TransposedGeometry,
    nn.ConvTranspose2d: TransposedGeometry,
    nn.ConvTranspose3d: TransposedGeometry,
    "transformers.pytorch_utils.Conv1D": ColumnLinearGeometry,
    "torch_geometric.nn.dense.linear.Linear": LinearGeometry,
    "timm.layers.conv2d_same.Conv2dSame": SameGeometry,
}
"""The geometry of each kind; a name in place of a class spares the import of its library."""


def register_layer(kind: type[nn.Module], geometry: GeometryOf) -> None:
    """Cover modules of ``kind``, and of subclasses that inherit its forward pass.

    The forward pass must be ``h = W ā`` at every location, with ``module.weight`` and
    ``module.bias`` (a parameter or None) as ``W``; ``geometry(module)`` returns how it sums over
    samples and locations, for example ``kfqn_ref.optim.geometry.LinearGeometry``.

    Raises:
        TypeError: ``kind`` is not a class of modules, or ``geometry`` cannot be called.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"kind must be a subclass of torch.nn.Module, got {kind!r}")
    if not callable(geometry):
        raise TypeError(f"geometry must be a function of a module, got {geometry!r}")
    KINDS[kind] = geometry


def kind_of(module: nn.Module) -> type[nn.Module] | None:
    """Return the listed class whose forward pass the module has, or ``None``."""
    for kind in type(module).__mro__:
        listed = kind in KINDS or f"{kind.__module__}.{kind.__qualname__}" in KINDS
        if listed:
            return kind if _same_forward(type(module), kind) else None
    return None


def _same_forward(own: type, kind: type) -> bool:
    """Return whether a class computes what ``kind`` computes."""
    names = ("forward", "_conv_forward", "_output_padding")
    return all(getattr(own, name, None) is getattr(kind, name, None) for name in names)


def geometry_of(module: nn.Module) -> Geometry | None:
    """Return the geometry of a covered module, ``None`` for every other one."""
    kind = kind_of(module)
    if kind is None or why_not(module):
        return None
    make = KINDS.get(kind) or KINDS[f"{kind.__module__}.{kind.__qualname__}"]
    return make(module)


def why_not(module: nn.Module) -> str:
    """Return why a module of a listed kind is not covered, or an empty string."""
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other parameters"
    if isinstance(module, nn.Embedding) and not _is_plain(module):
        return "max_norm, scale_grad_by_freq and sparse make it other than one-hot rows"
    if isinstance(module, TRANSPOSED) and module.groups > 1:
        return "transposed convolutions with groups have no one matrix"
    if not weight.numel():
        return "its weight has no elements"
    return ""


def _is_plain(embedding: nn.Embedding) -> bool:
    """Return whether an embedding computes ``W e`` and has the gradient of that."""
    own = embedding.max_norm is not None or embedding.scale_grad_by_freq or embedding.sparse
    return not own
