"""The exact Hessian block of a layer, and what each assumption makes of it (book: the layer's
Hessian block).

The second derivative of the loss with respect to a layer's output comes from a complex step
(`squire1998`): with ``Dh(h)`` the gradient by back-propagation, column j of ``∂²f/∂h∂h`` is
``Im Dh(h + iεe_j) / ε``, exact to machine precision since nothing is subtracted.
"""

from typing import Any, NamedTuple

import numpy as np

from kfqn_ref._typing import Array, Float, checked
from kfqn_ref.layers import Blocks
from kfqn_ref.network import Network, Pass, backward, forward, forward_backward

_EPS = 1e-30  # any size works: the step is never subtracted from anything


class LayerBlocks(NamedTuple):
    """The Hessian block of ``cvec(W)`` under one assumption more at a time, each (d_a d_g, d_a
    d_g).

    Args:
        exact: (4.4).
        sud: without the terms t ≠ t' (spatially uncorrelated derivatives).
        sud_iad: and with the mean of the product replaced by the product of means, location by
            location (independence of activations and derivatives).
        kronecker: ``A ⊗ G``: and with ``E ∂²f/∂h_t²`` replaced by its mean over t (spatial
            homogeneity).
    """

    exact: Array
    sud: Array
    sud_iad: Array
    kronecker: Array

    def errors(self) -> dict[str, float]:
        """Return what each assumption adds, and the whole error, relative to the exact block
        (Frobenius).
        """
        scale = np.linalg.norm(self.exact)
        steps = {"SUD": self.sud - self.exact, "IAD": self.sud_iad - self.sud}
        steps |= {"SH": self.kronecker - self.sud_iad, "total": self.kronecker - self.exact}
        return {name: float(np.linalg.norm(step) / scale) for name, step in steps.items()}


def _locate(network: Network, block: int) -> tuple[int, int]:
    """Return (layer index, group) of a block."""
    if not 0 <= block < len(network.block_shapes):
        raise ValueError(f"block must be in [0, {len(network.block_shapes)}), got {block}")
    for index, layer in enumerate(network.layers):
        if block < len(layer.block_shapes):
            return index, block
        block -= len(layer.block_shapes)
    raise AssertionError("unreachable: the range was checked")


def _suffix_gradient(
    network: Network, params: Blocks, index: int, out: Array, target: Array
) -> Array:
    """Return the per-sample gradient with respect to the output ``out`` of layer ``index``."""
    used = sum(len(layer.block_shapes) for layer in network.layers[: index + 1])
    layers = network.layers[index + 1 :]
    rest = params[used:]
    outputs, caches = forward(layers, rest, out)
    return backward(layers, rest, caches, network.loss.gradient(outputs, target))[0]


def output_hessian(network: Network, params: Blocks, x: Array, target: Array, block: int) -> Array:
    """Return ``∂²f_n / ∂h_t ∂h_t'`` of (4.4), (N, T, d_g, T, d_g), by complex steps.

    Args:
        network, params, x, target: as :func:`~kfqn_ref.network.forward_backward`; small ones, the
            cost is T·d_g passes.
        block: number of the block, counted over the network.

    Raises:
        ValueError: there is no such block.

    Source: squire1998 for the complex step; the use on back-propagation is derived here.
    """
    index, group = _locate(network, block)
    layer: Any = network.layers[index]
    used = block - group + len(layer.block_shapes)
    out, _ = forward(network.layers[: index + 1], params[:used], x)
    h = layer.to_locations(out)  # (N, T, C_out)
    T = h.shape[1]
    d_g = network.block_shapes[block][0]
    channels = slice(group * d_g, (group + 1) * d_g)
    steps = np.zeros((T * d_g, *h.shape[1:]), complex)
    steps[:, :, channels] = (1j * _EPS * np.eye(T * d_g)).reshape(T * d_g, T, d_g)
    hessians = []
    for n in range(len(x)):  # all complex steps of a sample are one batch
        shape = (T * d_g, *out.shape[1:])
        moved = layer.from_locations(h[n] + steps, shape)
        Dh = _suffix_gradient(
            network, params, index, moved, np.repeat(target[n : n + 1], T * d_g, axis=0)
        )
        hessians.append(layer.to_locations(Dh)[:, :, channels].imag.reshape(T, d_g, T, d_g) / _EPS)
    return np.stack(hessians)


@checked
def output_factor(Hh: Float[Array, "N T d_g T d_g"]) -> Float[Array, "d_g d_g"]:
    r"""Return the output-side factor (4.6): mean over samples and locations.

    .. math:: G = \tfrac1N \sum_n \tfrac1{|T|} \sum_t \partial^2 f_n / \partial h_t^2

    Args:
        Hh: second derivatives as :func:`output_hessian` returns them.

    Source: ren2021kfqn.
    """
    return np.einsum("ntgth->gh", Hh) / (Hh.shape[0] * Hh.shape[1])


@checked
def layer_blocks(a_bar: Float[Array, "N T d_a"], Hh: Float[Array, "N T d_g T d_g"]) -> LayerBlocks:
    """Return the exact block of ``cvec(W)`` and its approximations, one assumption more at a time.

    The index of ``W[g, a]`` in ``cvec(W)`` is ``a·d_g + g``, so that the last one is ``A ⊗ G``.

    Args:
        a_bar: inputs of the block.
        Hh: second derivatives as :func:`output_hessian` returns them.

    Source: grosse2016kfc for the assumptions (there for the Fisher matrix); (4.4) derived here.
    """
    N, T, d_a = a_bar.shape
    size = d_a * Hh.shape[2]
    Htt = np.einsum("ntgth->ntgh", Hh)  # the diagonal t = t'
    exact = np.einsum("nta,nub,ntguh->agbh", a_bar, a_bar, Hh, optimize=True) / N
    sud = np.einsum("nta,ntb,ntgh->agbh", a_bar, a_bar, Htt, optimize=True) / N
    # location by location: the mean of the product becomes the product of the means
    A_t = np.einsum("nta,ntb->tab", a_bar, a_bar) / N
    G_t = Htt.mean(axis=0)
    sud_iad = np.einsum("tab,tgh->agbh", A_t, G_t, optimize=True)
    # and then the mean over t takes the place of every G_t
    kronecker = np.einsum("ab,gh->agbh", A_t.sum(axis=0), G_t.mean(axis=0))
    return LayerBlocks(*(M.reshape(size, size) for M in (exact, sud, sud_iad, kronecker)))


def exact_blocks(
    network: Network, params: Blocks, x: Array, target: Array, block: int
) -> LayerBlocks:
    """Return :func:`layer_blocks` of one block of a network on one batch.

    Args, raises: as :func:`output_hessian`.
    """
    first: Pass = forward_backward(network, params, x, target)
    return layer_blocks(
        first.records[block].a_bar, output_hessian(network, params, x, target, block)
    )
