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
# # Reading a convergence bound
#
# "Converges at rate N^(b−1)": what does such a sentence promise? For softmax regression on the digits every constant of the theorem can be
# *computed*: the smoothness L, the noise σ², the eigenvalue bounds κ of the preconditioner. You will put the bound beside a run, see how far apart they are, and
# find which constant is to blame.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np
from rich.progress import track
from sklearn.datasets import load_digits

import kfqn_ref as kf
from kfqn_ref.theory import Rate, constants, largest_step, sampling_variance, smoothness

plt.style.use("tableau-colorblind10")

# %%
digits = load_digits()
x, t = digits.images[:500, None] / 16, digits.target[:500]
network = kf.Network((kf.Flatten(), kf.Linear(64, 10)), kf.SoftmaxCrossEntropy())
method = kf.preset("convergent", damping=1.0, memory=1, step_decay=0.55)
known, smooth = constants(method, network, x), smoothness(network, x, t)
print(f"L = {smooth.L:.2f}, σ² = {smooth.sigma2:.1f}")
for name, bounds in {
    "H_a": known.layers[0].H_a,
    "H_g": known.layers[0].H_g,
    "both": known.kappa,
}.items():
    print(f"{name:4s} between {bounds.lo:.4f} and {bounds.hi:.2f}")

# %% [markdown]
# ## The run and its bound
#
# `α_k = c k^(−b)` with the largest `c` that the proof allows. After every step the *exact* gradient of the loss over all 500 samples is measured; the mini-batches are drawn
# with replacement, so that the noise is `σ²/m`.

# %%
m, N = 50, 400
start = network.init(np.random.default_rng(0))
c = largest_step(smooth.L, known.kappa)
rate = Rate(
    smooth.L,
    known.kappa,
    sampling_variance(smooth.sigma2, m),
    network.value(start, x, t),
    c,
    method.step_decay,
)


def measured(lr, seed, steps=N):
    """Run and return ‖∇f(θ_k)‖² before every step."""
    rng, optimizer = (
        np.random.default_rng(seed),
        kf.preset("convergent", damping=1.0, memory=1, step_decay=0.55, lr=lr),
    )
    params, state, squares = start, optimizer.init(start), []
    for _ in range(steps):
        squares.append(sum(np.sum(g**2) for g in kf.forward_backward(network, params, x, t).grads))
        rows = rng.integers(len(x), size=m)
        params, state, _ = optimizer.step(network, params, state, x[rows], t[rows])
    return np.array(squares)


ks = np.arange(1, N + 1)
mean = np.mean([measured(c, seed) for seed in track(range(5), description="five seeds")], axis=0)
running = np.cumsum(mean) / ks
bound = rate.running_mean(ks)

fig, ax = plt.subplots(figsize=(7, 4))
ax.loglog(ks, running, label="measured: mean of ‖∇f‖² so far")
ax.loglog(ks, bound, label="the theorem's bound")
ax.loglog(ks, bound[-1] * (ks / N) ** (method.step_decay - 1), ":", label="slope b − 1")
ax.set(xlabel="N", title="The bound holds, and how far above it lies")
ax.legend()
plt.show()
print("bound holds at every N:", bool((running <= bound).all()))
print(f"slack at N = {N}: {bound[-1] / running[-1]:.0e} times")

# %% [markdown]
# *The picture: the bound falls with slope b − 1, thousands of times above the run. The run itself hardly moves: the step that the proof allows is
# tiny.*
#
# ## Where does the slack come from?
#
# The bound is a product of worst cases. Replace one constant at a time by what the run really had:

# %%
block = kf.fit(
    kf.preset("convergent", damping=1.0, memory=1, step_decay=0.55, lr=c),
    network,
    start,
    ((x[i : i + m], t[i : i + m]) for i in range(0, 500, m)),
)
*_, last = block
state = last.state.blocks[0]
H = np.outer(np.linalg.eigvalsh(state.H_a.dense()), np.linalg.eigvalsh(state.H_g.dense()))
print(f"eigenvalues of H_a ⊗ H_g in the run: {H.min():.3f} to {H.max():.2f}")
print(f"allowed by Lemmas A and B:           {known.kappa.lo:.4f} to {known.kappa.hi:.2f}")
print(
    f"κ_hi / κ_lo: {H.max() / H.min():.0e} in the run, {known.kappa.hi / known.kappa.lo:.0e} in the bound"
)

# %% [markdown]
# ## Change this and see
#
# * The step size: the proof wants `c = 1 / (L κ_hi)`; a hundred times as much still works here, and is far faster. The theorem promises safety, not speed.
# * `memory=2`: κ_hi grows with every stored pair (`κ̂^p`); L-BFGS in practice does not.

# %%
for factor in (1, 10, 100):
    print(f"c × {factor:<4d} ‖∇f‖² after {N} steps: {measured(factor * c, 0)[-1]:.4f}")

# %% [markdown]
# ## Exercise: the pair that the bound needs
#
# The bounds of the theorem begin with `s̃ᵀs̃ / s̃ᵀỹ ≤ 1/λ` for each stored pair. The function below damps the step, and leaves `y` as it is. The cell then asks the laws of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def damp(H, s, y, *, mu1=0.2, lam):
    """Return s̃ and ỹ, each (n,)."""
    s_tilde = kf.powell_damp(H, s, y, mu1=mu1)
    return s_tilde, y  # repair this line


try:
    laws({"dp_dlm_damp": damp}, "damping.dp_dlm_step_bound", "damping.dp_dlm_composition")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The bound must hold for every y, however small. What must be added to y?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Add a multiple of `s̃`, so that `s̃ᵀỹ ≥ λ s̃ᵀs̃`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `ỹ = y + λ s̃`, with the damped step and not with `s`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def damp(H, s, y, *, mu1=0.2, lam):
#     """Return s̃ and ỹ, each (n,)."""
#     s_tilde = kf.powell_damp(H, s, y, mu1=mu1)
#     return s_tilde, y + lam * s_tilde
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why is the gradient's *running mean* bounded and not its last value?
#
# <details><summary>Answer</summary>
#
# The proof sums one-step decreases; each is proportional to ‖∇f(θ_k)‖². The sum is bounded, so the mean falls. One late gradient may be large without breaking the sum.
#
# </details>
#
# **2.** b = 0.55 has the best exponent b − 1 = −0.45. Why not b = 0.5 or less?
#
# <details><summary>Answer</summary>
#
# The noise adds `Σ α_k²`, which must stay bounded: `Σ k^(−2b)` converges only for b > 1/2.
#
# </details>
#
# **3.** The step uses the `H` of *earlier* mini-batches. What breaks in the proof if it used the present one?
#
# <details><summary>Answer</summary>
#
# Given the past, `H g` would no longer be unbiased: `E[H g] = H E[g]` needs H to be independent of the batch that g comes from.
#
# </details>
