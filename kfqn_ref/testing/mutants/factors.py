"""Mistakes in flattenings, patches, factors, pairs and the recorded quantities."""

from dataclasses import replace
from typing import Any

import numpy as np

import kfqn_ref as ref
from kfqn_ref import Pair, factors, hessian, kronecker, patches
from kfqn_ref.layers import Record
from kfqn_ref.testing.mutants.registry import mutant

Array = np.ndarray
_hessian_action = factors.hessian_action  # before a mutant of the optimizer replaces it there


@mutant("cvec", "rows instead of columns")
def rows(X: Array) -> Array:
    return kronecker.rvec(X)


@mutant("rvec", "columns instead of rows")
def columns(X: Array) -> Array:
    return kronecker.cvec(X)


@mutant("cvec_inverse", "rows filled instead of columns")
def fills_rows(x: Array, shape: tuple[int, int]) -> Array:
    return x.reshape(shape)


@mutant("rvec_inverse", "columns filled instead of rows")
def fills_columns(x: Array, shape: tuple[int, int]) -> Array:
    return x.reshape(shape, order="F")


@mutant("kron", "A and G swapped: G ⊗ A")
def swapped(A: Array, G: Array) -> Array:
    return np.kron(G, A)


@mutant("kron_matvec", "A and G swapped: A X Gᵀ")
def applied_left(A: Array, G: Array, X: Array) -> Array:
    return A @ X @ G.T


@mutant("kron_matvec", "A not transposed")
def not_transposed(A: Array, G: Array, X: Array) -> Array:
    return G @ X @ A


@mutant("im2col", "kernel rows and columns swapped")
def kernel_transposed(x: Array, kernel_size: Any, **geometry: Any) -> Array:
    cols = patches.im2col(x, kernel_size, **geometry)
    kh, kw = kernel_size
    return cols.reshape(*cols.shape[:2], -1, kh, kw).swapaxes(3, 4).reshape(cols.shape)


@mutant("im2col", "locations column by column")
def column_major(x: Array, kernel_size: Any, **geometry: Any) -> Array:
    return patches.im2col(
        x.swapaxes(2, 3), kernel_size[::-1], **{k: v[::-1] for k, v in geometry.items()}
    )


@mutant("im2col", "the kernel flipped: a convolution instead of a correlation")
def flipped(x: Array, kernel_size: Any, **geometry: Any) -> Array:
    cols = patches.im2col(x, kernel_size, **geometry)
    size = kernel_size[0] * kernel_size[1]
    return cols.reshape(*cols.shape[:2], -1, size)[..., ::-1].reshape(cols.shape)


@mutant("im2col", "edge values instead of zeros as padding")
def edge_padding(x: Array, kernel_size: Any, *, stride: Any, padding: Any, dilation: Any) -> Array:
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2), mode="edge")
    return patches.im2col(padded, kernel_size, stride=stride, dilation=dilation)


@mutant("im2col", "as far apart as the kernel is wide, where no stride is given")
def wide_default(x: Array, kernel_size: Any, **geometry: Any) -> Array:
    return patches.im2col(x, kernel_size, **({"stride": kernel_size} | geometry))


@mutant("col2im", "as far apart as the kernel is wide, where no stride is given")
def wide_columns(cols: Array, x_shape: Any, kernel_size: Any, **geometry: Any) -> Array:
    return patches.col2im(cols, x_shape, kernel_size, **({"stride": kernel_size} | geometry))


@mutant("col2im", "overlapping patches overwrite instead of adding up")
def overwrites(cols: Array, x_shape: Any, kernel_size: Any, **geometry: Any) -> Array:
    counts = patches.col2im(np.ones(cols.shape), x_shape, kernel_size, **geometry)
    return patches.col2im(cols, x_shape, kernel_size, **geometry) / np.maximum(counts, 1)


@mutant("append_one", "the bias entry first instead of last")
def bias_first(a: Array) -> Array:
    return np.concatenate([np.ones((*a.shape[:2], 1)), a], axis=2)


@mutant("append_one", "the mean of the input appended instead of 1")
def appends_mean(a: Array) -> Array:
    return np.concatenate([a, a.mean(axis=2, keepdims=True)], axis=2)


@mutant("input_factor", "A divided by |T|")
def factor_per_location(a_bar: Array) -> Array:
    return ref.input_factor(a_bar) / a_bar.shape[1]


@mutant("input_factor", "A summed over the batch, not averaged")
def factor_summed(a_bar: Array) -> Array:
    return ref.input_factor(a_bar) * len(a_bar)


@mutant("input_factor", "the covariance instead of the second moment: the mean subtracted")
def centred(a_bar: Array) -> Array:
    return ref.input_factor(a_bar - a_bar.mean(axis=(0, 1)))


@mutant("input_mean", "the sum over locations instead of the mean")
def mean_summed(a_bar: Array) -> Array:
    return a_bar.sum(axis=1).mean(axis=0)


@mutant("hessian_action", "the Hessian action divided by |T|")
def action_per_location(a_bar: Array, v: Array) -> Array:
    return _hessian_action(a_bar, v) / a_bar.shape[1]


@mutant("hessian_action", "the inputs averaged before the product: ā̄ ā̄ᵀ v")
def action_of_mean(a_bar: Array, v: Array) -> Array:
    mean = a_bar.mean(axis=(0, 1))
    return a_bar.shape[1] * mean * (mean @ v)


@mutant("conv_hessian_action", "the bias entry of v is forgotten")
def action_without_bias(conv: Any, a: Array, v: Array) -> Array:
    without = np.append(v[:-1], 0.0) if conv.bias else v
    return factors.conv_hessian_action(conv, a, without)


