"""This package's torch optimizer: its in-place kernels on copies, and whole runs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kfqn_ref import bridge
from kfqn_ref.optim import KFQN, kernels
from kfqn_ref.testing.strategies.networks import BlockView, Snapshot

_YES = torch.ones(1, dtype=torch.bool)


class TorchKFQN:
    """The kernels in double precision, one group, and the optimizer on the twin of a network."""

    dtype = torch.float64
    precision = "float64"

    def to_native(self, X: np.ndarray) -> Tensor:
        """A tensor that shares nothing with the array."""
        return torch.tensor(X, dtype=self.dtype)

    def powell_damp(self, H: Tensor, s: Tensor, y: Tensor, *, mu1: float = 0.2) -> Tensor:
        """(2.1) on a copy of s."""
        s = s.clone()[None]
        kernels.powell_damp_(s, y[None], (H @ y)[None], mu1=mu1)
        return s[0]

    def identity_damp(self, s: Tensor, y: Tensor, *, mu2: float) -> Tensor:
        """(2.2) on a copy of y."""
        y = y.clone()[None]
        kernels.identity_damp_(s[None], y, mu2=mu2)
        return y[0]

    def lm_damp(self, s: Tensor, y: Tensor, *, lam: float) -> Tensor:
        """(2.3) on a copy of y."""
        y = y.clone()
        kernels.lm_damp_(s, y, lam=lam)
        return y

    def double_damp(self, H: Tensor, s: Tensor, y: Tensor, *, mu1: float = 0.2, mu2: float) -> Any:
        """(2.1), then (2.2)."""
        s = self.powell_damp(H, s, y, mu1=mu1)
        return s, self.identity_damp(s, y, mu2=mu2)

    def dp_dlm_damp(self, H: Tensor, s: Tensor, y: Tensor, *, mu1: float = 0.2, lam: float) -> Any:
        """(2.1), then (2.3)."""
        s = self.powell_damp(H, s, y, mu1=mu1)
        return s, self.lm_damp(s, y, lam=lam)

    def bfgs_inverse_update(self, H: Tensor, s: Tensor, y: Tensor) -> Tensor:
        """The rank-two form, on a copy of H."""
        H = H.clone()[None]
        kernels.bfgs_inverse_update_([H], s[None], y[None], H @ y, _YES)
        return H[0]

    def lbfgs_two_loop(self, S: Tensor, Y: Tensor, q: Tensor, *, gamma: float = 1.0) -> Tensor:
        """The two loops as two solves."""
        R = torch.triu(S @ Y.T)
        return kernels.lbfgs_apply(S[None], Y[None], R[None], q[None, :, None], gamma=gamma)[
            0, :, 0
        ]

    def lbfgs_push(
        self, S: Tensor, Y: Tensor, s: Tensor, y: Tensor, *, memory: int
    ) -> tuple[Tensor, Tensor]:
        """Into buffers of ``memory`` rows, empty rows first."""
        m, n = S.shape
        kept_S, kept_Y = (torch.zeros(1, memory, n, dtype=self.dtype) for _ in range(2))
        kept_S[0, memory - m :] = S
        kept_Y[0, memory - m :] = Y
        kernels.lbfgs_push_(kept_S, kept_Y, torch.triu(kept_S @ kept_Y.mT), s[None], y[None], _YES)
        empty = memory - min(m + 1, memory)
        return kept_S[0, empty:], kept_Y[0, empty:]

    def optimizer_steps(
        self, network: Any, params: Any, batches: Any, *, preset: str, **options: Any
    ) -> Any:
        """One snapshot a step of the torch optimizer."""
        model = bridge.build(network, params, dtype=self.dtype)
        optimizer = KFQN(model, preset=preset, **options)
        snapshots = []
        for x, target in batches:
            optimizer.step(bridge.closure_of(model, network, x, target))
            blocks = tuple(self._views(optimizer, model, network))
            params = tuple(
                map(np.array, bridge.read_params(model, network))
            )  # copies: the next step writes into them
            snapshots.append(Snapshot(params, blocks))
        return snapshots

    def _views(self, optimizer: KFQN, model: Any, network: Any) -> Any:
        """A layer's events are summed over its groups: all go to the first."""
        for module, layer in zip(model, network.layers, strict=True):
            groups = len(layer.block_shapes)
            for group in range(groups):
                seen = optimizer.curvature(module)
                H_a = seen.H_a.reshape(groups, *seen.H_a.shape[-2:])[group]
                H_g = seen.H_g.reshape(groups, *seen.H_g.shape[-2:])[group]
                counts = seen.counts if group == 0 else (0,) * 5
                dense = [
                    np.array(H.double().numpy()) for H in (H_a, H_g)
                ]  # copies: updates write into them
                fields = (*dense, seen.lambda_a, seen.lambda_g, seen.T, *counts)
                yield BlockView._make(fields)


class TorchKFQN32(TorchKFQN):
    """The kernels in single precision."""

    dtype = torch.float32
    precision = "float32"
    optimizer_steps = None  # type: ignore[reportAssignmentType]  # differences of float32 passes leave too few digits for exact laws
