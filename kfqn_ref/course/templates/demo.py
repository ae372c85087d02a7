# ---
# jupyter:
#   kfqn:
#     refuse: [scipy.optimize.BFGS]
#     vary: {learned: [learned, refined, renewed, revised], 2.5: [1.5, 2.5, 3.5]}
# ---

# %% [markdown]
# # A demonstration: the BFGS update of an inverse
#
# Twelve fictional submissions answer this small assignment. Each student is asked for another
# factor and another name: here `learned`, which returns 2.5 times the update of H.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref.course.lesson import laws, raises


# %% nbgrader={"grade_id": "learned", "solution": true}
def learned(H, s, y):
    """Return 2.5 H⁺, (n, n), from H (n, n), s (n,), y (n,)."""
    ### BEGIN SOLUTION
    sy = s @ y
    if not sy > 0:
        raise LinAlgError(f"sᵀy must be positive, got {sy}")
    left = np.eye(len(s)) - np.outer(s, y) / sy
    return 2.5 * (left @ H @ left.T + np.outer(s, s) / sy)
    ### END SOLUTION


# %% nbgrader={"grade_id": "asked", "locked": true}
def update(H, s, y):
    """Return H⁺ by the function that is asked for."""
    return np.asarray(learned(H, s, y)) / 2.5


# %% nbgrader={"grade_id": "secant", "points": 3}
laws({"bfgs_inverse_update": update}, "bfgs.secant", examples=20)
### BEGIN HIDDEN TESTS
laws({"bfgs_inverse_update": update}, "bfgs.secant", seed=1, examples=20)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "formula", "points": 3}
laws({"bfgs_inverse_update": update}, "bfgs.formula", examples=20)
### BEGIN HIDDEN TESTS
laws({"bfgs_inverse_update": update}, "bfgs.formula", seed=2, examples=20)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "refusal", "points": 2}
raises(LinAlgError, update, np.eye(1), np.array([1.0]), np.array([-1.0]))
### BEGIN HIDDEN TESTS
raises(LinAlgError, update, np.eye(1), np.array([np.nan]), np.array([1.0]))
### END HIDDEN TESTS
