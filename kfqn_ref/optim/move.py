"""Steps 2 and 3: gradients into their moving averages, parameters along their directions."""

from collections.abc import Callable, Hashable, MutableMapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.kernels import adamw_, descend_, momentum_, scaled_
from kfqn_ref.optim.layer import Layer, whole
from kfqn_ref.optim.presets import Preset
from kfqn_ref.optim.sharded import local, own_part
from kfqn_ref.optim.update import direction


def begun(
    state: MutableMapping[Any, Tensor], name: Hashable, first: Callable[[], Tensor]
) -> Tensor:
    """Return what ``state`` keeps under a name, and let it begin with ``first()``."""
    if name not in state:
        state[name] = first()
    return state[name]


def adamw_options(group: dict[str, Any], alpha: float) -> tuple[float, tuple[float, float], float]:
    """Return step size, decays and weight decay of AdamW's step in a group.

    A group of covered parameters has them under names of their own: there they serve layers that
    have no factors yet.
    """
    if group["other"]:
        return alpha, (group["momentum"], group["beta2"]), group["weight_decay"]
    return group["other_lr"], group["other_betas"], group["other_weight_decay"]


class Move:
    """One step of all parameters of one group.

    Args:
        group: the parameter group's options.   alpha: step size, before the mask.
        scale: factor that makes gradients those of a mean loss.   ok: mask of a sound iteration.
        preset: with ``square_decay`` 0 ``M`` averages gradients, else ``M`` and ``V`` average
            directions.
    """

    def __init__(
        self,
        group: dict[str, Any],
        alpha: float,
        scale: float | Tensor,
        ok: Tensor,
        preset: Preset,
    ) -> None:
        self.square_decay: float = preset.square_decay
        self.direction = preset.direction
        self.convergent: bool = preset.convergent
        self.adamw = adamw_options(group, alpha)
        self.beta: float = group["momentum"]
        self.alpha = alpha
        self.scale = scale
        self.ok = ok
        decay = group["weight_decay"]
        self.tau, self.shrink = (0.0, decay) if group["decoupled"] else (decay, 0.0)
        self.alphas: dict[torch.dtype, Tensor] = {}  # the masked step size

    def other_(self, p: nn.Parameter, state: dict[str, Any]) -> None:
        """Move a parameter that has no Kronecker factors: AdamW's step, or for ``convergent`` ours
        with ``H = I``.
        """
        kept = state.setdefault("other", {})
        if self.convergent:
            M = begun(kept, "M", lambda: torch.zeros_like(p))
            self._average_([p], [M], self.beta)
            return self._descend_([p], [M])
        assert p.grad is not None, "only parameters with a gradient move"
        zeros = partial(torch.zeros_like, p, dtype=whole(p.dtype))
        M = begun(kept, "M", zeros)
        V = begun(kept, "V", zeros)
        t = begun(kept, "t", lambda: torch.zeros((), dtype=torch.int64, device=p.device))
        lr, betas, decay = self.adamw
        decay = decay if p.ndim > 1 else 0.0  # biases and scales of norms are not pulled to zero
        parts = local(p), self._mean_gradient(p), local(M), local(V)
        adamw_(*parts, t, lr=lr, betas=betas, decay=decay, ok=self.ok)

    def layer_(self, layer: Layer, state: dict[str, Any], a_mean: Tensor | None) -> Tensor | None:
        """Move the weights of a covered layer along ``H_g M H_a``; return ``H_a ā̄``."""
        P, s_a = self.direction_(layer, state, a_mean)
        self.along_(layer, P)
        return s_a

    def direction_(
        self, layer: Layer, state: dict[str, Any], a_mean: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Average the gradient of a covered layer; return its ``P = H_g M H_a``, or what the
        preset's direction makes of it, and ``H_a ā̄``.

        With ``square_decay`` what is averaged is ``U = H_g (∇_W f + τ W) H_a``, and ``P`` is
        scaled.
        """
        M = begun(state, "M", lambda: layer.weight.new_zeros(layer.shape, dtype=layer.dtype))
        if not self.square_decay:
            self._average_(layer.parameters, layer.parts(M), self.beta)
            P, s_a = direction(state, self._ahead(layer, M), a_mean)
            return self.direction(P), s_a
        g = torch.zeros_like(M)
        self._average_(layer.parameters, layer.parts(g), 0.0)
        U, s_a = direction(state, g, a_mean)
        return self._scaled_(state, U), s_a

    def _ahead(self, layer: Layer, M: Tensor) -> Tensor:
        """Return the averaged gradient, a step ahead where the direction wants Nesterov's."""
        if not self.direction.nesterov:
            return M
        g = torch.zeros_like(M)
        self._average_(layer.parameters, layer.parts(g), 0.0)
        return g.lerp(M, self.beta)

    def along_(self, layer: Layer, P: Tensor) -> None:
        """Move the weights of a covered layer along ``P``."""
        self._descend_(layer.parameters, layer.parts(P))

    def _scaled_(self, state: dict[str, Any], U: Tensor) -> Tensor:
        V = begun(state, "V", lambda: torch.zeros_like(U))
        t = begun(state, "t", lambda: torch.zeros((), dtype=torch.int64, device=U.device))
        return scaled_(state["M"], V, t, U, beta=self.beta, beta2=self.square_decay, ok=self.ok)

    def _average_(
        self, parameters: Sequence[nn.Parameter], Ms: Sequence[Tensor], beta: float
    ) -> None:
        for p, M in zip(parameters, Ms, strict=True):
            if p.grad is None:
                local(M).zero_()  # of a frozen bias: its old average would push the weight for ever
            else:
                g = self._mean_gradient(p)
                momentum_(local(M), g, local(p), beta=beta, tau=self.tau, ok=self.ok)

    def _mean_gradient(self, p: nn.Parameter) -> Any:
        """Return this rank's part of the gradient of the mean loss."""
        if p.grad is None:
            return None
        grad = local(p.grad)
        if isinstance(self.scale, float) and self.scale == 1:
            return grad
        return grad.to(whole(grad.dtype)) * self.scale

    def _descend_(self, parameters: Sequence[nn.Parameter], Ps: Sequence[Tensor]) -> None:
        alpha = begun(self.alphas, Ps[0].dtype, lambda: self.ok.to(Ps[0].dtype) * self.alpha)
        for p, P in zip(parameters, Ps, strict=True):
            if p.grad is not None:
                part = local(p)
                if self.shrink:
                    part.mul_(1 - alpha * self.shrink)
                descend_(part, own_part(P, p), alpha)
