"""Slow, independent derivations: explicit loops for what layers see, complex steps for every
derivative.

Nothing here calls the reference's forward or backward pass: layers and losses are read as
descriptions only. The derivative of f along e is Im f(x + iεe)/ε, exact to rounding because nothing
is subtracted (squire1998).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

_EPS = 1e-30


def two(size: int | tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of an option that may be one int."""
    return (size, size) if isinstance(size, int) else size


def windows(
    shape: tuple[int, int], kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1
) -> Iterator[Any]:
    """For every output location the list of (kernel entry, row, column) that lie inside the
    image.
    """
    (H, W), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        shape,
        *map(two, (kernel, stride, padding, dilation)),
    )
    for top in range(-ph, H + ph - dh * (kh - 1), sh):
        for left in range(-pw, W + pw - dw * (kw - 1), sw):
            reads = [
                (i * kw + j, top + i * dh, left + j * dw) for i in range(kh) for j in range(kw)
            ]
            yield [read for read in reads if 0 <= read[1] < H and 0 <= read[2] < W]


def patches(
    x: np.ndarray, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> np.ndarray:
    """Patches (N, T, C·kh·kw) by loops over locations, channels and kernel entries."""
    N, C = x.shape[:2]
    area = int(np.prod(two(kernel_size)))
    rows = []
    for window in windows(x.shape[2:], kernel_size, stride, padding, dilation):
        row = np.zeros((N, C * area), x.dtype)
        for c in range(C):
            for entry, i, j in window:
                row[:, c * area + entry] = x[:, c, i, j]
        rows.append(row)
    return np.stack(rows, axis=1)


def bars(layer: Any, x: np.ndarray) -> list[np.ndarray]:
    """ā of every block of a layer, (N, T, d_a), the 1 last."""
    if type(layer).__name__ == "Linear":
        found = [x.reshape(len(x), -1, layer.d_in)]
    else:
        parts = np.split(x, layer.groups, axis=1)
        found = [
            patches(part, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            for part in parts
        ]
    if layer.bias:
        found = [np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2) for a in found]
    return found


def factor(a_bar: np.ndarray) -> np.ndarray:
    """A of (4.5), one outer product after the other."""
    N, T, d_a = a_bar.shape
    A = np.zeros((d_a, d_a))
    for n in range(N):
        for t in range(T):
            A += np.outer(a_bar[n, t], a_bar[n, t])
    return A / N


def _pooled(layer: Any, x: np.ndarray) -> np.ndarray:
    stride = layer.kernel_size if layer.stride is None else layer.stride
    cells = []
    for window in windows(x.shape[2:], layer.kernel_size, stride):
        values = np.stack([x[:, :, i, j] for _, i, j in window], axis=2)  # (N, C, entries)
        if type(layer).__name__ == "AvgPool2d":
            cells.append(values.mean(axis=2))
        else:
            top = np.real(values).argmax(axis=2)
            cells.append(np.take_along_axis(values, top[..., None], axis=2)[..., 0])
    return np.stack(cells, axis=2).reshape(
        *x.shape[:2], *_grid(x.shape[2:], layer.kernel_size, stride)
    )


def _grid(
    shape: tuple[int, int], kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1
) -> tuple[int, int]:
    sizes = zip(shape, *map(two, (kernel, stride, padding, dilation)), strict=True)
    rows, columns = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
    return rows, columns


def _shaped(layer: Any, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, T, C_out) as the layer's output."""
    if type(layer).__name__ == "Linear":
        return h.reshape(*x.shape[:-1], layer.d_out)
    grid = _grid(x.shape[2:], layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return h.transpose(0, 2, 1).reshape(len(x), layer.out_channels, *grid)


def _plain(layer: Any, x: np.ndarray) -> np.ndarray:
    """Layers without weights."""
    match type(layer).__name__:
        case "ReLU":
            return np.where(np.real(x) > 0, x, 0)
        case "Tanh":
            return np.tanh(x)
        case "Sigmoid":
            return 1 / (1 + np.exp(-x))
        case "Flatten":
            return x.reshape(len(x), -1)
        case _:
            return _pooled(layer, x)


def run(
    layers: Any, params: Any, x: np.ndarray, shift: dict[int, np.ndarray] | None = None
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Outputs, and ā and h of every block; ``shift[block]`` (N, T, d_g) is added to that block's
    h.
    """
    found_bars = []
    found_h = []
    for layer in layers:
        if not layer.block_shapes:
            x = _plain(layer, x)
            continue
        hs = []
        for a_bar in bars(layer, x):
            block = len(found_h)
            h = a_bar @ params[block].T + (shift or {}).get(block, 0)
            hs.append(h)
            found_bars.append(a_bar)
            found_h.append(h)
        x = _shaped(layer, np.concatenate(hs, axis=2), x)
    return x, found_bars, found_h


def losses(loss: Any, z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Per-sample losses (N,)."""
    match type(loss).__name__:
        case "SoftmaxCrossEntropy":
            return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), target]
        case "MeanSquaredError":
            return ((z - target) ** 2).reshape(len(z), -1).mean(axis=1)
        case _:
            return (np.log(1 + np.exp(z)) - target * z).reshape(len(z), -1).sum(axis=1)


def weight_gradients(
    network: Any, params: Any, x: np.ndarray, target: np.ndarray
) -> list[np.ndarray]:
    """∇_W f of every block, one complex step an entry."""
    gradients = []
    for block, W in enumerate(params):
        g = np.empty(W.shape)
        for index in np.ndindex(*W.shape):
            moved = [np.array(V, dtype=complex) for V in params]
            moved[block][index] += 1j * _EPS
            g[index] = (
                losses(network.loss, run(network.layers, moved, x)[0], target).mean().imag / _EPS
            )
        gradients.append(g)
    return gradients


def output_gradients(
    network: Any,
    params: Any,
    x: np.ndarray,
    target: np.ndarray,
    shift: dict[int, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Dh of every block, (N, T, d_g): the per-sample loss's derivative along each entry of h, all
    steps as one batch.

    ``shift[block]`` is added to that block's h first.
    """
    found = []
    for block, h in enumerate(run(network.layers, params, x)[2]):
        N, T, d_g = h.shape
        copies = T * d_g
        steps = np.tile(1j * _EPS * np.eye(copies), (N, 1)).reshape(N * copies, T, d_g)
        shifts = {other: np.repeat(d, copies, axis=0) for other, d in (shift or {}).items()}
        shifts[block] = steps + shifts.get(block, 0)
        outputs = run(network.layers, params, np.repeat(x, copies, axis=0), shifts)[0]
        many = losses(network.loss, outputs, np.repeat(target, copies, axis=0))
        found.append(np.imag(many).reshape(N, T, d_g) / _EPS)
    return found
