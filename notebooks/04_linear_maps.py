# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The Hessian block of a linear layer
#
# A linear layer with `d_a` inputs and `d_g` outputs has `d_a d_g` weights, so its Hessian block has `(d_a d_g)²` entries. The Kronecker
# product `A ⊗ G` describes such a block by two small matrices. You will apply it without forming it, count the cost, and measure
# for which mini-batches it is exact.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np

import kfqn_ref as kf

plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## A Kronecker product is applied by two small products
#
# `vec` stacks the columns of a matrix. With it, `(A ⊗ G) vec(X) = vec(G X Aᵀ)`: the large matrix is never formed.

# %%
rng = np.random.default_rng(0)
d_a, d_g = 5, 3
A, G, X = rng.normal(size=(d_a, d_a)), rng.normal(size=(d_g, d_g)), rng.normal(size=(d_g, d_a))
large = np.kron(A, G) @ X.flatten(order="F")
small = (G @ X @ A.T).flatten(order="F")
print("shape of A ⊗ G:", np.kron(A, G).shape)
print("equal up to rounding:", np.allclose(large, small, rtol=1e-12))

# %%
d = np.array([4, 16, 64, 256, 1024])
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.loglog(d, d**4.0, marker="o", label="A ⊗ G formed: d⁴")
ax.loglog(d, 2 * d**3.0, marker="s", label="G X Aᵀ: 2 d³")
ax.set(xlabel="d = d_a = d_g", ylabel="multiplications", title="One product with the block")
ax.legend()
plt.show()

# %% [markdown]
# *The picture: number of multiplications against the width of the layer. At d = 1024 they differ by a factor of 512, which is d/2.*
#
# ## For which mini-batches is it exact?
#
# The running example of the book has one linear layer with four inputs and a bias. `exact_blocks` computes its Hessian block exactly, and `A ⊗ G`. We
# let only the last weights vary and take more and more samples of a loss whose second derivative depends on the sample.

# %%
network = kf.Network((kf.Linear(4, 3),), kf.SoftmaxCrossEntropy())
params = network.init(rng)
inputs, classes = rng.normal(size=(64, 4)), rng.integers(3, size=64)
sizes = [1, 2, 4, 8, 16, 32, 64]
errors = [
    kf.hessian.exact_blocks(network, params, inputs[:n], classes[:n], 0).errors()["total"]
    for n in sizes
]
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.plot(sizes, errors, marker="o")
ax.set(
    xscale="log", xlabel="samples", ylabel="relative error of A ⊗ G", title="Exact for one sample"
)
plt.show()
print(f"one sample: {errors[0]:.0e}, 64 samples: {errors[-1]:.2f}")

# %% [markdown]
# *The picture: the error of the Kronecker product is rounding for one sample. For several samples the mean of products is not the product of means.*
#
# ## Change this and see
#
# * Use `kf.MeanSquaredError()` with targets of shape (64, 3): then `∂²f/∂h²` is the same for all samples. What is the error now?
# * Solve instead of multiply: `(A ⊗ G)⁻¹ = A⁻¹ ⊗ G⁻¹`. Check it for the matrices above.

# %%
inverse = np.kron(np.linalg.inv(A), np.linalg.inv(G))
print("inverse of the product:", np.allclose(inverse @ np.kron(A, G), np.eye(15), atol=1e-10))

# %% [markdown]
# ## Exercise: apply the block
#
# The function below should return the matrix `Y` with `vec(Y) = (A ⊗ G) vec(X)`. It is right for symmetric `A` only. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def apply(A, G, X):
    """Return (q, p) from A (p, n), G (q, m), X (m, n)."""
    return G @ X @ A  # repair this line


try:
    laws({"kron_matvec": apply}, "kron.kron_action")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Take `G = 1`, a matrix with one entry. Then `X` is a row, and `A ⊗ G = A`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The product of a matrix with a column, `A x`, is `xᵀAᵀ` when the column is written as a row.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# So `A` must be transposed.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def apply(A, G, X):
#     """Return (q, p) from A (p, n), G (q, m), X (m, n)."""
#     return G @ X @ A.T
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Which of the factors, A or G, knows the loss?
#
# <details><summary>Answer</summary>
#
# G: it is made of second derivatives of the loss with respect to the layer's outputs. A is made of the layer's inputs alone.
#
# </details>
#
# **2.** Why is one sample exact for a linear layer?
#
# <details><summary>Answer</summary>
#
# The exact block is a mean over samples of Kronecker products. A mean over one sample is one Kronecker product.
#
# </details>
#
# **3.** Why does the bias need no factor of its own?
#
# <details><summary>Answer</summary>
#
# The input ends with the constant 1, so the bias is the last column of W and is treated as every other weight.
#
# </details>
