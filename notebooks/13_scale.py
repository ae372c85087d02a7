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
# # The factors of a mini-batch that is spread over machines
#
# Several processes train one network: each sees a part of the mini-batch, a *shard*. The factor `A` must be that of the whole mini-batch. You will
# combine the factors of shards, see which rule is wrong, and share the layers among processes by their cost.

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
# ## The mean of means
#
# `A` is a mean over samples. Shards of equal size may be averaged. Shards of different sizes must be weighted by their sizes.

# %%
rng = np.random.default_rng(0)
a_bar = np.concatenate([rng.normal(size=(30, 4, 6)) + np.linspace(0, 2, 30)[:, None, None]])
whole = kf.input_factor(a_bar)


def error(sizes, *, weighted):
    """Relative error of the factor that is combined from shards of these sizes."""
    parts = np.split(a_bar, np.cumsum(sizes)[:-1])
    factors = np.array([kf.input_factor(part) for part in parts])
    weights = None
    if weighted:
        weights = sizes
    combined = np.average(factors, axis=0, weights=weights)
    return np.linalg.norm(combined - whole) / np.linalg.norm(whole)


first = np.arange(1, 30)
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.plot(first, [error([n, 30 - n], weighted=False) for n in first], label="mean of both")
ax.plot(first, [error([n, 30 - n], weighted=True) for n in first], "--", label="weighted by size")
ax.set(xlabel="samples in the first of two shards", ylabel="relative error of A")
ax.legend()
plt.show()
print(f"15 and 15: {error([15, 15], weighted=False):.0e}")
print(
    f"5 and 25:  {error([5, 25], weighted=False):.2f}, weighted {error([5, 25], weighted=True):.0e}"
)

# %% [markdown]
# *The picture: the error of the plain mean vanishes only for two halves. Weighted by their sizes, all shards give the factor of the whole.*
#
# ## Who stores which layer
#
# An update of a dense inverse of size d costs about d² operations. If each layer belongs to one process, the slowest process decides. We give
# the next costliest layer to the process with the least work so far.

# %%
costs = np.array([d**2 for d in (10, 20, 50, 64, 100, 128, 150, 200)])


def largest_load(ranks, order):
    """Work of the busiest process when layers are given out in this order."""
    load = np.zeros(ranks)
    for cost in order:
        load[load.argmin()] += cost
    return load.max() / costs.sum()


ranks = np.arange(1, 9)
by_cost = [largest_load(r, sorted(costs, reverse=True)) for r in ranks]
for r in (1, 2, 4, 8):
    print(
        f"{r} processes: the busiest has {by_cost[r - 1]:.2f} of the work, even shares {1 / r:.2f}"
    )

# %% [markdown]
# ## Change this and see
#
# * Give the layers out from the cheapest to the costliest: `sorted(costs)`.
# * Add one layer with d = 1000. How many processes are worth having?

# %%
print("from the cheapest, two processes:", round(largest_load(2, sorted(costs)), 2))

# %% [markdown]
# ## Exercise: two shards, one factor
#
# The function below splits the mini-batch after its first sample and averages the factors of both shards. It is right only for shards of equal size. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def from_shards(a_bar):
    """Return A, (d_a, d_a), from patches (N, T, d_a) in two shards."""
    shards = [part for part in (a_bar[:1], a_bar[1:]) if len(part)]
    factors = [np.einsum("nti,ntj->ij", part, part) / len(part) for part in shards]
    return np.mean(factors, axis=0)  # repair this line


try:
    laws({"input_factor": from_shards}, "factors.factor_formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many samples stand behind each factor?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A mean of means is weighted by the sizes of the parts.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.average(factors, axis=0, weights=[len(part) for part in shards])`
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def from_shards(a_bar):
#     """Return A, (d_a, d_a), from patches (N, T, d_a) in two shards."""
#     shards = [part for part in (a_bar[:1], a_bar[1:]) if len(part)]
#     factors = [np.einsum("nti,ntj->ij", part, part) / len(part) for part in shards]
#     return np.average(factors, axis=0, weights=[len(part) for part in shards])
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why is it wrong to average the *inverses* of the shards' factors?
#
# <details><summary>Answer</summary>
#
# The inverse of a mean is not the mean of the inverses. The factors are combined first, and then inverted once.
#
# </details>
#
# **2.** What limits the number of processes among which whole layers are shared?
#
# <details><summary>Answer</summary>
#
# The costliest layer: its owner does all of that layer's work, however many processes there are.
#
# </details>
#
# **3.** Which sum of the output pair must be taken over all shards before it is damped?
#
# <details><summary>Answer</summary>
#
# The means of h⁺ − h and of Dh⁺ − Dh. Damping is not linear, so a mean of damped pairs is another pair.
#
# </details>
