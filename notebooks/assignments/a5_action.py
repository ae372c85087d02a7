# ---
# jupyter:
#   kfqn:
#     refuse: [Conv2d.forward, Conv2d.backward]
# ---

# %% [markdown]
# # Assignment 5: the Hessian action of a convolution, without patches
#
# **Time** 75-90 minutes · **Points** 20 by tests, 2 by hand · **Read first** the chapter *Hessian action*
#
# ## What you will be able to do
#
# * multiply with $A$ without forming it;
# * do the same for a convolution without storing a single patch, by two convolutions with one output channel;
# * make the input-side curvature pair of the method from it.
#
# ## How it is graded
#
# | part | law | points |
# |---|---|---|
# | `action` | $A v$ without $A$ | 4 |
# | `convolution` | $A v$ without patches: every kernel, stride, padding, dilation, with and without bias | 10 |
# | `mean` | $\bar{\bar a}$ | 2 |
# | `pair` | $s = H_a \bar{\bar a}$, $y = A s + \lambda_A s$ | 4 |
# | `cost` | by hand: multiply-adds and memory, against forming $A$ | 2 |
#
# Rubric of `cost`: 1 point for the work, 1 for the memory, each with the formula and the numbers of the layer given.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np

from kfqn_ref import Conv2d, Pair
from kfqn_ref.course.lesson import laws, untampered

# %% [markdown]
# ## A times v
#
# $A = \frac1N \sum_{n,t} \bar a_{n,t} \bar a_{n,t}^\top$, so with $u_{n,t} = \bar a_{n,t}^\top v$ we have
# $A v = \frac1N \sum_{n,t} u_{n,t}\, \bar a_{n,t}$: two passes over the data instead of a matrix.


# %% nbgrader={"grade_id": "hessian_action", "solution": true}
def hessian_action(a_bar, v):
    """Return A v, (d_a,), from a_bar (N, T, d_a) and v (d_a,), never forming A."""
    ### BEGIN SOLUTION
    u = a_bar @ v  # (N, T)
    return np.einsum("nt,nta->a", u, a_bar) / len(a_bar)
    ### END SOLUTION


# %% nbgrader={"grade_id": "action", "points": 4}
laws(globals(), "factors.action_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "factors.action_formula", seed=64011, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## Without patches
#
# For a convolution, $u = \mathrm{conv}(a, v)$ with $v$ as the kernel of a convolution with **one** output channel (and its last entry as the
# bias, where the layer has one), and $\sum_t u_t \bar a_t$ is the weight gradient of that convolution. Both are sums over the kernel's
# entries $(i, j)$ of shifted images: slice the padded image, multiply, add. Nothing of size $N \times T \times d_a$ is ever stored.
#
# `conv` is a `Conv2d` with `in_channels`, `kernel_size`, `stride`, `padding`, `dilation` (each a pair rows, columns) and `bias`; one group.
# The entries of $v$ are in the order channel, kernel row, kernel column, then the bias entry.
# The package's `im2col` and the layer's own `forward` are not there for this.


# %% nbgrader={"grade_id": "conv_hessian_action", "solution": true}
def conv_hessian_action(conv, a, v):
    """Return A v, (d_a,), from the input a (N, C, H, W) of the layer, without patches."""
    ### BEGIN SOLUTION
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
    )
    N, C, H, W = a.shape
    rows, columns = (
        (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1,
        (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1,
    )
    padded = np.pad(a, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    kernel = v[: C * kh * kw].reshape(C, kh, kw)

    def shifted(i, j):
        top, left = i * dh, j * dw
        return padded[
            :, :, top : top + sh * (rows - 1) + 1 : sh, left : left + sw * (columns - 1) + 1 : sw
        ]

    u = np.full((N, rows, columns), v[-1] if conv.bias else 0.0)
    for i in range(kh):
        for j in range(kw):
            u = u + np.einsum("nchw,c->nhw", shifted(i, j), kernel[:, i, j])
    out = np.empty((C, kh, kw))
    for i in range(kh):
        for j in range(kw):
            out[:, i, j] = np.einsum("nchw,nhw->c", shifted(i, j), u)
    flat = np.concatenate([out.ravel(), [u.sum()]]) if conv.bias else out.ravel()
    return flat / N
    ### END SOLUTION


# %% nbgrader={"grade_id": "convolution", "points": 10}
laws(globals(), "factors.convolution_action", examples=60)
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "factors.convolution_action", seed=64012, examples=100)
### END HIDDEN TESTS

# %% [markdown]
# ## The input pair
#
# The step is $s = H_a \bar{\bar a}$, where $\bar{\bar a}$ is the mean input over samples **and** locations; its curvature is known without a
# second pass (6.2): $y = A s + \lambda s$. The third argument is either $A$ itself, $(d_a, d_a)$, or the inputs $\bar a$, $(N, T, d_a)$.


# %% nbgrader={"grade_id": "input_side", "solution": true}
def input_mean(a_bar):
    """Return the mean input, (d_a,), from a_bar (N, T, d_a)."""
    ### BEGIN SOLUTION
    return a_bar.mean(axis=(0, 1))
    ### END SOLUTION


def input_pair(H_a, a_mean, A, *, lam):
    """Return Pair(s, y), A being the factor (d_a, d_a) or the inputs (N, T, d_a)."""
    ### BEGIN SOLUTION
    s = H_a @ a_mean
    return Pair(s, (A @ s if A.ndim == 2 else hessian_action(A, s)) + lam * s)
    ### END SOLUTION


# %% nbgrader={"grade_id": "mean", "points": 2}
laws(globals(), "factors.mean_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "factors.mean_formula", seed=64013, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "pair", "points": 4}
laws(globals(), "pairs.input_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "pairs.input_formula", seed=64014, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## What it costs
#
# A $3 \times 3$ convolution from 64 to 128 channels on $28 \times 28$ locations, 100 samples, with bias. How many multiply-adds are $A v$ by action,
# forming $A$, and the layer's own forward pass? How many numbers does each of the two ways to $A v$ store besides its input?

# %% [markdown] nbgrader={"grade_id": "cost", "points": 2, "solution": true}
# ### BEGIN SOLUTION
# $d_a = 64 \cdot 9 + 1 = 577$, $N |T| = 78\,400$. Action: $2 N |T| d_a \approx 90$ million; forming $A$: $N |T| d_a^2 \approx 26$ billion; forward:
# $N |T| d_a C_{out} \approx 5.8$ billion, so the action is 1/64 of the forward pass (two convolutions of one channel against 128). Storage: $u$,
# 78 400 numbers, against $d_a^2 \approx 333\,000$ for $A$ and $N |T| d_a \approx 45$ million for the patches.
# ### END SOLUTION
