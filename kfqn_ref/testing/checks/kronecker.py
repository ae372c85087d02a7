"""Laws of the named flattenings, the Kronecker product, and patches."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from kfqn_ref.testing import oracles
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.law import EVERY_SIZE, Case, equal, holds, law
from kfqn_ref.testing.strategies.axes import choose
from kfqn_ref.testing.strategies.layers import arrays, images, matrices, scaled
from kfqn_ref.testing.tolerances import Precision


def _once(f: Any, X: np.ndarray) -> float:
    """Numbers that are only moved are rounded once, to the implementation's own format."""
    return tol.rounding(f.u, 1, tol.norm(np.ravel(X)))


@law(
    "cvec stacks the columns.",
    "cvec(X)[j m + i] = X[i, j],  X (m, n)",
    chapter="kron",
    requires="cvec",
    given=matrices,
    sizes=EVERY_SIZE,
)
def cvec_order(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    m, n = X.shape
    equal(
        "cvec(X)",
        f.cvec(X),
        "columns of X, stacked",
        [X[i, j] for j in range(n) for i in range(m)],
        _once(f, X),
    )


@law(
    "rvec puts the rows one after the other.",
    "rvec(X)[i n + j] = X[i, j],  X (m, n)",
    chapter="kron",
    requires="rvec",
    given=matrices,
    sizes=EVERY_SIZE,
)
def rvec_order(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    m, n = X.shape
    equal(
        "rvec(X)",
        f.rvec(X),
        "rows of X",
        [X[i, j] for i in range(m) for j in range(n)],
        _once(f, X),
    )


@law(
    "cvec_inverse undoes the stacking of columns.",
    "cvec_inverse(columns of X, stacked; shape of X) = X",
    chapter="kron",
    requires="cvec_inverse",
    given=matrices,
    sizes=EVERY_SIZE,
)
def cvec_back(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    stacked = np.concatenate([X[:, j] for j in range(X.shape[1])])
    equal("cvec_inverse(x)", f.cvec_inverse(stacked, X.shape), "X", X, _once(f, X))


@law(
    "rvec_inverse undoes the stringing of rows.",
    "rvec_inverse(rows of X; shape of X) = X",
    chapter="kron",
    requires="rvec_inverse",
    given=matrices,
    sizes=EVERY_SIZE,
)
def rvec_back(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    strung = np.concatenate([X[i] for i in range(X.shape[0])])
    equal("rvec_inverse(x)", f.rvec_inverse(strung, X.shape), "X", X, _once(f, X))


@law(
    "The Kronecker product has A's entries as factors of copies of G.",
    "(A ⊗ G)[i c + k, j d + l] = A[i, j] G[k, l],  G (c, d)",
    chapter="kron",
    requires="kron",
    given=matrices,
    sizes=EVERY_SIZE,
)
def kron_entries(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    (a, b) = A.shape
    (c, d) = G.shape
    wanted = np.zeros((a * c, b * d))
    for i, j, k, l in np.ndindex(a, b, c, d):
        wanted[i * c + k, j * d + l] = A[i, j] * G[k, l]
    equal("A ⊗ G", f.kron(A, G), "A[i, j] G[k, l]", wanted, tol.rounding(f.u, 1, tol.norm(wanted)))


@law(
    "The Kronecker product acts on a matrix from both sides, without ever being formed.",
    "kron_matvec(A, G, X) = G X Aᵀ, so that cvec of it is (A ⊗ G) cvec(X)",
    chapter="kron",
    requires="kron_matvec",
    given=matrices,
    sizes=EVERY_SIZE,
)
def kron_action(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    wanted = np.zeros((G.shape[0], A.shape[0]))
    for k, i in np.ndindex(*wanted.shape):
        wanted[k, i] = sum(G[k, l] * X[l, j] * A[i, j] for l, j in np.ndindex(*X.shape))
    equal(
        "kron_matvec(A, G, X)", f.kron_matvec(A, G, X), "G X Aᵀ", wanted, tol.product(f.u, G, X, A)
    )
    # thirds have no short binary form: a cast to float32 on the way changes them
    thirds = f.kron_matvec(A / 3, G / 3, X / 3)
    bound = tol.product(f.u, G, X, A)
    equal("kron_matvec(A/3, G/3, X/3)", thirds, "G X Aᵀ / 27", wanted / 27, bound)


@law(
    "vec, the Kronecker product and cvec fit together.",
    "(A ⊗ G) cvec(X) = cvec(G X Aᵀ)",
    chapter="kron",
    requires="kron cvec",
    given=matrices,
)
def vec_identity(f: Any, A: np.ndarray, G: np.ndarray, X: np.ndarray) -> None:
    left = f.kron(A, G) @ f.cvec(X)
    equal(
        "(A ⊗ G) cvec(X)", left, "cvec(G X Aᵀ)", f.cvec(G @ X @ A.T), 2 * tol.product(f.u, A, G, X)
    )


def _fits(case: Case) -> bool:
    """Whether the kernel fits the image without padding, and without dilation."""
    kernel = case["geometry"]["kernel_size"]
    return all(k <= n for k, n in zip(kernel, case["x"].shape[2:], strict=True))


@law(
    "A patch is what the kernel covers at one location: channel by channel, row by row, "
    "zeros outside the "
    "image.",
    "im2col(x)[n, t, (c, i, j)] = x[n, c, row(t) + i d, column(t) + j d]",
    chapter="patches",
    requires="im2col",
    given=images,
    sizes=EVERY_SIZE,
)
def im2col_entries(f: Any, x: np.ndarray, geometry: dict[str, Any]) -> None:
    kernel = geometry["kernel_size"]
    rest = {k: v for k, v in geometry.items() if k != "kernel_size"}
    wanted = oracles.patches(x, **geometry)
    bound = 4 * _once(f, x)
    equal("im2col(x)", f.im2col(x, kernel, **rest), "patches by loops", wanted, bound)
    equal("im2col(x/3)", f.im2col(x / 3, kernel, **rest), "patches / 3", wanted / 3, bound)


def _defaults_of(case: Case) -> Case:
    return {"x": case["x"], "kernel": case["geometry"]["kernel_size"]}


@law(
    "Where nothing else is said, a patch is taken at every location, without padding.",
    "stride = 1, padding = 0 and dilation = 1 by default",
    chapter="patches",
    requires="im2col",
    given=lambda precision: images(precision).filter(_fits).map(_defaults_of),
)
def im2col_defaults(f: Any, x: np.ndarray, kernel: tuple[int, int]) -> None:
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    wanted = oracles.patches(x, kernel, **plain)
    equal("im2col(x, kernel)", f.im2col(x, kernel), "patches by loops", wanted, 4 * _once(f, x))


@law(
    "Where nothing else is said, the images are those of patches at every location, without "
    "padding.",
    "stride = 1, padding = 0 and dilation = 1 by default",
    chapter="patches",
    requires="col2im",
    given=lambda precision: images(precision).filter(_fits).map(_defaults_of),
)
def col2im_defaults(f: Any, x: np.ndarray, kernel: tuple[int, int]) -> None:
    plain = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    cols = oracles.patches(x, kernel, **plain)
    back = f.col2im(cols, x.shape, kernel)
    holds("shape of col2im(c)", back.shape, "shape of x", x.shape)
    bound = tol.product(f.u, cols.ravel(), cols.ravel())
    equal("⟨x, col2im(c)⟩", np.sum(x * back), "⟨im2col(x), c⟩", np.sum(cols * cols), bound)


@st.composite
def columns(draw: DrawFn, precision: Precision) -> Case:
    case = dict(draw(images(precision)))
    shape = oracles.patches(case["x"], **case["geometry"]).shape
    (c,) = scaled(draw, precision, draw(arrays(*shape)), axis="vector")
    return case | {"c": c}


@law(
    "col2im is the adjoint of im2col: it adds every patch entry where im2col read it.",
    "⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩",
    chapter="patches",
    requires="col2im",
    given=columns,
    sizes=EVERY_SIZE,
)
def col2im_adjoint(f: Any, x: np.ndarray, geometry: dict[str, Any], c: np.ndarray) -> None:
    kernel = geometry["kernel_size"]
    rest = {k: v for k, v in geometry.items() if k != "kernel_size"}
    back = f.col2im(c, x.shape, kernel, **rest)
    holds("shape of col2im(c)", back.shape, "shape of x", x.shape)
    cols = oracles.patches(x, **geometry)
    bound = tol.product(f.u, cols.ravel(), c.ravel())
    equal("⟨im2col(x), c⟩", np.sum(cols * c), "⟨x, col2im(c)⟩", np.sum(x * back), bound)
    third = np.sum(x * f.col2im(c / 3, x.shape, kernel, **rest))
    equal("⟨x, col2im(c/3)⟩", third, "⟨im2col(x), c⟩ / 3", np.sum(cols * c) / 3, bound)


@st.composite
def inputs_without_bias(draw: DrawFn, precision: Precision) -> Case:
    (a,) = scaled(
        draw, precision, draw(arrays(*(choose(draw, axis) for axis in ("N", "T", "d_a"))))
    )
    return {"a": a}


@law(
    "The bias entry of an input is 1, and comes last.",
    "ā = (a, 1)",
    chapter="patches",
    requires="append_one",
    given=inputs_without_bias,
    sizes=EVERY_SIZE,
)
def append_last(f: Any, a: np.ndarray) -> None:
    wanted = np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2)
    equal("append_one(a)", f.append_one(a), "(a, 1)", wanted, _once(f, wanted))
