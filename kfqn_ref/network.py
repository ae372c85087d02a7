"""A network: a chain of layers and a loss; one pass forward and backward (book: a network).

Parameters are a tuple of blocks ``W`` (d_g, d_a), in the order of the layers; a pass returns the
loss, the gradients ``∇_W f = mean_n Σ_t Dh_t ā_tᵀ`` and the :class:`~kfqn_ref.layers.Record` of
every block.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from kfqn_ref._typing import Array
from kfqn_ref.layers import Blocks, Layer, Record
from kfqn_ref.losses import Loss


@dataclass(frozen=True)
class Network:
    """Layers applied one after the other, and the loss of their output.

    Args:
        layers: the layers, first to last.
        loss: the per-sample loss.
    """

    layers: tuple[Layer, ...]
    loss: Loss

    @property
    def block_shapes(self) -> tuple[tuple[int, int], ...]:
        """Shapes (d_g, d_a) of all blocks, in order."""
        return tuple(shape for layer in self.layers for shape in layer.block_shapes)

    def init(self, rng: Generator) -> Blocks:
        """Return weights and biases uniform in ±1/√fan_in, torch's default range."""
        blocks = []
        for layer in self.layers:
            for d_g, d_a in layer.block_shapes:
                fan_in = d_a - getattr(layer, "bias", False)
                blocks.append(rng.uniform(-1, 1, (d_g, d_a)) / np.sqrt(fan_in))
        return tuple(blocks)

    def predict(self, params: Blocks, x: Array) -> Array:
        """Return the outputs for the inputs ``x``, (N, …)."""
        return forward(self.layers, params, x)[0]

    def value(self, params: Blocks, x: Array, target: Array) -> float:
        """Return the mini-batch loss ``f``: the mean of the per-sample losses."""
        return float(self.loss.value(self.predict(params, x), target).mean())


class Pass(NamedTuple):
    """The result of one forward-backward pass.

    Args:
        loss: the mini-batch loss ``f``.
        grads: ``∇_W f`` of every block, (d_g, d_a).
        records: what every block saw.
        outputs: the network's outputs, (N, …).
    """

    loss: float
    grads: Blocks
    records: tuple[Record, ...]
    outputs: Array


def split_blocks(layers: tuple[Layer, ...], params: Blocks) -> list[Blocks]:
    """Return the blocks of each layer.

    Raises:
        ValueError: number or shapes of the blocks are not those of the layers.
    """
    shapes = [shape for layer in layers for shape in layer.block_shapes]
    if [W.shape for W in params] != shapes:
        raise ValueError(f"params must have shapes {shapes}, got {[W.shape for W in params]}")
    rest = iter(params)
    return [tuple(next(rest) for _ in layer.block_shapes) for layer in layers]


def forward(layers: tuple[Layer, ...], params: Blocks, x: Array) -> tuple[Array, list[Any]]:
    """Return the output of the chain for ``x`` (N, …), N >= 1, and the cache of every layer."""
    if x.ndim < 2 or len(x) < 1:
        raise ValueError(f"x must be a batch (N, ...) of at least one sample, got shape {x.shape}")
    caches = []
    for layer, blocks in zip(layers, split_blocks(layers, params), strict=True):
        x, cache = layer.forward(blocks, x)
        caches.append(cache)
    return x, caches


def backward(
    layers: tuple[Layer, ...], params: Blocks, caches: list[Any], Dout: Array
) -> tuple[Array, tuple[Record, ...]]:
    """Return the gradient with respect to the chain's input, and the records of all blocks."""
    records: tuple[Record, ...] = ()
    chain = zip(layers, split_blocks(layers, params), caches, strict=True)
    for layer, blocks, cache in reversed(list(chain)):
        Dout, new = layer.backward(blocks, cache, Dout)
        records = new + records
    return Dout, records


def gradient(record: Record) -> Array:
    """Return ``∇_W f = mean_n Σ_t Dh_t ā_tᵀ``, (d_g, d_a); (4.2), for a convolution (5.1)."""
    return np.tensordot(record.Dh, record.a_bar, axes=([0, 1], [0, 1])) / len(record.Dh)


def forward_backward(network: Network, params: Blocks, x: Array, target: Array) -> Pass:
    """Return loss, gradients (4.2) and (5.1), and records of one mini-batch.

    Args:
        network: layers and loss.
        params: blocks ``W`` (d_g, d_a), shapes as ``network.block_shapes``.
        x: inputs, (N, …), N >= 1.   target: as the loss wants it.

    Raises:
        ValueError: shapes of ``params``, ``x`` or ``target`` do not fit the network.
    """
    outputs, caches = forward(network.layers, params, x)
    loss = float(network.loss.value(outputs, target).mean())
    _, records = backward(network.layers, params, caches, network.loss.gradient(outputs, target))
    return Pass(loss, tuple(map(gradient, records)), records, outputs)
