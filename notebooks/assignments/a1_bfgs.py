# ---
# jupyter:
#   kfqn:
#     refuse: [scipy.optimize.BFGS, scipy.optimize.SR1, scipy.optimize.LbfgsInvHessProduct]
# ---

# %% [markdown]
# # Assignment 1: learn an inverse from secants
#
# **Time** 45-60 minutes · **Points** 20 · **Read first** the chapters *Newton, secants and BFGS* and *BFGS on an inverse*
#
# ## What you will be able to do
#
# * write the BFGS update of an inverse Hessian, and of a Hessian, from their formulas;
# * name the three properties that make it useful (secant, symmetry, positive definiteness) and the condition they need;
# * find the inverse of a matrix that you can only multiply with.
#
# ## How it is graded
#
# | part | law | points |
# |---|---|---|
# | `secant` | $H^+ y = s$ | 4 |
# | `formula` | the whole matrix, by the product form | 4 |
# | `definite` | $H^+$ is symmetric and positive definite | 2 |
# | `invariance` | idempotence, scale, affine covariance | 2 |
# | `refusal` | a pair with $s^\top y \le 0$ is refused, not used | 2 |
# | `direct` | the direct update | 2 |
# | `twins` | $B^+ H^+ = I$ | 1 |
# | `inverse` | the inverse of a matrix from its products alone | 3 |
#
# Every part is graded by itself, twice: here, and in a fresh process with other examples. The tests that you see call the
# same laws as the tests of the package. When a law fails, read the smallest example that breaks it and compute both sides by
# hand: the numbers are chosen so that you can. Keep the names of the functions; helper functions are welcome.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref.course.lesson import laws, raises, untampered

# %% [markdown]
# ## The update of an inverse
#
# $H$ estimates the inverse of a Hessian. A step $s$ changed the gradient by $y$: so the inverse maps $y$ to $s$. Of all symmetric
# matrices that do, BFGS takes the one nearest to $H$ (1.3):
#
# $$H^+ = (I - \rho\, s y^\top)\, H\, (I - \rho\, y s^\top) + \rho\, s s^\top, \qquad \rho = \frac{1}{s^\top y}.$$
#
# Where $s^\top y \le 0$ no positive definite matrix maps $y$ to $s$. Your function must then raise `LinAlgError`, with a message
# that says what it got. (`if not sy > 0` also refuses NaN; `if sy <= 0` does not. Why?)


# %% nbgrader={"grade_id": "bfgs_inverse_update", "solution": true}
def bfgs_inverse_update(H, s, y):
    """Return H⁺, (n, n), from H (n, n), s (n,), y (n,). The arguments stay as they are."""
    ### BEGIN SOLUTION
    sy = s @ y
    if not sy > 0:
        raise LinAlgError(f"sᵀy must be positive, got {sy}")
    left = np.eye(len(s)) - np.outer(s, y) / sy
    return left @ H @ left.T + np.outer(s, s) / sy
    ### END SOLUTION


# %% [markdown]
# Try it by hand first: with $H = I$, $s = (1, 0)$, $y = (2, 0)$ the result must be $\mathrm{diag}(1/2, 1)$.

# %%
# bfgs_inverse_update(np.eye(2), np.array([1.0, 0.0]), np.array([2.0, 0.0]))

# %% nbgrader={"grade_id": "secant", "points": 4}
laws(globals(), "bfgs.secant")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "bfgs.secant", seed=20211, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "formula", "points": 4}
laws(globals(), "bfgs.formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "bfgs.formula", "bfgs.least_change", seed=20212, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "definite", "points": 2}
laws(globals(), "bfgs.symmetry", "bfgs.positive_definite")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "bfgs.symmetry", "bfgs.positive_definite", seed=20213, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "invariance", "points": 2}
laws(globals(), "bfgs.idempotence", "bfgs.scale", "bfgs.affine_covariance")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "bfgs.idempotence", "bfgs.scale", "bfgs.affine_covariance", seed=20214, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "refusal", "points": 2}
raises(LinAlgError, bfgs_inverse_update, np.eye(2), np.array([1.0, 0.0]), np.array([-1.0, 0.0]))
raises(LinAlgError, bfgs_inverse_update, np.eye(2), np.array([1.0, 0.0]), np.array([0.0, 1.0]))
### BEGIN HIDDEN TESTS
untampered()
raises(LinAlgError, bfgs_inverse_update, np.eye(1), np.array([2.0]), np.array([-0.5]))
raises(LinAlgError, bfgs_inverse_update, np.eye(1), np.array([np.nan]), np.array([1.0]))
laws(globals(), "bfgs.secant", seed=20215)  # a function that refuses everything refuses nothing
### END HIDDEN TESTS

# %% [markdown]
# ## The direct update
#
# The same pair also improves an estimate $B$ of the Hessian itself:
#
# $$B^+ = B - \frac{B s\, s^\top B}{s^\top B s} + \frac{y y^\top}{s^\top y}.$$
#
# If $B = H^{-1}$ before, then $B^+ = (H^+)^{-1}$ after. Convince yourself on the example above, on paper, for $n = 1$.


# %% nbgrader={"grade_id": "bfgs_direct_update", "solution": true}
def bfgs_direct_update(B, s, y):
    """Return B⁺, (n, n), from B (n, n), s (n,), y (n,)."""
    ### BEGIN SOLUTION
    Bs = B @ s
    return B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    ### END SOLUTION


# %% nbgrader={"grade_id": "direct", "points": 2}
laws(globals(), "bfgs.direct_formula", "bfgs.direct_secant")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "bfgs.direct_formula", "bfgs.direct_secant", seed=20216, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "twins", "points": 1}
laws(globals(), "bfgs.inverse_pair")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "bfgs.inverse_pair", seed=20218, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## An inverse without inverting
#
# `multiply(v)` returns $A v$ for a symmetric positive definite $A$ that you do not get to see. Find $A^{-1}$ from `n` products:
# start from $H_0 = I$, choose a step $s$, let $y = A s$, update, repeat. Which steps? With $A$-conjugate ones
# ($s_i^\top A s_j = 0$ for $i \ne j$), $n$ updates give the inverse exactly. Unit vectors are in general not conjugate. Hint: take
# away from each unit vector what is not conjugate to the steps before it (Gram-Schmidt in the inner product of $A$). One product
# a step is enough: $A$ is linear, so the product with the changed vector follows from products that you have.
#
# The law also looks at the way: each $H_k$ must differ from the one before by a matrix of rank two at most, as a BFGS update does.


# %% nbgrader={"grade_id": "inverse_from_products", "solution": true}
def inverse_from_products(multiply, n):
    """Return the list [H_1, …, H_n] of (n, n) matrices, H_n = A⁻¹, from at most n calls of ``multiply``."""
    ### BEGIN SOLUTION
    H, history, steps, changes = np.eye(n), [], [], []
    for e in np.eye(n):
        s, y = e, multiply(e)
        for old_s, old_y in zip(steps, changes, strict=True):
            weight = (old_y @ e) / (old_y @ old_s)
            s, y = s - weight * old_s, y - weight * old_y
        H = bfgs_inverse_update(H, s, y)
        steps.append(s)
        changes.append(y)
        history.append(H)
    return history
    ### END SOLUTION


# %% nbgrader={"grade_id": "inverse", "points": 3}
laws(globals(), "secants.inverse")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "secants.inverse", seed=20217, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## Before you hand in
#
# Kernel → Restart Kernel and Run All Cells. Every test cell that shows ✓ here has passed the examples that you can see.
