"""KFAC and KFC on torch: the neighbour that the races compare with; same layers, same hooks'
economy.

The direction is ``G⁻¹ M A⁻¹`` with both factors averaged, damped and inverted. G needs gradients on
targets drawn from the model: one more backward pass, over the same graph and down to the layers'
outputs only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kfqn_ref.optim.coverage import covered_layers, survey
from kfqn_ref.optim.kinds import CONVOLUTIONS
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.presets import PRESETS

Closure = Callable[[bool], tuple[Tensor, Tensor | None]]


def fisher_output_factor(layer: Layer, Dh: Tensor) -> Tensor:
    r"""Return :math:`\tfrac1N \sum_n \tfrac1{|T|} \sum_t Dh_{n,t} Dh_{n,t}^\top`,
    ``(groups, d_g, d_g)``.

    Args:
        layer: the layer.   Dh: per-sample gradients, shaped as the output of the layer.

    Source: grosse2016kfc.
    """
    groups, d_g, _ = layer.shape
    channels = -1 if isinstance(layer.module, nn.Linear) else 1
    rows = Dh.movedim(channels, 0).reshape(groups, d_g, -1)  # (groups, d_g, N T)
    return rows @ rows.mT / max(rows.shape[-1], 1)


def damped_inverses(A: Tensor, G: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    r"""Return the inverses of ``A + π√λ I`` and ``G + (√λ/π) I``; where a trace is zero, π is 1.

    .. math:: \pi^2 = (\operatorname{tr} A / d_a) / (\operatorname{tr} G / d_g)

    Args:
        A, G: ``(groups, d, d)``.   lam: λ, positive.

    Source: martens2015kfac.
    """
    mean_a, mean_g = (X.diagonal(dim1=-2, dim2=-1).mean(-1) for X in (A, G))
    pi = torch.where((mean_a > 0) & (mean_g > 0), (mean_a / mean_g).sqrt(), 1.0)
    return _inverse(A, pi * lam**0.5), _inverse(G, lam**0.5 / pi)


def _inverse(X: Tensor, shift: Tensor) -> Tensor:
    eye = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(X + shift[:, None, None] * eye))


def _or_zero(x: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if x is None else x


def as_matrix(layer: Layer, tensors: Sequence[Tensor | None]) -> Tensor:
    """Return weight and bias, or tensors shaped like them, as ``(groups, d_g, d_a)``; None is
    zero.
    """
    groups, d_g, _ = layer.shape
    whole = [_or_zero(x, p) for p, x in zip(layer.parameters, tensors, strict=True)]
    return torch.cat([x.reshape(groups, d_g, -1).to(layer.dtype) for x in whole], -1)


def as_parameters(layer: Layer, matrix: Tensor) -> list[Tensor]:
    """Return a matrix as tensors shaped like weight and bias: the inverse of :func:`as_matrix`."""
    sizes = [p.numel() // (layer.shape[0] * layer.shape[1]) for p in layer.parameters]
    parts = matrix.split(sizes, -1)
    return [part.reshape(p.shape) for part, p in zip(parts, layer.parameters, strict=True)]


class KFAC(torch.optim.Optimizer):
    """KFAC for linear layers and KFC for convolutions; every other parameter takes the momentum
    step.

    ``loss = opt.step(closure)``. The closure takes ``draw``, runs the model once, and returns the
    mean loss and, if ``draw``, the mean loss of the same outputs on targets drawn from the model;
    it calls no ``backward``.

    Args:
        model: its Linear and Conv modules are covered.   lr: step size, not negative.
        damping: λ, positive.   momentum: decay of the gradient's moving average, in [0, 1).
        weight_decay: factor of the L2 term, not negative.
        factor_decay: decay of the factors' moving average, in [0, 1); it starts from the first
            mini-batch's.
        curvature_interval: iterations from one inversion to the next, at least 1.

    Raises:
        ValueError: a value is outside its range.

    Source: martens2015kfac, grosse2016kfc.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float = 0.03,
        damping: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        factor_decay: float = 0.95,
        curvature_interval: int = 1,
    ) -> None:
        rules = (
            (lr >= 0, "lr must not be negative", lr),
            (damping > 0, "damping must be positive", damping),
            (0 <= momentum < 1, "momentum must be in [0, 1)", momentum),
            (weight_decay >= 0, "weight_decay must not be negative", weight_decay),
            (0 <= factor_decay < 1, "factor_decay must be in [0, 1)", factor_decay),
            (curvature_interval >= 1, "curvature_interval must be at least 1", curvature_interval),
        )
        for holds, rule, got in rules:
            if not holds:
                raise ValueError(f"{rule}, got {got}")
        kinds = (nn.Linear, *CONVOLUTIONS)
        others = [name for name, module in model.named_modules() if type(module) not in kinds]
        self.layers = covered_layers(survey(model, others), model, PRESETS["kfqn_cnn"])
        self.factor_decay = factor_decay
        self.curvature_interval = curvature_interval
        self._k = 0
        values = {"lr": lr, "damping": damping, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(model.parameters(), values)

    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]  # the closure takes draw
        """Do one iteration on the mini-batch of ``closure``; return its loss.

        Raises:
            TypeError: there is no closure.   ValueError: it drew no targets when asked to.
        """
        if not callable(closure):
            raise TypeError(f"step needs a closure, got {type(closure).__name__}")
        draw = self._k % self.curvature_interval == 0
        seen: dict[Layer, tuple[Tensor, GradientEdge]] = {}
        self.zero_grad()
        with torch.enable_grad(), self._watching(seen, draw):
            loss, drawn = closure(draw)
        if draw:
            if drawn is None:
                raise ValueError(
                    "the closure must return the loss on drawn targets when asked to, got None"
                )
            gradients = torch.autograd.grad(
                drawn, [edge for _, edge in seen.values()], retain_graph=True
            )
            self._update(seen, gradients)
        loss.backward()
        self._move()
        self._k += 1
        return loss.detach()

    @contextmanager
    def _watching(self, seen: dict, watched: bool) -> Iterator[None]:
        def note(layer: Layer) -> Callable[..., None]:
            def hook(module: Any, args: tuple, h: Tensor) -> None:
                seen[layer] = (
                    args[0].detach(),
                    get_gradient_edge(h),
                )  # h as it is before an in-place activation

            return hook

        layers = self.layers if watched else []
        handles = [layer.module.register_forward_hook(note(layer)) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def _update(
        self, seen: dict[Layer, tuple[Tensor, GradientEdge]], gradients: tuple[Tensor, ...]
    ) -> None:
        """Average the factors of every layer and invert them."""
        damping = self.param_groups[0]["damping"]
        for (layer, (a, _)), gradient in zip(seen.items(), gradients, strict=True):
            N, _ = layer.geometry.counts(gradient)
            A = layer.geometry.factor_sum(a, layer.dtype) / N
            G = fisher_output_factor(layer, gradient.to(layer.dtype) * N)
            state = self.state[layer.weight]
            for name, new in (("A", A), ("G", G)):
                state.setdefault(name, new.clone()).lerp_(new, 1 - self.factor_decay)
            state["H_a"], state["H_g"] = damped_inverses(state["A"], state["G"], damping)

    @torch.no_grad()
    def _move(self) -> None:
        """Average the gradients and move all parameters."""
        covered = {p for layer in self.layers for p in layer.parameters}
        group = self.param_groups[0]
        for layer in self.layers:
            if layer.weight.grad is not None:
                g = as_matrix(layer, [p.grad for p in layer.parameters])
                M = self._averaged(layer.weight, g, as_matrix(layer, layer.parameters))
                H = self.state[layer.weight]
                P = H["H_g"] @ M @ H["H_a"] if "H_a" in H else M
                for p, move in zip(layer.parameters, as_parameters(layer, P), strict=True):
                    p.sub_(move, alpha=group["lr"])
        for p in group["params"]:
            if p not in covered and p.grad is not None:
                p.sub_(self._averaged(p, p.grad, p), alpha=group["lr"])

    def _averaged(self, p: Tensor, g: Tensor, W: Tensor) -> Tensor:
        """Return ``M ← βM + (1 − β)(g + τW)``."""
        group = self.param_groups[0]
        if group["weight_decay"]:
            g = g + group["weight_decay"] * W
        M = self.state[p].setdefault("M", torch.zeros_like(g))
        return M.lerp_(g, 1 - group["momentum"])
