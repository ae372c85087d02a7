"""A covered layer: its module, and its weights and gradients as matrices, bias column last."""

from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.geometry import EmbeddingGeometry, Geometry, wide
from kfqn_ref.optim.sharded import collected, plain_class


def whole(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which averages are kept: float32 for half precision, whose squares
    underflow.
    """
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class Layer:
    """A linear or convolution layer of the model.

    Args:
        name: its name in the model.
        module: the module.
        geometry: how it sums over samples and locations.
    """

    def __init__(self, name: str, module: nn.Module, geometry: Geometry) -> None:
        self.name = name
        self.module = module
        self.geometry = geometry
        self.built_for: nn.Parameter = self.weight
        self.bias_for: nn.Parameter | None = self.bias
        self.built_dtype: torch.dtype = self.weight.dtype

    @property
    def weight(self) -> nn.Parameter:
        """The weight parameter; the layer's state hangs on it."""
        return self.module.weight  # type: ignore[return-value]  # every covered module has one

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias parameter, if there is one."""
        return getattr(self.module, "bias", None)  # an embedding has no such attribute

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weight, and bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the factors: float32 for half-precision weights."""
        return whole(self.weight.dtype)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the matrices, ``(groups, d_g, d_a)``."""
        return self.geometry.groups, self.geometry.d_g, self.geometry.d_a

    @property
    def has_diagonal_A(self) -> bool:
        """Whether ``A`` is diagonal, so that its damped inverse needs no estimate."""
        return isinstance(self.geometry, EmbeddingGeometry)

    @property
    def fingerprint(self) -> list[Any]:
        """What a checkpoint must agree on: name, kind of module, shape, bias, dtype."""
        kind = plain_class(self.module).__name__
        dtype = str(self.dtype)
        return [self.name, kind, list(self.shape), self.geometry.bias, dtype]

    def parts(self, matrix: Tensor) -> list[Tensor]:
        """Return a matrix in parts shaped like the parameters: views, if the matrix is
        contiguous.
        """
        shape = self.weight.shape
        if not self.geometry.bias:
            return [self.geometry.as_weight(matrix, shape)]
        return [self.geometry.as_weight(matrix[..., :-1], shape), matrix[..., -1].reshape(-1)]

    def output_mean(self, a_mean: Tensor) -> Tensor:
        """Return the mean of ``h`` in wide arithmetic: ``W ā̄``, for ``h`` is linear in ``ā``.

        Where the weight is sharded, all ranks must call.
        """
        groups, d_g, _ = self.shape
        a_mean = a_mean.to(wide(a_mean))
        W = self.geometry.as_matrix(collected(self.weight.detach()).to(a_mean.dtype))
        h = (W @ a_mean[:, : W.shape[-1], None])[..., 0]
        if self.bias is None:
            return h
        return h + collected(self.bias.detach()).reshape(groups, d_g)
