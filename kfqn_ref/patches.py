"""Patches: a convolution as a matrix product (book: convolutions).

``im2col`` lays out the patch that each output location sees as one row; ``col2im`` is its adjoint:
``<im2col(x), cols> = <x, col2im(cols)>``. Features are in the order (channel, row, column).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kfqn_ref._typing import Array, Inexact, checked

Size = int | tuple[int, int]


def pair_of(size: Size) -> tuple[int, int]:
    """Return ``size`` as (rows, columns); one int means both."""
    return (size, size) if isinstance(size, int) else size


@checked
def output_size(
    size: tuple[int, int],
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
) -> tuple[int, int]:
    """Return the number of output locations (rows, columns) of a convolution on an image of
    ``size``.

    Raises:
        ValueError: kernel, stride or dilation is not positive, padding is negative, or the kernel
            does not fit the padded image.
    """
    sizes = []
    options = zip(
        pair_of(kernel_size), pair_of(stride), pair_of(padding), pair_of(dilation), strict=True
    )
    for n, (k, step, pad, dil) in zip(size, options, strict=True):
        if min(k, step, dil) < 1 or pad < 0:
            raise ValueError(
                "kernel, stride, dilation must be >= 1, padding >= 0, "
                f"got {k}, {step}, {dil}, {pad}"
            )
        out = (n + 2 * pad - dil * (k - 1) - 1) // step + 1
        if n + 2 * pad < dil * (k - 1) + 1:
            raise ValueError(
                f"kernel of {k} (dilation {dil}) must fit the padded image of {n + 2 * pad}"
            )
        sizes.append(out)
    return sizes[0], sizes[1]


@checked
def im2col(
    x: Inexact[Array, "N C H W"],
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
) -> Inexact[Array, "N T CK"]:
    """Return the input patches ``ā_t`` of (5.1) at all output locations, zero padded.

    Args:
        x: images, (N, C, H, W).
        kernel_size, stride, padding, dilation: as in a convolution; one int or (rows, columns).

    Returns:
        Patches, (N, T, C·kh·kw): location t = row by row, feature = (channel, kernel row, kernel
        column).

    Raises:
        ValueError: as :func:`output_size`.

    Source: grosse2016kfc.
    """
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair_of, (kernel_size, stride, padding, dilation))
    N, C = x.shape[:2]
    out_h, out_w = output_size(
        x.shape[2:], kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = sliding_window_view(x, (dh * (kh - 1) + 1, dw * (kw - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::sh, ::sw, ::dh, ::dw]  # (N, C, out_h, out_w, kh, kw)
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(N, out_h * out_w, C * kh * kw)


@checked
def col2im(
    cols: Inexact[Array, "N T CK"],
    x_shape: tuple[int, int, int, int],
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
) -> Inexact[Array, "N C H W"]:
    """Return the images in which every patch entry of (5.1) is added where :func:`im2col` read it.

    Args:
        cols: (N, T, C·kh·kw), laid out as by :func:`im2col`.
        x_shape: shape (N, C, H, W) of the images.
        kernel_size, stride, padding, dilation: as for :func:`im2col`.

    Raises:
        ValueError: as :func:`output_size`, or ``cols`` does not have the shape that ``im2col``
            gives.
    """
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair_of, (kernel_size, stride, padding, dilation))
    N, C, H, W = x_shape
    out_h, out_w = output_size(
        (H, W), kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    if cols.shape != (N, out_h * out_w, C * kh * kw):
        raise ValueError(
            f"cols must have shape {(N, out_h * out_w, C * kh * kw)}, got {cols.shape}"
        )
    patches = cols.reshape(N, out_h, out_w, C, kh, kw)
    x = np.zeros((N, C, H + 2 * ph, W + 2 * pw), cols.dtype)
    for i in range(kh):
        for j in range(kw):
            # the pixels that this kernel entry reads, one a location
            rows = slice(i * dh, i * dh + sh * (out_h - 1) + 1, sh)
            columns = slice(j * dw, j * dw + sw * (out_w - 1) + 1, sw)
            x[:, :, rows, columns] += patches[..., i, j].transpose(0, 3, 1, 2)
    return x[:, :, ph : ph + H, pw : pw + W]


@checked
def append_one(a: Inexact[Array, "N T d"]) -> Inexact[Array, "N T d1"]:
    """Return ``ā`` (4.1): the inputs with a 1 appended **last**, as the bias is the last column."""
    return np.concatenate([a, np.ones((*a.shape[:2], 1), a.dtype)], axis=2)
