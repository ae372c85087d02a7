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
# # Invert a 3×3 matrix with secants
#
# Can you invert a matrix that you may only *multiply* with? A quasi-Newton method does: it shows the matrix `A` a
# vector `s`, sees the answer `y = A s`, and corrects its guess `H` of the inverse so that `H y = s`. That one equation is
# the **secant condition**. Here you watch it turn the identity into `A⁻¹`, three vectors for three dimensions.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np

from kfqn_ref import bfgs_inverse_update

plt.style.use("tableau-colorblind10")

# %% [markdown]
# ## One secant at a time
#
# Our matrix is small enough to see. The guess starts as the identity.

# %%
A = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])
s = np.array([1.0, 0.0, 0.0])
y = A @ s
H = bfgs_inverse_update(np.eye(3), s, y)
print("H y =", H @ y, " and s =", s)
print("eigenvalues of H:", np.linalg.eigvalsh(H).round(3), "- all positive")

# %% [markdown]
# BFGS made the *smallest* change (in a norm that the book explains) that obeys the secant. It says nothing yet about
# other vectors. Does a second secant destroy the first? In general yes. With **conjugate** vectors, `s_iᵀ A s_j = 0`, it does
# not, and after n of them `H = A⁻¹`.


# %%
def conjugate_directions(A):
    """Gram-Schmidt in the inner product of A."""
    directions = []
    for v in np.eye(len(A)):
        for d in directions:
            v = v - (d @ A @ v) / (d @ A @ d) * d
        directions.append(v)
    return directions


H, errors = np.eye(3), []
errors.append(np.linalg.norm(H - np.linalg.inv(A)))
for s in conjugate_directions(A):
    H = bfgs_inverse_update(H, s, A @ s)
    errors.append(np.linalg.norm(H - np.linalg.inv(A)))
    print(f"error of H after this secant: {errors[-1]:.1e}")

# %% [markdown]
# ## What if the vectors are not conjugate?
#
# Then the end is not exact, but nothing gets worse either: seen through `A^{1/2} H A^{1/2}`, which is the identity when
# `H = A⁻¹`, every eigenvalue moves towards 1 (Fletcher's interlacing). Random vectors get there, too.

# %%
rng = np.random.default_rng(0)
w, Q = np.linalg.eigh(A)
root = Q * np.sqrt(w) @ Q.T
H, spectrum = np.eye(3), []
for _ in range(15):
    spectrum.append(np.linalg.eigvalsh(root @ H @ root))
    s = rng.standard_normal(3)
    H = bfgs_inverse_update(H, s, A @ s)

fig, ax = plt.subplots(figsize=(7, 3.5))
ax.plot(spectrum, marker="o")
ax.axhline(1, color="black", linewidth=0.8)
ax.set(
    xlabel="secants shown",
    ylabel=r"eigenvalues of $A^{1/2} H A^{1/2}$",
    title="Every eigenvalue walks to 1",
)
plt.show()

# %% [markdown]
# *The picture: three curves that start at the eigenvalues of A and close in on 1, none ever turning away.*
#
# ## Change this and see
#
# * Make `A` worse conditioned: `A = np.diag([1.0, 10.0, 1000.0])`. How many random secants now?
# * Use the vector that the method itself uses: `s = H @ v` for a fixed `v`. What is learned, and what is never learned?

# %%
v = np.array([1.0, 1.0, 1.0])
H = np.eye(3)
for _ in range(5):
    s = H @ v  # try: s = H @ rng.standard_normal(3)
    H = bfgs_inverse_update(H, s, A @ s)
print("H A v =", (H @ A @ v).round(3), " against v =", v)
print("error of H:", np.linalg.norm(H - np.linalg.inv(A)).round(3))

# %% [markdown]
# ## Exercise: the update of B
#
# The same pair also improves an estimate `B` of the matrix itself, so that `B⁺ s = y`. The function below adds what was measured and does not take away what was believed before. Repair it. The cell then asks the laws of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def direct_update(B, s, y):
    """Return B⁺, (n, n), from B (n, n), s (n,), y (n,)."""
    return B + np.outer(y, y) / (s @ y)  # repair this line


try:
    laws({"bfgs_direct_update": direct_update}, "bfgs.direct_secant", "bfgs.direct_formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Multiply the result by `s`. Which term is left besides `y`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `B s` is left. Take away a matrix of rank one that maps `s` to `B s` and is symmetric.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# That matrix is `B s sᵀ B / (sᵀ B s)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def direct_update(B, s, y):
#     """Return B⁺, (n, n), from B (n, n), s (n,), y (n,)."""
#     Bs = B @ s
#     return B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why must `sᵀy` be positive?
#
# <details><summary>Answer</summary>
#
# A positive definite `H⁺` with `H⁺ y = s` has `yᵀs = yᵀH⁺y > 0`. So if `sᵀy ≤ 0`, no positive definite matrix obeys the secant: `bfgs_inverse_update` raises `LinAlgError`.
#
# </details>
#
# **2.** `bfgs_inverse_update(H, 5 * s, 5 * y)` gives the same matrix. Why is that what you want?
#
# <details><summary>Answer</summary>
#
# The pair says what `A` does along one *direction*; how far we walked is no property of `A`.
#
# </details>
#
# **3.** With `s = H v` and one fixed `v`, the method stops learning. Where does it stop?
#
# <details><summary>Answer</summary>
#
# When `H A H v = H v`, that is when the secant of the next pair already holds. It has learned `A⁻¹` on the vectors it was shown and keeps its first guess elsewhere. The method of this project shows the mean input `ā̄` of each *new* mini-batch, so the vectors keep changing.
#
# </details>
