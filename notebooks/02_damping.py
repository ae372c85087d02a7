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
# # What to do when the curvature is negative
#
# In a neural network `sᵀy` is negative now and then, and BFGS has no answer to such a pair. Throwing it away wastes
# what it knows. **Powell's damping** bends `s` towards `H y` just enough; **Levenberg-Marquardt damping** adds a little of `s`
# to `y`. You will bend one pair by hand, see θ, and see why both together keep `H` in bounds.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np

from kfqn_ref import bfgs_inverse_update, dp_dlm_damp, lm_damp, powell_damp, powell_theta

plt.style.use("tableau-colorblind10")

# %%
H = np.diag([1.0, 2.0])
y = np.array([1.0, 0.5])
s = np.array([-0.5, 0.4])
print(f"sᵀy = {s @ y:.2f}: no positive definite matrix maps y to s")
s_tilde = powell_damp(H, s, y, mu1=0.2)
print(
    f"θ = {powell_theta(H, s, y):.3f},  s̃ = {s_tilde.round(3)},  s̃ᵀy = {s_tilde @ y:.3f} = 0.2 yᵀHy = {0.2 * y @ H @ y:.3f}"
)

# %% [markdown]
# ## θ against the curvature
#
# Damping does nothing (θ = 1) while `sᵀy ≥ 0.2 yᵀHy`. Below that, θ falls smoothly, and the damped curvature stays at the
# threshold: a flat floor where the raw curvature plunges.

# %%
curvatures = np.linspace(-3, 1.5, 200)
thetas, kept = [], []
for c in curvatures:
    s = c * y / (y @ y) + np.array([-0.5, 1.0])  # (-0.5, 1) is orthogonal to y
    thetas.append(powell_theta(H, s, y))
    kept.append(powell_damp(H, s, y) @ y)

fig, ax = plt.subplots(figsize=(7, 3.5))
ax.plot(curvatures, curvatures, "--", label=r"$s^\top y$, raw")
ax.plot(curvatures, kept, linewidth=2, label=r"$\tilde s^\top y$, damped")
ax.plot(curvatures, thetas, label=r"$\theta$")
ax.set(xlabel=r"$s^\top y$", ylim=(-1, 1.6), title="Powell's damping: a floor under the curvature")
ax.legend()
plt.show()

# %% [markdown]
# *The picture: the raw curvature goes down to −3, the damped one stops at 0.2 yᵀHy; θ leaves 1 exactly there.*
#
# ## Why a second damping?
#
# Powell keeps `s̃ᵀy` positive *relative to* `yᵀHy`. If `y` is tiny, so is the curvature, and `H` may grow without limit.
# Adding `λ s̃` to `y` says "no direction is flatter than λ": then `s̃ᵀs̃ / s̃ᵀỹ ≤ 1/λ`, whatever comes in.

# %%
rng = np.random.default_rng(1)


def largest_after(damp, steps=40):
    """Feed random pairs, flat on average, and follow the largest eigenvalue of H."""
    H, largest = np.eye(4), []
    for _ in range(steps):
        s, y = rng.standard_normal(4), 0.05 * rng.standard_normal(4)
        H = bfgs_inverse_update(H, *damp(H, s, y))
        largest.append(np.linalg.eigvalsh(H)[-1])
    return largest


fig, ax = plt.subplots(figsize=(7, 3.5))
ax.semilogy(largest_after(lambda H, s, y: (powell_damp(H, s, y), y)), label="Powell only")
for lam in (0.01, 0.1, 1.0):  # change these and see
    ax.semilogy(
        largest_after(lambda H, s, y, lam=lam: dp_dlm_damp(H, s, y, lam=lam)),
        label=f"and LM, λ = {lam}",
    )
ax.set(xlabel="pairs", ylabel="largest eigenvalue of H", title="The second damping bounds H")
ax.legend()
plt.show()

# %% [markdown]
# ## Change this and see
#
# * `mu1=0.9` in the first cell: how far is `s` bent?
# * `lm_damp` alone, without Powell, can fail. Find a pair for which `s @ lm_damp(s, y, lam=0.1)` is negative:

# %%
s, y = np.array([1.0, 0.0]), np.array([-0.3, 0.2])  # change y and see
print("sᵀ(y + λ s) =", (s @ lm_damp(s, y, lam=0.1)).round(3))

# %% [markdown]
# ## Exercise: write Powell's damping
#
# The function below bends every pair half of the way. It must bend only where the curvature is too small, and only as far as the threshold. The cell then asks the laws of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def bend(H, s, y, *, mu1=0.2):
    """Return s̃, (n,), from H (n, n), s (n,), y (n,)."""
    return 0.5 * s + 0.5 * (H @ y)  # repair this line


try:
    laws({"powell_damp": bend}, "damping.powell_curvature", "damping.powell_keeps")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute `sᵀy` and `yᵀHy` first. In which case is the answer `s` itself?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# On the line `θ s + (1 − θ) H y` the curvature is `θ sᵀy + (1 − θ) yᵀHy`. Set it equal to `mu1 yᵀHy`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Solve for θ: `θ = (1 − mu1) yᵀHy / (yᵀHy − sᵀy)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def bend(H, s, y, *, mu1=0.2):
#     """Return s̃, (n,), from H (n, n), s (n,), y (n,)."""
#     Hy = H @ y
#     if s @ y >= mu1 * (y @ Hy):
#         return s.copy()
#     theta = (1 - mu1) * (y @ Hy) / (y @ Hy - s @ y)
#     return theta * s + (1 - theta) * Hy
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Powell's damping with a minus sign, `θ s − (1 − θ) H y`, is a real bug of public code. Which law sees it?
#
# <details><summary>Answer</summary>
#
# `s̃ᵀy ≥ mu1 yᵀHy`. Positive definiteness of `H` may survive by luck, the floor of the second cell does not. `kfqn check` names this mistake.
#
# </details>
#
# **2.** At the threshold itself, θ = 1 by both branches. Check it by hand.
#
# <details><summary>Answer</summary>
#
# Put `sᵀy = mu1 yᵀHy`: `(1 − mu1) yᵀHy / (yᵀHy − mu1 yᵀHy) = 1`. So `≥` or `>` in the test makes no difference: θ is continuous.
#
# </details>
#
# **3.** What does λ → ∞ do to `H`?
#
# <details><summary>Answer</summary>
#
# `ỹ ≈ λ s̃`, so `H ỹ = s̃` reads `H ≈ I/λ` along `s̃`: the method becomes gradient descent with step 1/λ in those directions.
#
# </details>
