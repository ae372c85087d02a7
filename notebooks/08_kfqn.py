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
# # KF-QN-CNN in NumPy, on real digits
#
# All parts are on the table: damped pairs, Kronecker factors, Hessian action. Here is the whole method, in readable NumPy, training a small
# convolutional network on 1,500 real digits. You will take one step by hand, then race it against SGD, Adam and KFAC, each with a step size from
# the same small grid.

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

plt.style.use("tableau-colorblind10")

# %%
digits = load_digits()
x, t = digits.images[:1500, None] / 16, digits.target[:1500]
network = kf.Network(
    (
        kf.Conv2d(1, 8, 3, padding=1),
        kf.ReLU(),
        kf.MaxPool2d(2),
        kf.Conv2d(8, 16, 3, padding=1),
        kf.ReLU(),
        kf.Flatten(),
        kf.Linear(256, 10),
    ),
    kf.SoftmaxCrossEntropy(),
)
params = network.init(np.random.default_rng(0))
print("blocks (d_g, d_a):", network.block_shapes)

# %% [markdown]
# ## One step, by hand
#
# The state is a value; a step returns a new one. First iteration: `H_a` is the exact inverse of the batch's `A + λ_A I`, `H_g = I`. The weights move along
# `H_g M H_a`; the change of the layer's outputs and of their gradients is the first curvature pair.

# %%
optimizer = kf.preset("kfqn_cnn", lr=0.5, damping=0.03)
state = optimizer.init(params)
first = kf.forward_backward(network, params, x[:128], t[:128])
step = optimizer.step(network, params, state, x[:128], t[:128])
block, record = step.state.blocks[0], first.records[0]

M = 0.1 * first.grads[0]  # momentum 0.9 keeps a tenth of the first gradient
H_a = np.linalg.inv(kf.input_factor(record.a_bar) + block.lambda_a * np.eye(10))
print("W moved along H_g M H_a:", np.allclose(step.params[0], params[0] - 0.5 * M @ H_a))
print("secant of the damped pair, then:", block.counts)

# %% [markdown]
# ## The race
#
# Each optimizer gets three step sizes; the best final training loss counts (the same rule for all). One line is one optimizer at its best.


# %%
def run(make, lr, epochs=4):
    """Train from the same start on the same batches; return the loss of every step."""
    batches = (
        b
        for epoch in range(epochs)
        for b in kf.minibatches(x, t, 100, np.random.default_rng(epoch))
    )
    with np.errstate(over="ignore", invalid="ignore"):  # a step size that is too long may overflow
        return [step.loss for step in kf.fit(make(lr), network, params, batches)]


grid = {
    "SGD with momentum": (kf.SGD, (0.05, 0.1, 0.2)),
    "Adam": (kf.Adam, (3e-3, 1e-2, 3e-2)),
    "KFAC": (lambda lr: kf.KFAC(lr=lr, damping=0.03), (0.1, 0.3, 0.5)),
    "KF-QN-CNN": (lambda lr: kf.preset("kfqn_cnn", lr=lr, damping=0.03), (0.5, 1.0, 2.0)),
    "KF-QN-CNN, every 10": (
        lambda lr: kf.preset("kfqn_cnn", lr=lr, damping=0.03, curvature_interval=10),
        (0.5, 1.0, 2.0),
    ),
}
best = {}
for name, (make, rates) in track(list(grid.items()), description="racing"):
    runs = {lr: run(make, lr) for lr in rates}
    lr = min(runs, key=lambda lr: np.mean(runs[lr][-5:]) if np.isfinite(runs[lr]).all() else np.inf)
    best[name] = (lr, runs[lr])

fig, ax = plt.subplots(figsize=(8, 4))
for name, (lr, losses) in best.items():
    ax.semilogy(np.convolve(losses, np.ones(5) / 5, "valid"), label=f"{name}, lr {lr}")
ax.set(
    xlabel="step",
    ylabel="training loss, mean of 5 steps",
    title="Digits, the same network, batches and rule for all",
)
ax.legend()
plt.show()
for name, (lr, losses) in best.items():
    print(f"{name:20s} lr {lr:<6} last five steps: {np.mean(losses[-5:]):.2f}")

# %% [markdown]
# *The picture: training loss against step for five optimizers, each at its best step size of three.*
#
# ## Change this and see
#
# * `"kfqn_cnn_l"`, `"kbfgs_2022"`: the other presets.
# * `damping=0.3` and `damping=0.003`: which way does the best step size move?
# * The eigenvalues of `H_g` tell whether the output side has learned anything:

# %%
*_, last = kf.fit(optimizer, network, params, kf.minibatches(x, t, 100, np.random.default_rng(0)))
for shape, block in zip(network.block_shapes, last.state.blocks):
    w = np.linalg.eigvalsh(block.H_g.dense())
    print(
        shape,
        "H_g from",
        w[0].round(2),
        "to",
        w[-1].round(2),
        "damped",
        block.counts.damped_g,
        "of",
        block.counts.updates_g,
    )

# %% [markdown]
# ## Exercise: the pair of the input side
#
# `H_a` estimates the inverse of `A + λ I`. The function below shows it the curvature of `A` alone. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def pair(H_a, a_mean, A, *, lam):
    """Return s and y, each (d_a,); A is (d_a, d_a), or the patches (N, T, d_a)."""
    s = H_a @ a_mean
    if A.ndim == 3:  # patches: the product without the matrix
        return s, kf.hessian_action(A, s)  # repair this line
    return s, A @ s  # and this line


try:
    laws({"input_pair": pair}, "pairs.input_formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# If `H_a` were exact, `y` would have to be the mean input again. Is it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `A + λ I` must be multiplied by `s`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Add `lam * s` to `y` in both lines.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def pair(H_a, a_mean, A, *, lam):
#     """Return s and y, each (d_a,); A is (d_a, d_a), or the patches (N, T, d_a)."""
#     s = H_a @ a_mean
#     if A.ndim == 3:  # patches: the product without the matrix
#         return s, kf.hessian_action(A, s) + lam * s
#     return s, A @ s + lam * s
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Where does the second forward-backward pass go in the cost?
#
# <details><summary>Answer</summary>
#
# It is needed only for the pair of `H_g`. With `curvature_interval=10` nine of ten steps do without, at one forward-backward like SGD.
#
# </details>
#
# **2.** The pair uses the loss without weight decay. Why?
#
# <details><summary>Answer</summary>
#
# `H_g` is to model `∂²f/∂h²` of the loss. Weight decay acts on W, not on h; its curvature is known exactly and would only blur the estimate.
#
# </details>
#
# **3.** `M` has no bias correction. What does the first step look like?
#
# <details><summary>Answer</summary>
#
# `M = 0.1 g`: a tenth of the gradient. The method warms up by itself over about ten steps.
#
# </details>
