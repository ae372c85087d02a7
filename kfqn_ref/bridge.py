"""The bridge: the torch model equal to a reference network, weights copied both ways, the distance
of states.

The one place of the package where the reference and the torch optimizer meet.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref import layers as reference
from kfqn_ref import pooling
from kfqn_ref.losses import BernoulliCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.method.state import State
from kfqn_ref.network import Network
from kfqn_ref.optim import KFQN

Blocks = tuple[np.ndarray, ...]
Trained = nn.Linear | nn.Conv2d


def build(network: Network, params: Blocks, *, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Return the torch model with the layers of ``network`` and the weights ``params``.

    Raises:
        TypeError: the network has a layer without a twin.
    """
    model = nn.Sequential(*[_module_of(layer, dtype) for layer in network.layers])
    write_params(model, network, params)
    return model


def _module_of(layer: reference.Layer, dtype: torch.dtype) -> nn.Module:
    match layer:
        case reference.Linear():
            return nn.Linear(layer.d_in, layer.d_out, layer.bias, dtype=dtype)
        case reference.Conv2d():
            options = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.bias)
            return nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, *options, dtype=dtype
            )
        case pooling.MaxPool2d():
            return nn.MaxPool2d(layer.kernel_size, layer.stride)
        case pooling.AvgPool2d():
            return nn.AvgPool2d(layer.kernel_size, layer.stride)
        case reference.ReLU() | reference.Tanh() | reference.Sigmoid() | reference.Flatten():
            return getattr(nn, type(layer).__name__)()
    raise TypeError(f"layer must be one of the reference's layers, got {type(layer).__name__}")


def _trained(model: nn.Sequential, network: Network) -> list[tuple[Trained, int]]:
    """Return the modules that have blocks, each with their number."""
    pairs = zip(model, network.layers, strict=True)
    return [
        (module, len(layer.block_shapes))
        for module, layer in pairs
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]


@torch.no_grad()
def write_params(model: nn.Sequential, network: Network, params: Blocks) -> None:
    """Write the blocks into the parameters of the model, in place."""
    rest = iter(params)
    for module, groups in _trained(model, network):
        W = torch.from_numpy(np.concatenate([next(rest) for _ in range(groups)]))  # (C_out, d_a)
        if module.bias is not None:
            module.bias.copy_(W[:, -1])
            W = W[:, :-1]
        module.weight.copy_(W.reshape(module.weight.shape))


def read_params(model: nn.Sequential, network: Network) -> Blocks:
    """Return the parameters of the model as blocks, float64."""
    blocks: list[np.ndarray] = []
    for module, groups in _trained(model, network):
        W = module.weight.detach().reshape(len(module.weight), -1)
        if module.bias is not None:
            W = torch.cat((W, module.bias.detach()[:, None]), 1)
        blocks += np.split(W.double().numpy(), groups)
    return tuple(blocks)


def loss_of(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the torch function equal to the network's mini-batch loss.

    Raises:
        TypeError: the network has a loss without a twin.
    """
    match network.loss:
        case SoftmaxCrossEntropy():
            return F.cross_entropy
        case MeanSquaredError():
            return F.mse_loss
        case BernoulliCrossEntropy():
            return lambda z, t: F.binary_cross_entropy_with_logits(z, t, reduction="sum") / len(z)
    raise TypeError(
        f"loss must be one of the reference's losses, got {type(network.loss).__name__}"
    )


def closure_of(
    model: nn.Module, network: Network, x: np.ndarray, target: np.ndarray
) -> Callable[[], Tensor]:
    """Return the closure that a step takes, on the mini-batch (x, target) in the model's dtype."""
    dtype = next(model.parameters()).dtype
    loss_function = loss_of(network)
    inputs = torch.from_numpy(np.array(x)).to(dtype)
    wanted = torch.from_numpy(np.array(target))
    if wanted.is_floating_point():  # classes stay integers
        wanted = wanted.to(dtype)

    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_function(model(inputs), wanted)
        loss.backward()
        return loss

    return closure


class TorchRun:
    """A run of the torch optimizer on the model equal to a network, seen as the reference's blocks.

    Args:
        network, params: the reference network and its initial weights.
        preset, options: what ``kfqn_ref.optim.KFQN`` takes.
        dtype: of the model.
    """

    def __init__(
        self,
        network: Network,
        params: Blocks,
        preset: str,
        *,
        dtype: torch.dtype = torch.float64,
        **options: Any,
    ) -> None:
        self.network = network
        self.model: torch.nn.Sequential = build(network, params, dtype=dtype)
        self.optimizer: KFQN = KFQN(self.model, preset, **options)

    def step(self, x: np.ndarray, target: np.ndarray) -> float:
        """Make one step on the mini-batch (x, target), and return the loss before it."""
        return self.optimizer.step(closure_of(self.model, self.network, x, target)).item()

    def params(self) -> Blocks:
        """Return copies of the weights: the next step writes into the model's own."""
        return tuple(block.copy() for block in read_params(self.model, self.network))

    def inverses(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return ``H_a`` and ``H_g`` of every block, as matrices in float64."""
        H_a: list[np.ndarray] = []
        H_g: list[np.ndarray] = []
        for module, groups in _trained(self.model, self.network):
            seen = self.optimizer.curvature(module)
            H_a += _by_group(seen.H_a, groups)
            H_g += _by_group(seen.H_g, groups)
        return H_a, H_g

    def counts(self) -> list[Any]:
        """Return the events of every layer."""
        layers = _trained(self.model, self.network)
        return [self.optimizer.curvature(module).counts for module, _ in layers]


def _by_group(H: Tensor, groups: int) -> list[np.ndarray]:
    """Return copies of a layer's matrices, one a group."""
    return list(H.detach().double().numpy().reshape(groups, *H.shape[-2:]).copy())


class Deviation(NamedTuple):
    """The largest relative deviation ``‖X − Y‖_F / ‖Y‖_F`` over the blocks, Y being the
    reference's.
    """

    W: float
    H_a: float
    H_g: float


def deviation(
    opt: KFQN, model: nn.Sequential, network: Network, params: Blocks, state: State
) -> Deviation:
    """Return how far a torch run is from the reference's parameters and state."""
    H_a: list[np.ndarray] = []
    H_g: list[np.ndarray] = []
    for module, groups in _trained(model, network):
        seen = opt.curvature(module)
        H_a += _by_group(seen.H_a, groups)
        H_g += _by_group(seen.H_g, groups)
    known = [(block.H_a, block.H_g) for block in state.blocks if block.H_a is not None]
    return Deviation(
        _largest(read_params(model, network), params),
        _largest(H_a, [a.dense() for a, _ in known]),
        _largest(H_g, [g.dense() for _, g in known]),
    )


def _largest(ours: Blocks | list[np.ndarray], theirs: Blocks | list[np.ndarray]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.linalg.norm(X - Y) / np.linalg.norm(Y)) for X, Y in pairs)
