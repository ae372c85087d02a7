# ---
# jupyter:
#   kfqn:
#     refuse: [scipy.optimize.BFGS, scipy.optimize.LbfgsInvHessProduct]
# ---

# %% [markdown]
# # Assignment 3: L-BFGS in two loops
#
# **Time** 60-75 minutes · **Points** 20 by tests, 2 by hand · **Read first** the chapter *L-BFGS three ways*
#
# ## What you will be able to do
#
# * keep an inverse estimate as its last $p$ pairs, and apply it to a vector without ever forming it;
# * write the same matrix in compact form, and show that all forms agree;
# * say what this saves.
#
# ## How it is graded
#
# | part | law | points |
# |---|---|---|
# | `memory` | the memory keeps the newest pairs, oldest first | 4 |
# | `dense` | (1.3) from $\gamma I$, pair after pair | 3 |
# | `two_loop` | two loops apply that matrix | 6 |
# | `newest` | the newest pair satisfies the secant equation; $\gamma = 1$ by default | 2 |
# | `compact` | one product of rank $2m$ | 4 |
# | `agree` | all three forms are one matrix | 1 |
# | `cost` | by hand: what the two loops cost, and save | 2 |
#
# Rubric of `cost`: 1 point for the number of multiply-adds, 1 for the number of stored numbers; each against the dense form.
#
# Pairs are rows: `S` and `Y` have shape $(m, n)$, the **oldest first**.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np

from kfqn_ref import bfgs_inverse_update
from kfqn_ref.course.lesson import laws, untampered

# %% [markdown]
# ## The memory
#
# Append the pair $(s, y)$ to the stored ones. When there are more than `memory`, drop the oldest. Return new arrays: the old ones
# belong to whoever called you.


# %% nbgrader={"grade_id": "lbfgs_push", "solution": true}
def lbfgs_push(S, Y, s, y, *, memory):
    """Return (S, Y) with the new pair, (k, n) each, k <= memory."""
    ### BEGIN SOLUTION
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]
    ### END SOLUTION


# %% nbgrader={"grade_id": "memory", "points": 4}
laws(globals(), "lbfgs.push_memory", "lbfgs.push_newest")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lbfgs.push_memory", "lbfgs.push_newest", seed=42011, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The matrix they stand for
#
# Start from $\gamma I$ and apply `bfgs_inverse_update` (it is given) pair after pair, the oldest first.


# %% nbgrader={"grade_id": "lbfgs_dense", "solution": true}
def lbfgs_dense(S, Y, *, gamma=1.0):
    """Return H, (n, n). No pair at all is possible: then it is gamma I."""
    ### BEGIN SOLUTION
    H = gamma * np.eye(S.shape[1])
    for s, y in zip(S, Y, strict=True):
        H = bfgs_inverse_update(H, s, y)
    return H
    ### END SOLUTION


# %% nbgrader={"grade_id": "dense", "points": 3}
laws(globals(), "lbfgs.dense")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lbfgs.dense", seed=42012, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## Two loops
#
# $H^+ q = V^\top H (V q) + \rho\, s\, (s^\top q)$ with $V = I - \rho\, y s^\top$: peel off the **newest** pair first, remember
# $\alpha_i = \rho_i\, s_i^\top q$, and put the pairs back in the other order:
#
# 1. for $i$ from the newest to the oldest: $\alpha_i = \rho_i\, s_i^\top q$, then $q \leftarrow q - \alpha_i y_i$;
# 2. $r = \gamma q$;
# 3. for $i$ from the oldest to the newest: $\beta = \rho_i\, y_i^\top r$, then $r \leftarrow r + (\alpha_i - \beta)\, s_i$.
#
# Careful: `q -= …` writes into the caller's vector.


# %% nbgrader={"grade_id": "lbfgs_two_loop", "solution": true}
def lbfgs_two_loop(S, Y, q, *, gamma=1.0):
    """Return H q, (n,), without forming H."""
    ### BEGIN SOLUTION
    rho = 1 / np.sum(S * Y, axis=1)
    alphas = np.zeros(len(S))
    for i in reversed(range(len(S))):
        alphas[i] = rho[i] * (S[i] @ q)
        q = q - alphas[i] * Y[i]
    r = gamma * q
    for i in range(len(S)):
        r = r + (alphas[i] - rho[i] * (Y[i] @ r)) * S[i]
    return r
    ### END SOLUTION


# %% nbgrader={"grade_id": "two_loop", "points": 6}
laws(globals(), "lbfgs.two_loop")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lbfgs.two_loop", seed=42013, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "newest", "points": 2}
laws(globals(), "lbfgs.newest_secant", "lbfgs.two_loop_default")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lbfgs.newest_secant", "lbfgs.two_loop_default", seed=42014, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The compact form
#
# With $R_{ij} = s_i^\top y_j$ for $i \le j$ (and 0 below) and $D = \mathrm{diag}(s_i^\top y_i)$, and pairs as rows of $S$ and $Y$:
#
# $$H = \gamma I + [S^\top,\ \gamma Y^\top]
# \begin{bmatrix} R^{-\top} (D + \gamma\, Y Y^\top) R^{-1} & -R^{-\top} \\ -R^{-1} & 0 \end{bmatrix}
# \begin{bmatrix} S \\ \gamma Y \end{bmatrix}.$$
#
# `np.triu`, `np.block` and `np.vstack` are your friends.


# %% nbgrader={"grade_id": "lbfgs_compact", "solution": true}
def lbfgs_compact(S, Y, *, gamma=1.0):
    """Return H, (n, n). No pair at all is possible."""
    ### BEGIN SOLUTION
    R_inv = np.linalg.inv(np.triu(S @ Y.T))
    top_left = R_inv.T @ (np.diag(np.sum(S * Y, axis=1)) + gamma * Y @ Y.T) @ R_inv
    middle = np.block([[top_left, -R_inv.T], [-R_inv, np.zeros_like(R_inv)]])
    outer = np.vstack([S, gamma * Y])
    return gamma * np.eye(S.shape[1]) + outer.T @ middle @ outer
    ### END SOLUTION


# %% nbgrader={"grade_id": "compact", "points": 4}
laws(globals(), "lbfgs.compact")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lbfgs.compact", seed=42015, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "agree", "points": 1}
laws(globals(), "lbfgs.three_forms")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lbfgs.three_forms", seed=42016, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## What it costs
#
# A layer has $n = 512$ outputs and the memory holds $p = 100$ pairs. How many multiply-adds does one $H q$ cost by two loops, how many with
# the dense $H$? How many numbers does each form store? For which $p$ is the dense form the better one?

# %% [markdown] nbgrader={"grade_id": "cost", "points": 2, "solution": true}
# ### BEGIN SOLUTION
# Two loops: four vector operations a pair, $4 p n$ multiply-adds and $2 p n$ stored numbers; dense: $n^2$ each. With $n = 512$, $p = 100$:
# 204 800 against 262 144 multiply-adds, 102 400 against 262 144 numbers. The dense form costs less work once $4 p > n$, less memory once
# $2 p > n$: $p > 128$ and $p > 256$.
# ### END SOLUTION
