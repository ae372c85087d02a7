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
# # Inverting A without forming it
#
# The input factor `A = mean_n Σ_t ā āᵀ` of a layer with 4,608 inputs has 21 million entries. The method never forms it: it needs
# `A v` only, and that is two passes over the inputs: for a convolution, two *convolutions with one output channel*. Then BFGS
# learns `(A + λI)⁻¹` from the answers. You will check the trick, count its cost, and watch the estimate improve without ever getting worse.

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
images = load_digits().images[:, None] / 16
conv = kf.Conv2d(1, 8, 3, padding=1)
a_bar = kf.patches.append_one(kf.patches.im2col(images, 3, padding=1))  # (N, T, 10)
A = kf.input_factor(a_bar)
v = np.random.default_rng(0).standard_normal(10)
print("action = A v:             ", np.allclose(kf.hessian_action(a_bar, v), A @ v))
print(
    "by one-channel convolution:",
    np.allclose(kf.factors.conv_hessian_action(conv, images, v), A @ v),
)

# %% [markdown]
# ## What it costs
#
# Multiply-adds for N·|T| patches of size d_a: forming A takes N·|T|·d_a², one action 2·N·|T|·d_a.

# %%
d = np.array([10, 145, 577, 1153, 4609])
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.loglog(d, d**2, marker="o", label="form A")
ax.loglog(d, 2 * d, marker="o", label="one action")
ax.set(xlabel="$d_a$", ylabel="multiply-adds per patch", title="Action against matrix")
ax.legend()
plt.show()

# %% [markdown]
# ## BFGS with Hessian action
#
# Each step shows the matrix one vector, `s = H_a ā̄`, with `ā̄` the mean input of a mini-batch, and takes `y = A s + λ s`. We start
# from a deliberately bad guess and follow the eigenvalues of `(A+λI)^{1/2} H_a (A+λI)^{1/2}`: all would be 1 for the exact inverse.

# %%
lam = 0.1
w, Q = np.linalg.eigh(A + lam * np.eye(10))
root = Q * np.sqrt(w) @ Q.T
rng = np.random.default_rng(1)


def spectrum(shown, steps=60):
    """Follow the eigenvalues while BFGS is shown vectors of one kind."""
    H, values = np.eye(10), []
    for _ in range(steps):
        values.append(np.linalg.eigvalsh(root @ H @ root))
        s = H @ shown()
        H = kf.bfgs_inverse_update(H, s, A @ s + lam * s)
    return np.array(values)


mean_of_batch = lambda: a_bar[rng.integers(0, len(a_bar), 32)].mean(axis=(0, 1))
random_patch = lambda: a_bar[rng.integers(len(a_bar)), rng.integers(a_bar.shape[1])]
fig, axes = plt.subplots(1, 2, figsize=(10, 3.5), sharey=True)
for ax, (title, shown) in zip(
    axes, {"mean of a mini-batch": mean_of_batch, "one random patch": random_patch}.items()
):
    ax.semilogy(spectrum(shown))
    ax.axhline(1, color="black", linewidth=0.8)
    ax.set(title=title, xlabel="updates")
axes[0].set_ylabel("eigenvalues")
plt.show()

# %% [markdown]
# *The picture: both close in on 1; but with means of mini-batches, which hardly differ from one another, some eigenvalues stop on the way, and with
# random patches none does.*
#
# Nothing ever moves away from 1: with a fixed A and `y = A s + λ s`, the eigenvalues interlace (Fletcher). The mean input is nearly the same
# vector for every batch, which is why the method *starts* from the exact inverse of the first batch and uses the action to keep it fresh.
#
# ## Change this and see
#
# * Replace `np.eye(10)` in `spectrum` by the inverse for another batch, `np.linalg.inv(kf.input_factor(a_bar[:32]) + lam * np.eye(10))`.
# * Make `lam` 0.001: which eigenvalues are hard?

# %%
H0 = np.linalg.inv(kf.input_factor(a_bar[:32]) + lam * np.eye(10))
values = np.linalg.eigvalsh(root @ H0 @ root)
print(
    "start from the first batch of 32: eigenvalues from",
    values[0].round(2),
    "to",
    values[-1].round(2),
)

# %% [markdown]
# ## Exercise: a product without the matrix
#
# The function below multiplies the mean patch by the mean of `āᵀv`. A mean of products is not a product of means. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def action(a_bar, v):
    """Return A v, (d_a,), from patches (N, T, d_a) and v (d_a,), without forming A."""
    mean = a_bar.mean(axis=(0, 1))
    return a_bar.shape[1] * mean * (mean @ v)  # repair these lines


try:
    laws({"hessian_action": action}, "factors.action_formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# First compute `u = a_bar @ v`. Which shape does it have?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Each patch is multiplied by its own entry of `u`; then all are added.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Divide the sum by the number of samples, `len(a_bar)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def action(a_bar, v):
#     """Return A v, (d_a,), from patches (N, T, d_a) and v (d_a,), without forming A."""
#     u = a_bar @ v
#     return np.einsum("nt,nti->i", u, a_bar) / len(a_bar)
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why can `y = A s + λ s` never need damping?
#
# <details><summary>Answer</summary>
#
# `sᵀy = sᵀAs + λ‖s‖² ≥ λ‖s‖² > 0`, since A is positive semidefinite by construction.
#
# </details>
#
# **2.** Where does the bias hide in `conv_hessian_action`?
#
# <details><summary>Answer</summary>
#
# The patch ends with the constant 1, so the last entry of `v` is the bias of the one-channel convolution, and the last entry of the answer is that convolution's bias gradient.
#
# </details>
#
# **3.** An action costs 1/C_out of the layer's own forward pass, twice. Why?
#
# <details><summary>Answer</summary>
#
# The layer computes C_out channels per location, the action one; forward and weight gradient of that one channel make two.
#
# </details>
