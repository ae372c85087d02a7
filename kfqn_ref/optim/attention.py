"""torch's attention with queries, keys, values and output as linear layers that are called.

``nn.MultiheadAttention`` packs three weights into one tensor and calls no layer, so no layer can be
covered. :func:`split_attention` puts a module in its place that computes the same and calls four.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.optim.sharded import is_sharded

PROJECTIONS = ("q_proj", "k_proj", "v_proj")
PACKED = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")
"""The tensors that ``nn.MultiheadAttention`` has in place of layers."""


class SplitAttention(nn.Module):
    """Attention with the interface of ``nn.MultiheadAttention``, made of four linear layers.

    Queries, keys and values are ``q_proj(query)``, ``k_proj(key)`` and ``v_proj(value)``, and the
    output is ``out_proj`` of the heads side by side. A ``state_dict`` of the packed module loads.

    Args:
        packed: the module whose weights, sizes and mode are taken over.
    """

    # what torch's Transformer layers ask, to decide on their fast path: it reads packed weights
    _qkv_same_embed_dim = False
    in_proj_weight = None
    in_proj_bias = None

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim = packed.embed_dim
        self.kdim = packed.kdim
        self.vdim = packed.vdim
        self.num_heads = packed.num_heads
        self.head_dim = packed.head_dim
        self.dropout = packed.dropout
        self.batch_first = packed.batch_first
        with torch.enable_grad():  # a part asks for a gradient where the packed weight does
            parts = _unpacked(dict(packed.named_parameters(recurse=False)))
        new = {
            name: nn.Parameter(part.detach().clone(), requires_grad=part.requires_grad)
            for name, part in parts.items()
        }
        self.q_proj = _linear(new["q_proj.weight"], new.get("q_proj.bias"))
        self.k_proj = _linear(new["k_proj.weight"], new.get("k_proj.bias"))
        self.v_proj = _linear(new["v_proj.weight"], new.get("v_proj.bias"))
        self.out_proj = _linear(packed.out_proj.weight, packed.out_proj.bias)
        self.train(packed.training)
        self.register_load_state_dict_pre_hook(_unpack_)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output, and the weights of attention where they are wanted.

        Arguments, shapes and values are those of ``nn.MultiheadAttention``.

        Raises:
            TypeError: a mask is neither boolean nor of floating point.
            ValueError: a mask has another shape, ``is_causal`` comes without ``attn_mask``, or an
                input is nested.
        """
        if query.is_nested or key.is_nested or value.is_nested:
            raise ValueError("the inputs of attention must be plain tensors, got a nested one")
        batched = query.dim() == 3
        samples = 0 if self.batch_first else 1
        if not batched:
            query, key, value = (x.unsqueeze(samples) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        q = self._heads(self.q_proj(query))
        k = self._heads(self.k_proj(key))
        v = self._heads(self.v_proj(value))
        if is_causal and attn_mask is None:
            raise ValueError("is_causal must come with attn_mask, of which it is a hint, got None")
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else self._mask(q, k, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            weights = _weights(q, k, mask)
            weights = F.dropout(weights, dropout) if dropout else weights
            h = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        else:
            weights = None
            h = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        h = h.transpose(1, 2).flatten(2)
        h = h if self.batch_first else h.transpose(0, 1)
        out = self.out_proj(h)
        out = out if batched else out.squeeze(samples)
        return out, weights

    def _heads(self, x: Tensor) -> Tensor:
        """Return ``(N, heads, T, d)`` of the output of a projection."""
        x = x if self.batch_first else x.transpose(0, 1)
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(
        self, q: Tensor, k: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor | None:
        """Return what is added to the scores ``(N, heads, T, S)``, ``None`` for nothing."""
        N, heads, T, _ = q.shape
        S = k.shape[2]
        mask = None
        if attn_mask is not None:
            _refuse_shape("attn_mask", attn_mask, [(T, S), (N * heads, T, S)])
            mask = _added("attn_mask", attn_mask, q.dtype)
            mask = mask if mask.dim() == 2 else mask.unflatten(0, (N, heads))
        if key_padding_mask is not None:
            _refuse_shape("key_padding_mask", key_padding_mask, [(N, S)])
            padding = _added("key_padding_mask", key_padding_mask, q.dtype)[:, None, None]
            mask = padding if mask is None else mask + padding
        return mask


def split_attention(model: nn.Module) -> nn.Module:
    """Return the model with every ``nn.MultiheadAttention`` in it replaced by the same attention
    as four linear layers, which the optimizer covers.

    It changes the model in place, also inside torch's Transformer layers, whose fast path for
    evaluation is then off. Call it before any optimizer or wrapper is made, because the weights of
    queries, keys and values become new parameters. Outputs are equal to rounding.

    Args:
        model: the model. One that is an attention module itself is not changed.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: the model has no such module, is wrapped or sharded already, or one of the
            modules cannot be split: it has ``bias_k`` or ``add_zero_attn``, hooks, weights that are
            shared, pruned or parametrised, or a forward pass of its own. Nothing is changed then.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    }
    if not found:
        raise ValueError("the model must have an nn.MultiheadAttention to split, got none")
    _refuse_wrapped(model)
    owners = Counter(p for module in model.modules() for p in module.parameters(recurse=False))
    reasons = {name: _why_not(module, owners) for name, module in found.items()}
    refused = [f"{name!r} has {why}" for name, why in reasons.items() if why]
    if refused:
        raise ValueError(f"attention must be as torch makes it, but {'; '.join(refused)}")
    split: dict[nn.Module, nn.Module] = {x: SplitAttention(x) for x in found.values()}
    for parent in [*model.modules()]:
        for name, child in [*parent._modules.items()]:
            if isinstance(child, nn.MultiheadAttention):
                parent.register_module(name, split[child])
        if isinstance(parent, nn.TransformerEncoder):
            parent.use_nested_tensor = False
    return split.get(model, model)


def _refuse_wrapped(model: nn.Module) -> None:
    wrapped = any(isinstance(module, DistributedDataParallel) for module in model.modules())
    if wrapped or any(is_sharded(p) for p in model.parameters()):
        raise ValueError(
            "the model must not be wrapped or sharded yet, because its wrapper knows the packed "
            "weights: call split_attention before DistributedDataParallel or fully_shard"
        )


def _why_not(packed: nn.MultiheadAttention, owners: Mapping[nn.Parameter, int]) -> str:
    """Return what keeps a module from being split, or an empty string."""
    parts: tuple[nn.Module, ...] = (packed, packed.out_proj)
    forwards = type(packed).forward, type(packed.out_proj).forward
    if forwards != (nn.MultiheadAttention.forward, nn.Linear.forward):
        return "a forward pass of its own"
    if packed.bias_k is not None or packed.bias_v is not None or packed.add_zero_attn:
        return "bias_k, bias_v or add_zero_attn, which are no linear layers"
    if _computed(packed, PACKED) or _computed(packed.out_proj, ("weight", "bias")):
        return "weights that are computed from others (pruning, a parametrisation)"
    if any(owners[p] > 1 for p in packed.parameters()):
        return "weights that another module has, too"
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(part, kind) for part in parts for kind in hooks):
        return "hooks: set them after the split"
    return ""


def _computed(module: nn.Module, names: Sequence[str]) -> bool:
    """Return whether one of these tensors of a module is there, but is no parameter."""
    there = [name for name in names if getattr(module, name) is not None]
    return any(name not in module._parameters for name in there)


def _linear(weight: Any, bias: Any) -> nn.Linear:
    """Return the linear layer with these very parameters; ``bias`` may be None."""
    linear = nn.Linear(*reversed(weight.shape), device="meta")
    linear.register_parameter("weight", weight)
    linear.register_parameter("bias", bias)
    return linear


def _unpacked(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights and biases of the projections, by their new names."""
    parts = {}
    for old, kind in (("in_proj_weight", "weight"), ("in_proj_bias", "bias")):
        if old in packed:
            names = [f"{name}.{kind}" for name in PROJECTIONS]
            parts |= zip(names, packed[old].chunk(3), strict=True)
    apart = {f"{name}.weight": packed.get(f"{name}_weight") for name in PROJECTIONS}
    return parts | {name: weight for name, weight in apart.items() if weight is not None}


def _unpack_(module: Any, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Give the packed weights in a state to the layers that have them now."""
    packed = {name: state.pop(prefix + name) for name in PACKED if prefix + name in state}
    state.update({prefix + name: part for name, part in _unpacked(packed).items()})


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weights of attention, ``softmax(q kᵀ / √d + mask)``, ``(N, heads, T, S)``."""
    scores = (q * sqrt(1.0 / q.shape[-1])) @ k.mT
    scores = scores if mask is None else scores + mask
    return scores.softmax(-1)


def _refuse_shape(name: str, mask: Tensor, shapes: Sequence[tuple[int, ...]]) -> None:
    if tuple(mask.shape) not in shapes:
        allowed = " or ".join(map(str, shapes))
        raise ValueError(f"{name} must have the shape {allowed}, got {tuple(mask.shape)}")


def _added(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as what is added to the scores: minus infinity where a boolean one is true."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))
    if not mask.is_floating_point():
        raise TypeError(f"{name} must be boolean or of floating point, got {mask.dtype}")
    return mask
