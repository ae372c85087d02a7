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
# # The Hessian block of a convolution layer, exactly
#
# `A ⊗ G` stands for a matrix that nobody stores: the Hessian of the loss with respect to one layer's weights. For a small
# layer we *can* compute it exactly and put the two side by side. Three assumptions lie between them: independence of
# activations and derivatives (IAD), spatially uncorrelated derivatives (SUD), spatial homogeneity (SH). Which one costs most?

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import kfqn_ref as kf

plt.style.use("tableau-colorblind10")

# %%
digits = load_digits()
x, t = digits.images[:, None] / 16, digits.target  # (1797, 1, 8, 8)
network = kf.Network(
    (
        kf.Conv2d(1, 3, 3, stride=2, padding=1),
        kf.Tanh(),
        kf.Conv2d(3, 4, 2),
        kf.Tanh(),
        kf.Flatten(),
        kf.Linear(36, 10),
    ),
    kf.SoftmaxCrossEntropy(),
)
start = network.init(np.random.default_rng(0))
batches = (
    b for epoch in range(15) for b in kf.minibatches(x, t, 128, np.random.default_rng(epoch))
)
*_, last = kf.fit(kf.SGD(lr=0.1), network, start, batches)
print(f"loss after training: {network.value(last.params, x, t):.3f}")

# %% [markdown]
# ## The exact block, column by column
#
# No finite differences: a **complex step** `Dh(h + iεe_j)` gives column j of the second derivative in its imaginary part, to
# machine precision. `exact_blocks` assembles the block and each approximation.

# %%
sample = slice(0, 24)
blocks = kf.hessian.exact_blocks(network, last.params, x[sample], t[sample], 0)
print("first convolution: W has", last.params[0].size, "entries, its block is", blocks.exact.shape)
for name, value in blocks.errors().items():
    print(f"  {name:5s} {value:.2f}")

top = np.abs(blocks.exact).max()
fig, axes = plt.subplots(1, 3, figsize=(10, 3.6))
for ax, (title, M) in zip(
    axes,
    {
        "exact": blocks.exact,
        "A ⊗ G": blocks.kronecker,
        "difference": blocks.exact - blocks.kronecker,
    }.items(),
):
    ax.imshow(M, cmap="RdBu_r", vmin=-top, vmax=top)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# *The picture: the exact block and its Kronecker product share the coarse pattern; the difference is what SUD, IAD and SH cost.*
#
# Errors are relative to the exact block, in the Frobenius norm, one assumption after the other. Here is every layer:

# %%
errors = [
    kf.hessian.exact_blocks(network, last.params, x[sample], t[sample], b).errors()
    for b in range(3)
]
names = ["SUD", "IAD", "SH", "total"]
fig, ax = plt.subplots(figsize=(7, 3.5))
for i, name in enumerate(names):
    ax.bar(np.arange(3) + 0.2 * i, [e[name] for e in errors], 0.2, label=name)
ax.set(
    xticks=np.arange(3) + 0.3,
    xticklabels=["conv 1", "conv 2", "linear"],
    ylabel="relative error",
    title="What each assumption costs",
)
ax.legend()
plt.show()

# %% [markdown]
# ## Change this and see
#
# * One sample in the linear layer: `A ⊗ G` is then exact. Check it below, then try two samples.
# * Compare before and after training: replace `last.params` by `start` above.

# %%
one = kf.hessian.exact_blocks(network, last.params, x[:1], t[:1], 2)
print("linear layer, one sample, total error:", f"{one.errors()['total']:.0e}")

# %% [markdown]
# ## Exercise: sum or mean over locations?
#
# `A` is a mean over samples. What is it over locations? The function below takes the mean over both. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def factor(a_bar):
    """Return A, (d_a, d_a), from patches (N, T, d_a)."""
    patches = a_bar.reshape(-1, a_bar.shape[-1])
    return patches.T @ patches / len(patches)  # repair this line


try:
    laws({"input_factor": factor}, "factors.factor_formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The exact block sums over the locations t: read question 2 above, or the law's formula.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# How many patches does one sample have? The number of samples is `len(a_bar)`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Divide by `len(a_bar)`, and not by the number of patches.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def factor(a_bar):
#     """Return A, (d_a, d_a), from patches (N, T, d_a)."""
#     patches = a_bar.reshape(-1, a_bar.shape[-1])
#     return patches.T @ patches / len(a_bar)
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why do the linear layer's SUD and SH errors vanish?
#
# <details><summary>Answer</summary>
#
# It has one location, |T| = 1: there is no pair t ≠ t' to drop and nothing to average over t. Only IAD is left.
#
# </details>
#
# **2.** `A` is a *sum* over locations and `G` a *mean*. Why not both means?
#
# <details><summary>Answer</summary>
#
# The SUD block sums over t. With every `∂²f/∂h_t²` replaced by its mean `G`, the sum stays on `Σ_t ā ā`. Dividing A by |T| as well would shrink the block |T| times.
#
# </details>
#
# **3.** A total error near 1 means the approximation is as far from the block as zero is. Why can the direction `H_g M H_a` still be good?
#
# <details><summary>Answer</summary>
#
# A preconditioner need not be the inverse: it must equalise the large curvatures. Scale and coarse spectrum are in A ⊗ G even when its entries are not.
#
# </details>
