# %% [markdown]
# # Assignment 4: a convolution as a matrix product, and its Kronecker block
#
# **Time** 75-90 minutes · **Points** 20 · **Read first** the chapters *Convolutions* and *The layer's Hessian block*
#
# ## What you will be able to do
#
# * lay out the patches that a convolution sees, with stride, padding and dilation, and append the bias entry;
# * compute both Kronecker factors of a layer's Hessian block, each with its own normalisation;
# * use $A \otimes G$ without forming it, and keep the two ways of flattening apart.
#
# ## How it is graded
#
# | part | law | points |
# |---|---|---|
# | `patches` | (channel, kernel row, kernel column), zeros outside the image | 6 |
# | `bias` | the 1 comes last | 2 |
# | `A` | sum over locations, mean over the batch | 3 |
# | `G` | mean over locations and the batch | 3 |
# | `flat` | columns, one after the other | 2 |
# | `kron` | the entries of $A \otimes G$ | 2 |
# | `matvec` | $(A \otimes G)\,\mathrm{cvec}(X) = \mathrm{cvec}(G X A^\top)$ | 2 |

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np

from kfqn_ref.course.lesson import laws, untampered

# %% [markdown]
# ## Patches
#
# At output location $t = (r, q)$ a convolution reads, for channel $c$ and kernel entry $(i, j)$, the pixel
# $x[n, c, r\,s_h + i\,d_h - p_h,\; q\,s_w + j\,d_w - p_w]$, or zero outside the image. There are
# $\lfloor (H + 2p_h - d_h(k_h - 1) - 1)/s_h \rfloor + 1$ rows of locations. Return all patches as $(N, T, C k_h k_w)$: locations row by row,
# features in the order channel, kernel row, kernel column. All four options come as (rows, columns).
#
# Try $3 \times 3$ pixels and a $2 \times 2$ kernel on paper first. Hint: pad once, then slice with a step for each kernel entry.


# %% nbgrader={"grade_id": "im2col", "solution": true}
def im2col(x, kernel_size, *, stride, padding, dilation):
    """Return the patches of x (N, C, H, W), each option a pair (rows, columns)."""
    ### BEGIN SOLUTION
    N, C, H, W = x.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel_size, stride, padding, dilation
    rows, columns = (
        (H + 2 * ph - dh * (kh - 1) - 1) // sh + 1,
        (W + 2 * pw - dw * (kw - 1) - 1) // sw + 1,
    )
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    patches = np.empty((N, rows, columns, C, kh, kw))
    for i in range(kh):
        for j in range(kw):
            part = x[:, :, i * dh : i * dh + sh * rows : sh, j * dw : j * dw + sw * columns : sw][
                :, :, :rows, :columns
            ]
            patches[..., i, j] = part.transpose(0, 2, 3, 1)
    return patches.reshape(N, rows * columns, C * kh * kw)
    ### END SOLUTION


# %% nbgrader={"grade_id": "patches", "points": 6}
laws(globals(), "patches.im2col_entries")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "patches.im2col_entries", seed=53011, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The bias entry
#
# $\bar a_t = (a_t, 1)$: the 1 comes **last**, so that the bias is the last column of $W$.


# %% nbgrader={"grade_id": "append_one", "solution": true}
def append_one(a):
    """Return ā, (N, T, d + 1), from a (N, T, d)."""
    ### BEGIN SOLUTION
    return np.concatenate([a, np.ones((*a.shape[:2], 1))], axis=2)
    ### END SOLUTION


# %% nbgrader={"grade_id": "bias", "points": 2}
laws(globals(), "patches.append_last")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "patches.append_last", seed=53012, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The two factors
#
# $$A = \frac1N \sum_n \sum_t \bar a_{n,t} \bar a_{n,t}^\top \ (4.5), \qquad
# G = \frac1N \sum_n \frac1{|T|} \sum_t \frac{\partial^2 f_n}{\partial h_t^2} \ (4.6).$$
#
# One of them is divided by $|T|$. Why only one, and what would the product be if both were, or none?


# %% nbgrader={"grade_id": "factors", "solution": true}
def input_factor(a_bar):
    """Return A, (d_a, d_a), from a_bar (N, T, d_a)."""
    ### BEGIN SOLUTION
    return np.einsum("nta,ntb->ab", a_bar, a_bar) / len(a_bar)
    ### END SOLUTION


def output_factor(Hh):
    """Return G, (d_g, d_g), from Hh[n, t, g, u, h] = ∂²f_n / ∂h_t[g] ∂h_u[h], (N, T, d_g, T, d_g)."""
    ### BEGIN SOLUTION
    return np.einsum("ntgth->gh", Hh) / (Hh.shape[0] * Hh.shape[1])
    ### END SOLUTION


# %% nbgrader={"grade_id": "A", "points": 3}
laws(globals(), "factors.factor_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "factors.factor_formula", seed=53013, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "G", "points": 3}
laws(globals(), "hessian.output_factor_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "hessian.output_factor_formula", seed=53014, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## vec and the Kronecker product
#
# $\mathrm{cvec}(X)$ puts the **columns** of $X$ one after the other; NumPy's `reshape` and `ravel` go by rows unless you tell them
# otherwise. With it, $(A \otimes G)\, \mathrm{cvec}(X) = \mathrm{cvec}(G X A^\top)$: the whole use of $A \otimes G$, for the price of two small products.


# %% nbgrader={"grade_id": "kronecker", "solution": true}
def cvec(X):
    """Return the columns of X (m, n), one after the other, (m n,)."""
    ### BEGIN SOLUTION
    return X.T.ravel()
    ### END SOLUTION


def kron(A, G):
    """Return A ⊗ G, by your own hands (not np.kron): entry [i c + k, j d + l] is A[i, j] G[k, l], G (c, d)."""
    ### BEGIN SOLUTION
    product = A[:, None, :, None] * G[None, :, None, :]
    return product.reshape(A.shape[0] * G.shape[0], A.shape[1] * G.shape[1])
    ### END SOLUTION


def kron_matvec(A, G, X):
    """Return G X Aᵀ."""
    ### BEGIN SOLUTION
    return G @ X @ A.T
    ### END SOLUTION


# %% nbgrader={"grade_id": "flat", "points": 2}
laws(globals(), "kron.cvec_order")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "kron.cvec_order", seed=53015, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "kron", "points": 2}
laws(globals(), "kron.kron_entries")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "kron.kron_entries", seed=53016, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "matvec", "points": 2}
laws(globals(), "kron.kron_action", "kron.vec_identity")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "kron.kron_action", "kron.vec_identity", seed=53017, examples=80)
### END HIDDEN TESTS
