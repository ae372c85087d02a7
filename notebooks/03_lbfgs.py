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
# # L-BFGS: forget the matrix, keep the pairs
#
# A matrix `H` of size d costs d² numbers. The last p pairs cost 2pd, and `H v` can be had from them directly. Three forms of the
# same estimate: two loops, a compact matrix formula, the plain recursion. You will see them agree, count what each costs, and see
# what is lost when an old pair falls out.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np

from kfqn_ref import lbfgs_compact, lbfgs_dense, lbfgs_push, lbfgs_two_loop

plt.style.use("tableau-colorblind10")

# %%
rng = np.random.default_rng(0)
n, p = 6, 4
root = rng.standard_normal((n, n))
A = root @ root.T + np.eye(n)  # the matrix that answers
S = rng.standard_normal((p, n))  # one pair a row, the oldest first
Y = S @ A
q = rng.standard_normal(n)
two_loop = lbfgs_two_loop(S, Y, q)
print("two loops against compact:", np.linalg.norm(two_loop - lbfgs_compact(S, Y) @ q) < 1e-12)
print("two loops against dense:  ", np.linalg.norm(two_loop - lbfgs_dense(S, Y) @ q) < 1e-12)

# %% [markdown]
# ## What memory buys
#
# Pairs of *random* directions are hard food: each says one thing, and the next update partly forgets it. Below: the error `‖H A v − v‖ / ‖v‖` for fresh random `v`,
# against the memory, for a matrix of size 60.

# %%
n = 60
Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
A = Q * np.geomspace(1, 100, n) @ Q.T
pairs = rng.standard_normal((120, n))
fresh = rng.standard_normal((n, 50))


def error(memory):
    """Push all pairs through a memory of this size, then test on fresh vectors."""
    S, Y = np.zeros((0, n)), np.zeros((0, n))
    for s in pairs:
        S, Y = lbfgs_push(S, Y, s, A @ s, memory=memory)
    gamma = (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1])  # the usual scale of the newest pair
    return np.linalg.norm(lbfgs_two_loop(S, Y, A @ fresh, gamma=gamma) - fresh) / np.linalg.norm(
        fresh
    )


memories = [1, 2, 5, 10, 20, 40, 80, 120]
errors = [error(m) for m in memories]
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.loglog(memories, errors, marker="o")
ax.set(
    xlabel="memory p",
    ylabel="relative error of H A v",
    title="Random pairs teach slowly: memory pays when it nears n",
)
plt.show()
print("error at p = 1 and p = 120:", f"{errors[0]:.2f}, {errors[-1]:.2f}")

# %% [markdown]
# *The picture: the error hardly falls until the memory comes near n = 60, when the pairs span the space. An optimizer does better than this: its
# steps are not random, they lie where the gradient is.*
#
# ## Change this and see
#
# * `gamma=1.0` instead of the scaled start: which memories suffer?
# * `lbfgs_push` drops the **oldest** pair. Drop the newest instead (`S[:-1]`): the estimate stops learning when it is full.

# %%
S, Y = np.zeros((0, n)), np.zeros((0, n))
for s in pairs:
    if len(S) < 10:  # a memory that refuses new pairs when full
        S, Y = lbfgs_push(S, Y, s, A @ s, memory=10)
newest = pairs[-1]
print(
    "secant of the newest pair broken by:",
    np.linalg.norm(lbfgs_two_loop(S, Y, A @ newest) - newest).round(2),
)
S, Y = lbfgs_push(S, Y, newest, A @ newest, memory=10)
print(
    "with the oldest dropped instead:    ",
    np.linalg.norm(lbfgs_two_loop(S, Y, A @ newest) - newest).round(12),
)

# %% [markdown]
# ## Exercise: the order of the loops
#
# The function below computes `H q` from the pairs. Both of its loops run from the oldest pair to the newest. One of them must not. The cell then asks the laws of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def two_loops(S, Y, q, *, gamma=1.0):
    """Return H q, (n,), from pairs in rows, the oldest first."""
    q = q.copy()
    alphas = np.zeros((len(S), *q.shape[1:]))
    for i in range(len(S)):  # repair the order
        alphas[i] = (S[i] @ q) / (S[i] @ Y[i])
        q = q - np.multiply.outer(Y[i], alphas[i])
    r = gamma * q
    for i in range(len(S)):
        beta = (Y[i] @ r) / (S[i] @ Y[i])
        r = r + np.multiply.outer(S[i], alphas[i] - beta)
    return r


try:
    laws({"lbfgs_two_loop": two_loops}, "lbfgs.two_loop", "lbfgs.newest_secant")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write `H⁺ q` with one pair: `V H Vᵀ q + ρ s sᵀ q`, where `Vᵀ = I − ρ y sᵀ`. Which factor meets `q` first?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With two pairs, the newest update is outermost: its `Vᵀ` meets `q` first.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# So the first loop runs from the newest pair to the oldest, `reversed(range(len(S)))`; the second stays.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def two_loops(S, Y, q, *, gamma=1.0):
#     """Return H q, (n,), from pairs in rows, the oldest first."""
#     q = q.copy()
#     alphas = np.zeros((len(S), *q.shape[1:]))
#     for i in reversed(range(len(S))):
#         alphas[i] = (S[i] @ q) / (S[i] @ Y[i])
#         q = q - np.multiply.outer(Y[i], alphas[i])
#     r = gamma * q
#     for i in range(len(S)):
#         beta = (Y[i] @ r) / (S[i] @ Y[i])
#         r = r + np.multiply.outer(S[i], alphas[i] - beta)
#     return r
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** With p pairs and no drop, L-BFGS equals BFGS from `gamma I`. Why?
#
# <details><summary>Answer</summary>
#
# Both apply the same recursion to the same pairs in the same order. `lbfgs_dense` *is* that recursion.
#
# </details>
#
# **2.** The two loops cost 4pd multiplications. When is the matrix cheaper?
#
# <details><summary>Answer</summary>
#
# A product with the matrix costs d². So the pairs win when 4p < d. The torch optimizer keeps a small matrix where `d ≤ 2p` for this reason.
#
# </details>
#
# **3.** Which of the stored pairs obeys the secant `H y = s` exactly?
#
# <details><summary>Answer</summary>
#
# The newest. Older ones are overwritten in part by each later update, unless the steps were conjugate.
#
# </details>
