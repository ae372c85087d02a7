"""The three forms of an inverse estimate, thin views on tensors of the optimizer's state; and
several at once.

``left(X)`` is ``H X`` for ``X`` ``(groups, d, columns)``, ``right(X)`` is ``X H``; ``apply`` takes
vectors ``(groups, d)``.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from kfqn_ref.optim.joined import join, unjoin
from kfqn_ref.optim.kernels import bfgs_inverse_update_, lbfgs_apply, lbfgs_push_

Tensors = dict[str, Tensor]


class Inverse(Protocol):
    """An estimate of the inverse of one damped Kronecker factor, of every group of a layer."""

    tensors: Tensors

    def apply(self, v: Tensor) -> Tensor:
        """Return ``H v``."""
        ...

    def left(self, X: Tensor) -> Tensor:
        """Return ``H X``."""
        ...

    def right(self, X: Tensor) -> Tensor:
        """Return ``X H``."""
        ...

    def dense(self) -> Tensor:
        """Return the matrices, ``(groups, d, d)``."""
        ...


class DenseInverse:
    """A matrix, changed in place by BFGS. Source: goldfarb2020kbfgs."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    @classmethod
    def start(cls, H: Tensor) -> "DenseInverse":
        """Return the estimate that begins as ``H``, ``(groups, d, d)``."""
        return cls({"H": H})

    def apply(self, v: Tensor) -> Tensor:
        return self.left(v[..., None])[..., 0]

    def left(self, X: Tensor) -> Tensor:
        return self.tensors["H"] @ X

    def right(self, X: Tensor) -> Tensor:
        return X @ self.tensors["H"].mT  # symmetric; a CPU multiplies faster by rows

    def dense(self) -> Tensor:
        return self.tensors["H"].clone()


class LBFGSInverse:
    """The last ``p`` pairs from ``gamma I``; its matrix is at hand where that is the cheaper way to
    multiply.

    A product with ``n`` columns costs ``4 p d n`` by the pairs and ``d² n`` by the matrix, which is
    therefore kept when ``d <= 2 p``. Source: goldfarb2020kbfgs, nocedal2006.
    """

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    @classmethod
    def start(cls, gamma: Tensor, d: int, memory: int) -> "LBFGSInverse":
        """Return the estimate ``gamma I``; ``gamma`` is ``(groups,)``."""
        groups = len(gamma)
        new = gamma.new_zeros
        S = new(groups, memory, d)
        Y = new(groups, memory, d)
        tensors = {
            "S": S,
            "Y": Y,
            "R": new(groups, memory, memory),
            "gamma": gamma[:, None, None].clone(),
        }
        if d <= 2 * memory:
            tensors["H"] = tensors["gamma"] * torch.eye(d, dtype=gamma.dtype, device=gamma.device)
        return cls(tensors)

    def apply(self, v: Tensor) -> Tensor:
        return self.left(v[..., None])[..., 0]

    def left(self, X: Tensor) -> Tensor:
        return self.tensors["H"] @ X if "H" in self.tensors else self._by_pairs(X)

    def right(self, X: Tensor) -> Tensor:
        return self.left(X.mT).mT

    def push_(self, s: Tensor, y: Tensor, accept: Tensor) -> Tensor:
        """Learn the pair where ``accept`` and it is sound; return where it was."""
        t = self.tensors
        accept = lbfgs_push_(t["S"], t["Y"], t["R"], s, y, accept)
        if "H" in t:
            t["H"].copy_(self.dense())
        return accept

    def dense(self) -> Tensor:
        S = self.tensors["S"]
        return self._by_pairs(
            torch.eye(S.shape[-1], dtype=S.dtype, device=S.device).expand(len(S), -1, -1)
        )

    def _by_pairs(self, X: Tensor) -> Tensor:
        t = self.tensors
        return lbfgs_apply(t["S"], t["Y"], t["R"], X, gamma=t["gamma"])


class DiagonalInverse:
    """A diagonal matrix, which no pair changes: ``gamma I``, or the exact inverse of a diagonal."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    @classmethod
    def start(cls, diagonal: Tensor) -> "DiagonalInverse":
        """Return the matrix with this diagonal, ``(groups, d)``."""
        return cls({"diagonal": diagonal})

    def apply(self, v: Tensor) -> Tensor:
        return self.tensors["diagonal"] * v

    def left(self, X: Tensor) -> Tensor:
        return self.tensors["diagonal"][..., None] * X

    def right(self, X: Tensor) -> Tensor:
        return X * self.tensors["diagonal"][..., None, :]

    def dense(self) -> Tensor:
        return torch.diag_embed(self.tensors["diagonal"])


def numbers_of_inverse(d: int, memory: int | None) -> int:
    """Return how many numbers an estimate of size ``d`` keeps; ``memory`` is None for a matrix."""
    if memory is None:
        return d * d
    matrix = d * d if d <= 2 * memory else 0
    return 2 * memory * d + memory**2 + 1 + matrix


def inverse_of(tensors: Tensors) -> Inverse:
    """Return the estimate that keeps these tensors."""
    if is_diagonal(tensors):
        return DiagonalInverse(tensors)
    return LBFGSInverse(tensors) if is_lean(tensors) else DenseInverse(tensors)


def is_lean(tensors: Tensors) -> bool:
    """Return whether the estimate that keeps these tensors is kept as pairs."""
    return "S" in tensors


def is_diagonal(tensors: Tensors) -> bool:
    """Return whether the estimate that keeps these tensors is a diagonal."""
    return "diagonal" in tensors


class Stack:
    """The estimates of several layers, all of one form, as one estimate of their joined vectors.

    Args:
        parts: the tensors of each layer's estimate.   like: a vector ``(groups, d)`` of each layer.
    """

    def __init__(self, parts: Sequence[Tensors], like: Sequence[Tensor]) -> None:
        self.parts: list[Inverse] = [inverse_of(tensors) for tensors in parts]
        self.like = like

    @property
    def gamma(self) -> Tensor:
        """What the estimates started from, where they are kept as pairs: ``gamma I``, one a row."""
        return torch.cat([H.tensors["gamma"][..., 0] for H in self.parts])

    def apply(self, v: Tensor) -> Tensor:
        """Return every ``H v``."""
        return join([H.apply(x) for H, x in zip(self.parts, unjoin(v, self.like), strict=True)])

    def update_(self, s: Tensor, y: Tensor, accept: Tensor) -> Tensor:
        """Learn every pair where ``accept`` and it is sound; return where it was."""
        dense = [H.tensors["H"] for H in self.parts if isinstance(H, DenseInverse)]
        if dense:
            return bfgs_inverse_update_(dense, s, y, self.apply(y), accept)
        lean = [H for H in self.parts if isinstance(H, LBFGSInverse)]
        pairs = zip(*(unjoin(x, self.like) for x in (s, y, accept)), strict=True)
        return torch.cat([H.push_(*pair) for H, pair in zip(lean, pairs, strict=True)])