@mutant("conv_hessian_action", "the padding is forgotten")
def action_without_padding(conv: Any, a: Array, v: Array) -> Array:
    tight = replace(conv, padding=(0, 0))
    fits = all(
        n > d * (k - 1)
        for n, d, k in zip(a.shape[2:], conv.dilation, conv.kernel_size, strict=True)
    )
    taken = tight if fits else conv
    return factors.conv_hessian_action(taken, a, v)


@mutant("input_pair", "λ_A s is missing in y")
def pair_without_lambda(H_a: Any, a_mean: Array, A: Array, *, lam: float) -> Pair:
    return ref.input_pair(H_a, a_mean, A, lam=0.0)


@mutant("input_pair", "y = A ā̄ + λ ā̄: the step is not used")
def pair_of_mean(H_a: Any, a_mean: Array, A: Array, *, lam: float) -> Pair:
    s = H_a @ a_mean
    action = A @ a_mean if A.ndim == 2 else ref.hessian_action(A, a_mean)
    return Pair(s, action + lam * a_mean)


@mutant("output_pair", "s taken from the gradients instead of the outputs")
def pair_of_gradients(first: Record, second: Record) -> Pair:
    y = (second.Dh - first.Dh).mean(axis=(0, 1))
    return Pair(y, y)


@mutant("output_pair", "1/|T| missing in y")
def pair_summed(first: Record, second: Record) -> Pair:
    s, y = ref.output_pair(first, second)
    return Pair(s, y * first.h.shape[1])


@mutant("output_pair", "Dh not multiplied by N: the gradient of the mean loss in y")
def pair_of_mean_loss(first: Record, second: Record) -> Pair:
    s, y = ref.output_pair(first, second)
    return Pair(s, y / len(first.h))


@mutant("output_pair", "the difference taken backwards in s")
def pair_backwards(first: Record, second: Record) -> Pair:
    s, y = ref.output_pair(first, second)
    return Pair(-s, y)


@mutant("average_pair", "the weights of the moving average swapped")
def average_swapped(old: Pair, new: Pair, *, decay: float) -> Pair:
    return factors.average_pair(new, old, decay=decay) if decay else old


@mutant("average_pair", "s is averaged, y is not")
def average_half(old: Pair, new: Pair, *, decay: float) -> Pair:
    return Pair(factors.average_pair(old, new, decay=decay).s, new.y)


@mutant("output_factor", "1/|T| missing in G")
def g_summed(Hh: Array) -> Array:
    return hessian.output_factor(Hh) * Hh.shape[1]


@mutant("layer_blocks", "the terms between different locations are missing in the exact block")
def exact_is_sud(a_bar: Array, Hh: Array) -> Any:
    blocks = hessian.layer_blocks(a_bar, Hh)
    return blocks._replace(exact=blocks.sud)


@mutant("layer_blocks", "A and G swapped in the Kronecker product")
def blocks_swapped(a_bar: Array, Hh: Array) -> Any:
    G = hessian.output_factor(Hh)
    A = ref.input_factor(a_bar)
    return hessian.layer_blocks(a_bar, Hh)._replace(kronecker=np.kron(G, A))


@mutant("layer_blocks", "A divided by |T| as well as G")
def blocks_per_location(a_bar: Array, Hh: Array) -> Any:
    blocks = hessian.layer_blocks(a_bar, Hh)
    return blocks._replace(kronecker=blocks.kronecker / a_bar.shape[1])


def _with_records(change: Any) -> Any:
    def pass_with(network: Any, params: Any, x: Array, target: Array) -> Any:
        found = ref.forward_backward(network, params, x, target)
        return found._replace(records=tuple(map(change, found.records)))

    return pass_with


@mutant("forward_backward", "Dh with the 1/N of the mean loss")
def dh_of_mean(network: Any, params: Any, x: Array, target: Array) -> Any:
    return _with_records(lambda r: r._replace(Dh=r.Dh / len(r.Dh)))(network, params, x, target)


@mutant("forward_backward", "the recorded outputs are those after the gradient: h replaced by Dh")
def h_is_dh(network: Any, params: Any, x: Array, target: Array) -> Any:
    return _with_records(lambda r: r._replace(h=r.Dh))(network, params, x, target)


@mutant("forward_backward", "gradients summed over the batch")
def gradient_summed(network: Any, params: Any, x: Array, target: Array) -> Any:
    found = ref.forward_backward(network, params, x, target)
    return found._replace(grads=tuple(g * len(x) for g in found.grads))


@mutant("forward_backward", "the gradient of the bias column is left at zero")
def gradient_without_bias(network: Any, params: Any, x: Array, target: Array) -> Any:
    found = ref.forward_backward(network, params, x, target)
    return found._replace(grads=tuple(np.hstack([g[:, :-1], 0 * g[:, -1:]]) for g in found.grads))


@mutant("output_hessian", "second derivatives averaged over the batch already")
def hessian_averaged(network: Any, params: Any, x: Array, target: Array, block: int) -> Array:
    return hessian.output_hessian(network, params, x, target, block) / len(x)


@mutant(
    "output_hessian",
    "the Gauss-Newton part of one output only: off-diagonal second derivatives missing",
)
def hessian_diagonal(network: Any, params: Any, x: Array, target: Array, block: int) -> Array:
    Hh = hessian.output_hessian(network, params, x, target, block)
    N, T, d_g = Hh.shape[:3]
    return (Hh.reshape(N, T * d_g, T * d_g) * np.eye(T * d_g)).reshape(Hh.shape)
