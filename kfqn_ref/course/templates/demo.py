# ---
# jupyter:
#   kfqn:
#     refuse: [scipy.optimize.BFGS]
# ---

# %% [markdown]
# # A demonstration: the BFGS update of an inverse
#
# Twelve fictional submissions answer this small assignment.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np
from numpy.linalg import LinAlgError

from kfqn_ref.course.lesson import laws, raises


# %% nbgrader={"grade_id": "bfgs_inverse_update", "solution": true}
def bfgs_inverse_update(H, s, y):
    """Return H⁺, (n, n), from H (n, n), s (n,), y (n,)."""
    ### BEGIN SOLUTION
    sy = s @ y
    if not sy > 0:
        raise LinAlgError(f"sᵀy must be positive, got {sy}")
    left = np.eye(len(s)) - np.outer(s, y) / sy
    return left @ H @ left.T + np.outer(s, s) / sy
    ### END SOLUTION


# %% nbgrader={"grade_id": "secant", "points": 3}
laws(globals(), "bfgs.secant", examples=20)
### BEGIN HIDDEN TESTS
laws(globals(), "bfgs.secant", seed=1, examples=20)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "formula", "points": 3}
laws(globals(), "bfgs.formula", examples=20)
### BEGIN HIDDEN TESTS
laws(globals(), "bfgs.formula", seed=2, examples=20)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "refusal", "points": 2}
raises(LinAlgError, bfgs_inverse_update, np.eye(1), np.array([1.0]), np.array([-1.0]))
### BEGIN HIDDEN TESTS
raises(LinAlgError, bfgs_inverse_update, np.eye(1), np.array([np.nan]), np.array([1.0]))
### END HIDDEN TESTS
