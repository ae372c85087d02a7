# %% [markdown]
# # Assignment 2: damping, and what it guarantees
#
# **Time** 75-90 minutes · **Points** 18 by tests, 6 by hand · **Read first** the chapter *Damping*
#
# ## What you will be able to do
#
# * repair a curvature pair whose $s^\top y$ is too small, or negative, without throwing it away;
# * combine Powell's and Levenberg-Marquardt damping into $D_P D_{LM}$;
# * state and prove what the damped pair satisfies, and find a pair for which the bound is reached.
#
# ## How it is graded
#
# | part | law | points |
# |---|---|---|
# | `powell` | (2.1) | 4 |
# | `curvature` | $\tilde s^\top y \ge \mu_1 y^\top H y$; enough curvature is kept; damping twice is damping once | 3 |
# | `invariance` | change of variables, scale | 2 |
# | `lm` | (2.3) | 1 |
# | `both` | (2.1), then (2.3) with the damped step | 3 |
# | `lemma` | the bounds (2.5)-(2.8) hold for your pair | 2 |
# | `attained` | a pair that reaches the bound (2.6) | 3 |
# | `proof` | by hand: your proof of (2.6) | 6 |
#
# Rubric of the proof: 2 points for the triangle inequality, 2 for the two estimates $\|y\| \le \ldots$ and $\|\tilde s\| \le \ldots$,
# 1 for Cauchy-Schwarz with the right vectors, 1 for saying when equality holds.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np

from kfqn_ref import Pair, bfgs_inverse_update  # the bound (2.8) is on one update
from kfqn_ref.course.lesson import laws, untampered

# %% [markdown]
# ## Powell's damping on H
#
# BFGS needs $s^\top y > 0$; a stochastic, non-convex loss does not care. Powell's damping keeps $y$ and pulls $s$ towards $H y$, just far
# enough (2.1), $0 < \mu_1 < 1$:
#
# $$\tilde s = \theta s + (1 - \theta) H y, \qquad
# \theta = \begin{cases} 1 & \text{if } s^\top y \ge \mu_1\, y^\top H y, \\
# \dfrac{(1 - \mu_1)\, y^\top H y}{y^\top H y - s^\top y} & \text{otherwise.} \end{cases}$$
#
# Before you write: for $n = 1$, $H = 1$, $y = 1$, $s = 0$, $\mu_1 = 0.2$, what is $\theta$, and what is $\tilde s$?


# %% nbgrader={"grade_id": "powell_damp", "solution": true}
def powell_damp(H, s, y, *, mu1=0.2):
    """Return s̃, (n,), from H (n, n), s (n,), y (n,), y not zero."""
    ### BEGIN SOLUTION
    Hy = H @ y
    sy, yHy = s @ y, y @ Hy
    theta = 1.0 if sy >= mu1 * yHy else (1 - mu1) * yHy / (yHy - sy)
    return theta * s + (1 - theta) * Hy
    ### END SOLUTION


# %% nbgrader={"grade_id": "powell", "points": 4}
laws(globals(), "damping.powell_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "damping.powell_formula", seed=31011, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "curvature", "points": 3}
laws(globals(), "damping.powell_curvature", "damping.powell_keeps", "damping.powell_idempotent")
### BEGIN HIDDEN TESTS
untampered()
laws(
    globals(),
    "damping.powell_curvature",
    "damping.powell_keeps",
    "damping.powell_idempotent",
    seed=31012,
    examples=80,
)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "invariance", "points": 2}
laws(globals(), "damping.powell_covariant", "damping.powell_scale", "damping.powell_default")
### BEGIN HIDDEN TESTS
untampered()
laws(
    globals(),
    "damping.powell_covariant",
    "damping.powell_scale",
    "damping.powell_default",
    seed=31013,
    examples=80,
)
### END HIDDEN TESTS

# %% [markdown]
# ## Levenberg-Marquardt damping
#
# As if $\lambda I$ had been added to the Hessian (2.3): $\tilde y = y + \lambda s$.


# %% nbgrader={"grade_id": "lm_damp", "solution": true}
def lm_damp(s, y, *, lam):
    """Return ỹ, (n,)."""
    ### BEGIN SOLUTION
    return y + lam * s
    ### END SOLUTION


