# ruff: noqa: D103  # each is one formula or operation, said by its name
"""Operations of the models that have a wrong neighbour: rows from the other end, a sum for a mean.

``NEIGHBOURS`` says, for each operation, what stands in its place by mistake: a label and an
expression in which ``{0}`` is the first argument.
"""

from typing import Any

import numpy as np

Array = np.ndarray


def identity(s: Array) -> Array:
    return np.eye(len(s))


def outer(a: Array, b: Array) -> Array:
    return np.outer(a, b)


def root(x: Any) -> Any:
    return np.sqrt(x)


def zeros(x: Any) -> Any:
    return 0.0 * np.asarray(x, dtype=float)


def last_rows(X: Array, k: int) -> Array:
    return X[-k:]


def first_rows(X: Array, k: int) -> Array:
    return X[:k]


def joined(X: Array, x: Array) -> Array:
    return np.vstack([X, x])


def inverse(X: Array) -> Array:
    return np.linalg.inv(X)


def upper(X: Array) -> Array:
    return np.triu(X)


def diag(X: Array) -> Array:
    return np.diag(np.diag(X))


def block_matrix(a: Array, b: Array, c: Array) -> Array:
    return np.block([[a, b], [c, np.zeros_like(c)]])


def padded(x: Array, ph: int, pw: int) -> Array:
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def patches(x: Array, kh: int, kw: int, sh: int, sw: int, dh: int, dw: int) -> Array:
    """Windows (N, rows, columns, C, kh, kw)."""
    size = dh * (kh - 1) + 1, dw * (kw - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    return windows[:, :, ::sh, ::sw, ::dh, ::dw].transpose(0, 2, 3, 1, 4, 5)


def flat(windows: Array) -> Array:
    """Windows as (N, T, C kh kw)."""
    N, rows, columns = windows.shape[:3]
    return windows.reshape(N, rows * columns, -1)


def ones_last(a: Array) -> Array:
    return np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2)


def entries(path: str, *arrays: Array) -> Array:
    return np.einsum(path, *arrays)


def tensor_product(A: Array, G: Array) -> Array:
    return np.kron(A, G)


def mean_samples(x: Array) -> Array:
    return x.mean(axis=0)


def sum_samples(x: Array) -> Array:
    return x.sum(axis=0)


def mean_locations(x: Array) -> Array:
    return x.mean(axis=0)


def sum_locations(x: Array) -> Array:
    return x.sum(axis=0)


def cut(v: Array, bias: bool) -> tuple[Array, float]:
    """The entries of v for the kernel, and the one for the bias."""
    return (v[:-1], v[-1]) if bias else (v, 0.0)


def pieces(weights: Array, last: float, bias: bool) -> Array:
    return np.append(weights, last) if bias else weights


# An order of the features, or of the locations, that differs from the one wanted.
def _channel_last(windows: Array) -> Array:
    return flat(windows.transpose(0, 1, 2, 4, 5, 3))


def _columns_first(windows: Array) -> Array:
    return flat(windows.transpose(0, 2, 1, 3, 4, 5))


def _kernel_transposed(windows: Array) -> Array:
    return flat(windows.transpose(0, 1, 2, 3, 5, 4))


def _flipped(windows: Array) -> Array:
    return flat(windows[..., ::-1, ::-1])


def _ones_first(a: Array) -> Array:
    return np.concatenate([np.ones((*a.shape[:2], 1)), a], axis=2)


def _zeros_last(a: Array) -> Array:
    return np.concatenate([a, np.zeros((*a.shape[:2], 1))], axis=2)


