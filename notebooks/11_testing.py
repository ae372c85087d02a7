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
# # Find the mistake in an update
#
# A program that computes a wrong matrix does not fail: it trains a little worse. **Laws** are equations that the right program satisfies for
# every input. You will give three wrong updates to the laws of BFGS, read the counterexamples, and see what a tolerance must be.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np

from kfqn_ref import bfgs_inverse_update
from kfqn_ref.testing import Effort, all_checks, run_checks
from kfqn_ref.testing import tolerances as tol

plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## Three mistakes
#
# The first leaves H unchanged, the second forgets the last term, the third transposes a factor. Which law notices which mistake?


# %%
def unchanged(H, s, y):
    """Return H as it was, in an array of its own."""
    return H.copy()


def without_step(H, s, y):
    """Forget rho s sᵀ."""
    V = np.eye(len(s)) - np.outer(s, y) / (s @ y)
    return V @ H @ V.T


def transposed(H, s, y):
    """Multiply with the wrong sides."""
    V = np.eye(len(s)) - np.outer(s, y) / (s @ y)
    return V.T @ H @ V + np.outer(s, s) / (s @ y)


def failed(update):
    """Return the names of the laws of BFGS that the update breaks."""
    names = ["bfgs.secant", "bfgs.symmetry", "bfgs.positive_definite", "bfgs.idempotence"]
    checks = [check for check in all_checks() if check.name in names]
    given = SimpleNamespace(bfgs_inverse_update=update)
    results = run_checks(given, checks, effort=Effort(examples=15)).results
    return [result.check.name for result in results if result.failure is not None]


# %%
updates = {"right": bfgs_inverse_update, "unchanged": unchanged}
updates |= {"without the step": without_step, "transposed": transposed}
for name, update in updates.items():
    print(f"{name}: breaks {', '.join(failed(update)) or 'no law'}")

# %% [markdown]
# ## How exact must it be?
#
# Equality in floating point is wrong too: rounding of the right update grows with the condition of its input. The tolerance of a law is
# derived from that, and not chosen.

# %%
rng = np.random.default_rng(0)
measured, allowed = [], []
for condition in np.geomspace(1, 1e8, 60):
    Q, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    H = Q * np.geomspace(1, 1 / condition, 5) @ Q.T
    H = (H + H.T) / 2
    s, y = rng.normal(size=(2, 5))
    s = s * np.sign(s @ y)
    measured.append(np.linalg.norm(bfgs_inverse_update(H, s, y) @ y - s))
    allowed.append(tol.inverse_update(2.0**-53, H, s, y) * np.linalg.norm(y))
fig, ax = plt.subplots(figsize=(7, 3.5))
ax.loglog(allowed, measured, "o", label="one update")
ax.loglog(allowed, allowed, color="black", linewidth=0.8, label="measured = allowed")
ax.set(xlabel="error that the law allows", ylabel="measured error", title="The secant law")
ax.legend()
plt.show()
print("all within the tolerance:", bool((np.array(measured) <= allowed).all()))

# %% [markdown]
# *The picture: the measured error of the secant equation for 60 updates, each below the error that its law allows.*
#
# ## Change this and see
#
# * Replace `1e8` by `1e14`. Do the points stay below the line?
# * Write a fourth mistake of your own and find the law that notices it.

# %%
H = np.diag([1.0, 2.0])
V = np.eye(2) - np.outer([1.0, 0.0], [1.0, 1.0])
print("symmetric all the same:", np.array_equal(V.T @ H @ V, (V.T @ H @ V).T))

# %% [markdown]
# ## Exercise: which pair is dropped?
#
# The function below keeps at most `memory` pairs. The first law is content with it. Read what the second says, and repair the function. The cell then asks the laws of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def push(S, Y, s, y, *, memory):
    """Return the pairs, one a row, with the new one last."""
    S = np.vstack([S, s])
    Y = np.vstack([Y, y])
    return S[:memory], Y[:memory]  # repair this line


try:
    laws({"lbfgs_push": push}, "lbfgs.push_memory", "lbfgs.push_newest")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which rows does `S[:memory]` keep when it is full: the oldest or the newest?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The last `memory` rows are wanted.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `S[-memory:]`, and the same for Y.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def push(S, Y, s, y, *, memory):
#     """Return the pairs, one a row, with the new one last."""
#     S = np.vstack([S, s])
#     Y = np.vstack([Y, y])
#     return S[-memory:], Y[-memory:]
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Which law does the unchanged H break, and why not the others?
#
# <details><summary>Answer</summary>
#
# The secant equation, which says what H must do to y. The other three hold for every fixed symmetric positive definite matrix.
#
# </details>
#
# **2.** Why are laws better than a stored result?
#
# <details><summary>Answer</summary>
#
# A stored result belongs to one input and to the program that computed it. A law holds for every input and does not know the program.
#
# </details>
#
# **3.** What is wrong with a tolerance of 0.01 for all cases?
#
# <details><summary>Answer</summary>
#
# It accepts mistakes smaller than 0.01, and it refuses the right program where the input is so badly conditioned that rounding exceeds 0.01.
#
# </details>