# %% nbgrader={"grade_id": "lm", "points": 1}
laws(globals(), "damping.lm_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "damping.lm_formula", seed=31014, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## Both: $D_P D_{LM}$
#
# First (2.1), then (2.3) **with the damped step**. Return both as `Pair(s_tilde, y_tilde)`.


# %% nbgrader={"grade_id": "dp_dlm_damp", "solution": true}
def dp_dlm_damp(H, s, y, *, mu1=0.2, lam):
    """Return the pair (s̃, ỹ)."""
    ### BEGIN SOLUTION
    s_tilde = powell_damp(H, s, y, mu1=mu1)
    return Pair(s_tilde, lm_damp(s_tilde, y, lam=lam))
    ### END SOLUTION


# %% nbgrader={"grade_id": "both", "points": 3}
laws(globals(), "damping.dp_dlm_composition", "damping.dp_dlm_attained")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "damping.dp_dlm_composition", "damping.dp_dlm_attained", seed=31015, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The lemma
#
# With $B = H^{-1}$ and any $s$, any $y \ne 0$:
#
# $$\frac{\tilde s^\top \tilde s}{\tilde s^\top \tilde y} \le \frac1\lambda \ (2.5), \qquad
# \frac{\tilde y^\top \tilde y}{\tilde s^\top \tilde y} \le \lambda + \frac{\|B\|}{\mu_1} \ (2.6), \qquad
# \frac{\tilde y^\top H \tilde y}{\tilde s^\top \tilde y} \le \frac1{\mu_1} + \lambda \|H\| \ (2.7).$$
#
# So one update can change neither $B$ nor $H$ by more than a known amount (2.8). The tests hold your pair to all four.

# %% nbgrader={"grade_id": "lemma", "points": 2}
laws(globals(), "damping.dp_dlm_step_bound", "damping.dp_dlm_gradient_bound")
laws(globals(), "damping.dp_dlm_metric_bound", "damping.dp_dlm_update_bound")
### BEGIN HIDDEN TESTS
untampered()
laws(
    globals(), "damping.dp_dlm_step_bound", "damping.dp_dlm_gradient_bound", seed=31016, examples=80
)
laws(
    globals(), "damping.dp_dlm_metric_bound", "damping.dp_dlm_update_bound", seed=31016, examples=80
)
laws(
    globals(), "damping.dp_dlm_composition", seed=31016
)  # bounds alone are kept by many a wrong pair
### END HIDDEN TESTS

# %% [markdown]
# ## The bound is reached
#
# A bound that nothing reaches may be improved. Show that (2.6) cannot: for a given $H$ return a pair $(s, y)$ for which it holds with
# equality, whatever $\mu_1$ and $\lambda$ are. Hint: when does equality hold in the triangle inequality of your proof? And which $y$ has
# $\|y\|^2 = \|B\|\, y^\top H y$?


# %% nbgrader={"grade_id": "worst_pair", "solution": true}
def worst_pair(H):
    """Return (s, y), each (n,), y not zero, that reaches the bound (2.6)."""
    ### BEGIN SOLUTION
    _, vectors = np.linalg.eigh(H)
    y = vectors[:, 0]  # H y = y / ‖B‖
    return np.zeros(len(y)), y  # damping acts: s̃ = mu1 H y
    ### END SOLUTION


# %% nbgrader={"grade_id": "attained", "points": 3}
laws(globals(), "lemma.attained")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "lemma.attained", seed=31017, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The proof
#
# Prove (2.6). You may use (2.4), $\tilde s^\top y \ge \mu_1 y^\top H y$. About ten lines; say at every sign which fact you use.

# %% [markdown] nbgrader={"grade_id": "proof", "points": 6, "solution": true}
# ### BEGIN SOLUTION
# Write $c = \tilde s^\top \tilde y = \tilde s^\top y + \lambda \|\tilde s\|^2$. The triangle inequality gives $\|\tilde y\| \le \|y\| + \lambda \|\tilde s\|$.
# From $y^\top H y \ge \|y\|^2 / \|B\|$ and (2.4), $\|y\|^2 \le \|B\|\, y^\top H y \le (\|B\|/\mu_1)\, \tilde s^\top y$. Hence
# $\|\tilde y\| \le \sqrt{\|B\|/\mu_1} \sqrt{\tilde s^\top y} + \sqrt\lambda \sqrt{\lambda \|\tilde s\|^2}$, and by Cauchy-Schwarz in the plane
# $\|\tilde y\|^2 \le (\|B\|/\mu_1 + \lambda)(\tilde s^\top y + \lambda \|\tilde s\|^2) = (\|B\|/\mu_1 + \lambda)\, c$. Equality needs $y$ parallel to $\tilde s$,
# $y$ an eigenvector of $H$ for its smallest eigenvalue, and damping that acts.
# ### END SOLUTION