NEIGHBOURS: dict[str, list[tuple[str, str]]] = {
    "outer": [
        ("the outer product is transposed", "outer({1}, {0})"),
        ("a product entry by entry, where an outer product belongs", "{0} * {1}"),
        ("a number, where an outer product belongs", "{0} @ {1}"),
        ("a vector, where an outer product belongs: NumPy adds it to every row", "{0}"),
        ("only the diagonal of the outer product", "diag(outer({0}, {1}))"),
    ],
    "identity": [("the identity is missing", "0 * identity({0})"),
                 ("a matrix of ones, where the identity belongs", "1 + 0 * identity({0})")],
    "root": [("the square root is missing", "{0}"), ("a square, where a root belongs", "{0} ** 2")],
    "last_rows": [
        ("a full memory drops the newest pairs and keeps the oldest", "first_rows({0}, {1})"),
        ("one pair too many is kept", "last_rows({0}, {1} + 1)"),
        ("one pair too few is kept", "{0}[max(0, len({0}) - max(1, {1} - 1)):]"),
        ("nothing is ever dropped", "{0}"),
        ("the newest pair stands first", "{0}[::-1][:{1}]"),
    ],
    "joined": [("the two are stacked in the other order", "joined({1}, {0})")],
    "inverse": [("the inverse is missing", "{0}"), ("the inverse is transposed", "inverse({0}).T")],
    "upper": [
        ("the lower triangle, where the upper one belongs", "np.tril({0})"),
        ("all entries, where the upper triangle belongs", "{0}"),
        ("the upper triangle without the diagonal", "np.triu({0}, 1)"),
    ],
    "diag": [("all entries, where the diagonal belongs", "{0}"),
             ("the diagonal is missing", "zeros({0})")],
    "padded": [
        ("the padding of rows and columns is exchanged", "padded({0}, {2}, {1})"),
        ("the padding is left out", "padded({0}, 0, 0)"),
        ("the padding of the rows serves both", "padded({0}, {1}, {1})"),
        ("the padding of the columns serves both", "padded({0}, {2}, {2})"),
        ("the padding does not hold zeros but copies of the edge",
         "np.pad({0}, ((0, 0), (0, 0), ({1}, {1}), ({2}, {2})), mode='edge')"),
    ],
    "patches": [
        ("the kernel's rows and columns are exchanged",
         "patches({0}, {2}, {1}, {3}, {4}, {5}, {6})"),
        ("the stride of rows and columns is exchanged",
         "patches({0}, {1}, {2}, {4}, {3}, {5}, {6})"),
        ("the stride of the rows serves both", "patches({0}, {1}, {2}, {3}, {3}, {5}, {6})"),
        ("the stride of the columns serves both", "patches({0}, {1}, {2}, {4}, {4}, {5}, {6})"),
        ("the stride is left out", "patches({0}, {1}, {2}, 1, 1, {5}, {6})"),
        ("the dilation of rows and columns is exchanged",
         "patches({0}, {1}, {2}, {3}, {4}, {6}, {5})"),
        ("the dilation of the rows serves both", "patches({0}, {1}, {2}, {3}, {4}, {5}, {5})"),
        ("the dilation of the columns serves both", "patches({0}, {1}, {2}, {3}, {4}, {6}, {6})"),
        ("the dilation is left out", "patches({0}, {1}, {2}, {3}, {4}, 1, 1)"),
        ("the dilation is left out, though the locations are counted with it",
         "patches({0}, {1}, {2}, {3}, {4}, 1, 1)"
         "[:, :({0}.shape[2] - {5} * ({1} - 1) - 1) // {3} + 1,"
         " :({0}.shape[3] - {6} * ({2} - 1) - 1) // {4} + 1]"),
    ],
    "flat": [
        ("the channel varies fastest; it must vary slowest", "_channel_last({0})"),
        ("the locations go column by column; they must go row by row", "_columns_first({0})"),
        ("the kernel's entries go column by column; they must go row by row",
         "_kernel_transposed({0})"),
        ("the kernel is flipped, as in a true convolution", "_flipped({0})"),
    ],
    "ones_last": [("the 1 comes first; it must come last", "_ones_first({0})"),
                  ("the last entry is 0; it must be 1", "_zeros_last({0})"),
                  ("the 1 is missing", "{0}")],
    "tensor_product": [
        ("A and G are swapped: this is G ⊗ A", "tensor_product({1}, {0})"),
        ("A is transposed", "tensor_product({0}.T, {1})"),
        ("G is transposed", "tensor_product({0}, {1}.T)"),
        ("the product is transposed", "tensor_product({0}, {1}).T"),
    ],
    "mean_samples": [("a sum over the samples n, where their mean belongs", "sum_samples({0})"),
                     ("only the first sample is used", "{0}[0]")],
    "mean_locations": [("a sum over the locations t, where their mean belongs",
                        "sum_locations({0})"),
                       ("only the first location is used", "{0}[0]")],
    "cut": [("the bias entry of v is not used", "({0}[:-1], 0.0) if {1} else ({0}, 0.0)"),
            ("the first entry of v is taken for the bias",
             "({0}[1:], {0}[0]) if {1} else ({0}, 0.0)")],
    "pieces": [("the bias entry of the result is missing", "{0}"),
               ("the bias entry of the result is 0", "pieces({0}, 0.0, {2})"),
               ("the bias entry comes first; it must come last",
                "np.append({1}, {0}) if {2} else {0}")],
    "Pair": [("s and y are swapped in the pair", "Pair({1}, {0})"),
             ("the order: a pair of the second twice", "Pair({1}, {1})"),
             ("the order: a pair of the first twice", "Pair({0}, {0})")],
    "bfgs_inverse_update": [("s and y are swapped", "bfgs_inverse_update({0}, {2}, {1})"),
                            ("the update is left out", "{0}")],
    "range": [("the first pair is left out", "range(min(1, {0}), {0})"),
              ("the last pair is left out", "range(max(0, {0} - 1))")],
    "reversed": [("the loop runs from the oldest to the newest; it must run the other way",
                  "list({0})")],
    "list": [("the pairs are taken in the other order: the newest first", "list({0})[::-1]"),
             ("the newest pair is left out", "list({0})[:-1]"),
             ("the oldest pair is left out", "list({0})[1:]")],
}  # fmt: skip  # a mistake a line
