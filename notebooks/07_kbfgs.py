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
# # Curvature pairs of a training run
#
# K-BFGS learns one small inverse for each side of a layer. The pair of the output side is observed: the change of the layer's outputs, and
# the change of their gradients, before and after a step on the same mini-batch. You will form such a pair, see how often
# damping has to change one, and follow the learned inverse through a run.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import kfqn_ref as kf

plt.style.use("tableau-colorblind10")

# %%
digits = load_digits()
x, t = digits.data[:1000] / 16, digits.target[:1000]
layers = (kf.Linear(64, 20), kf.Tanh(), kf.Linear(20, 10))
network = kf.Network(layers, kf.SoftmaxCrossEntropy())
params = network.init(np.random.default_rng(0))

# %% [markdown]
# ## One pair by hand
#
# Both passes see the same mini-batch. Between them the weights move along the negative gradient.

# %%
before = kf.forward_backward(network, params, x[:100], t[:100])
moved = [W - 0.1 * g for W, g in zip(params, before.grads)]
after = kf.forward_backward(network, moved, x[:100], t[:100])
for number, (first, second) in enumerate(zip(before.records, after.records), start=1):
    s, y = kf.output_pair(first, second)
    print(f"layer {number}: sᵀy = {s @ y:.1e}, length of s {np.linalg.norm(s):.1e}")

# %% [markdown]
# ## A run
#
# `kbfgs_2020` is the method of 2020: double damping, one pair an iteration and a layer. We follow the extreme eigenvalues of `H_g` of
# the last layer, and count the pairs that damping changed.

# %%
method = kf.preset("kbfgs_2020")
batches = [
    b for epoch in range(10) for b in kf.minibatches(x, t, 100, np.random.default_rng(epoch))
]
extremes, losses = [], []
for step in kf.fit(method, network, params, batches):
    values = np.linalg.eigvalsh(step.state.blocks[1].H_g.dense())
    extremes.append((values[0], values[-1]))
    losses.append(step.loss)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
left.plot(losses)
left.set(xlabel="step", ylabel="loss of the mini-batch")
right.semilogy(extremes)
right.set(xlabel="step", title="smallest and largest eigenvalue of H_g, last layer")
plt.show()
for number, block in enumerate(step.state.blocks, start=1):
    print(f"layer {number}: {block.counts.damped_g} of {block.counts.updates_g} pairs damped")

# %% [markdown]
# *The picture: left the loss of each mini-batch, right the extreme eigenvalues of the learned inverse, which starts as the identity.*
#
# ## Change this and see
#
# * `kf.preset("kbfgs_l_2020", memory=5)`: the same with five stored pairs.
# * `damping=0.03` and `damping=3.0`: what happens to the largest eigenvalue?

# %%
print("damping of the preset:", method.damping)

# %% [markdown]
# ## Exercise: the pair of the output side
#
# The function below gets the records of both passes: `h` and `Dh`, each (N, T, d_g). It sums where the method takes the mean. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def pair(first, second):
    """Return s and y, each (d_g,)."""
    s = (second.h - first.h).sum(axis=(0, 1))  # repair these lines
    y = (second.Dh - first.Dh).sum(axis=(0, 1))
    return s, y


try:
    laws({"output_pair": pair}, "pairs.output_formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Multiply s and y by the same number: what happens to the update? And to Levenberg-Marquardt damping, and to an average with other pairs?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The law asks for the mean over samples and locations.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Replace `sum` by `mean` in both lines.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def pair(first, second):
#     """Return s and y, each (d_g,)."""
#     s = (second.h - first.h).mean(axis=(0, 1))
#     y = (second.Dh - first.Dh).mean(axis=(0, 1))
#     return s, y
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why must both passes see the same mini-batch?
#
# <details><summary>Answer</summary>
#
# With another mini-batch the difference y would contain the difference between two samples of the data, which says nothing about curvature.
#
# </details>
#
# **2.** Why are the pairs averaged over iterations before they are used?
#
# <details><summary>Answer</summary>
#
# One pair is noisy. The moving average of s and of y, with the same weights, keeps y = G s if G is constant, and the noise becomes smaller.
#
# </details>
#
# **3.** Which side needs a second pass through the network?
#
# <details><summary>Answer</summary>
#
# The output side alone. The pair of the input side is computed from the inputs that the first pass has stored.
#
# </details>
