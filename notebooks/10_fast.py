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
# # The torch optimizer on Fashion-MNIST
#
# The same method, fast: `kfqn_ref.optim.KFQN` is a `torch.optim.Optimizer`. You will train a CNN on 10,000 images of Fashion-MNIST with it and with SGD
# and Adam, see what a step costs, and read what the optimizer knows of each layer. Without the data set the notebook uses the digits; with
# `KFQN_QUICK=1` it takes a tenth of the steps.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import os
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.progress import track
from torch import nn

from kfqn_ref.experiments.data import DataError, load_data
from kfqn_ref.optim import KFQN

plt.style.use("tableau-colorblind10")

# %%
torch.manual_seed(0)
torch.set_num_threads(1)  # the same numbers everywhere
try:
    train = load_data("fashion-mnist").train
except DataError as error:
    print("using the digits:", error)
    train = load_data("digits").train
images = torch.as_tensor(train[0][:10_000], dtype=torch.float32)
classes = torch.as_tensor(train[1][:10_000])
steps = 15 if os.environ.get("KFQN_QUICK") else 150
print(len(images), "images of", tuple(images.shape[1:]), "-", steps, "steps of 100")

# %% [markdown]
# ## One loop for every optimizer
#
# KFQN calls the closure itself, and now and then a second time at the new weights: so everything of a step, `zero_grad` to `backward`, is inside.


# %%
def network():
    """A small CNN, with the same initial weights at every call."""
    torch.manual_seed(0)
    side = images.shape[-1] // 4
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * side * side, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def run(make):
    """Train and return the losses, the time of each step, the model and its optimizer."""
    model = network()
    opt = make(model)
    order = torch.Generator().manual_seed(1)
    losses, times = [], []
    for _ in range(steps):
        rows = torch.randint(len(images), (100,), generator=order)

        def closure(rows=rows):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(images[rows]), classes[rows])
            loss.backward()
            return loss

        start = perf_counter()
        losses.append(opt.step(closure).item())
        times.append(perf_counter() - start)
    return losses, times, model, opt


entrants = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "Adam": lambda model: torch.optim.Adam(model.parameters(), lr=2e-3),
    "KFQN": lambda model: KFQN(model, lr=0.3, damping=0.03),
    "KFQN, every 10": lambda model: KFQN(model, lr=0.3, damping=0.03, curvature_interval=10),
}
runs = {name: run(make) for name, make in track(list(entrants.items()), description="training")}

fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
for name, (losses, times, *_) in runs.items():
    smooth = np.convolve(losses, np.ones(10) / 10, "valid")
    axes[0].plot(smooth, label=name)
    axes[1].plot(np.arange(len(smooth)) * np.median(times), smooth, label=name)
axes[0].set(xlabel="step", ylabel="training loss, mean of 10 steps", title="Against steps")
axes[1].set(xlabel="seconds (steps × median step time)", title="Against time")
axes[0].legend()
plt.show()
for name, (losses, *_) in runs.items():
    print(f"{name:15s} mean loss of the last 20 steps: {np.mean(losses[-20:]):.2f}")

# %% [markdown]
# *The picture: the four losses against steps on the left and against time on the right; KFQN's lead per step is paid for by its dearer steps.*
#
# ## What the optimizer knows
#
# `opt.curvature(module)` shows one layer: the inverse factors as matrices, the dampings, and what happened to its pairs.

# %%
_, _, model, opt = runs["KFQN"]
for name, module in model.named_children():
    if isinstance(module, nn.Conv2d | nn.Linear):
        known = opt.curvature(module)
        print(
            name,
            type(module).__name__,
            "H_a",
            tuple(known.H_a.shape),
            "H_g",
            tuple(known.H_g.shape),
            "T =",
            known.T,
        )

# %% [markdown]
# ## Change this and see
#
# * `preset="kbfgs_2022"` or `input_inverse="lbfgs", memory=20`: less memory, other numbers.
# * A learning-rate scheduler: `torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)`, one `scheduler.step()` a step.
# * Save and go on: `opt.state_dict()` and `load_state_dict` resume bit for bit on one thread.

# %%
saved = {"model": model.state_dict(), "opt": opt.state_dict()}
again = network()
opt_again = KFQN(again, lr=0.3, damping=0.03)
again.load_state_dict(saved["model"])
opt_again.load_state_dict(saved["opt"])
same = all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
print(
    "weights restored exactly:", same, "- iterations so far:", opt_again.state_dict()["kfqn"]["k"]
)

# %% [markdown]
# ## Exercise: the rank-two form
#
# The product form of the update multiplies matrices. The rank-two form needs one product `H y` and two outer products. One factor is missing below. The cell then asks the law of the package; a law that fails shows the smallest example that it found.

# %%
from kfqn_ref.course.lesson import LawBroken, laws


def rank_two(H, s, y):
    """Return H⁺, (n, n), from H (n, n), s (n,), y (n,)."""
    rho = 1 / (s @ y)
    Hy = H @ y
    cross = np.outer(s, Hy)
    return H + rho * np.outer(s, s) - rho * (cross + cross.T)  # repair this line


try:
    laws({"bfgs_inverse_update": rank_two}, "bfgs.formula")
except LawBroken as broken:
    print(broken)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Multiply the result by `y`: it must be `s`. What is it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The coefficient of `s sᵀ` must also cancel `−ρ s (yᵀHy)`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# It is `ρ (1 + ρ yᵀHy)`.
#
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def rank_two(H, s, y):
#     """Return H⁺, (n, n), from H (n, n), s (n,), y (n,)."""
#     rho = 1 / (s @ y)
#     Hy = H @ y
#     cross = np.outer(s, Hy)
#     return H + rho * (1 + rho * (y @ Hy)) * np.outer(s, s) - rho * (cross + cross.T)
# ```
#
# </details>

# %% [markdown]
# ## Three questions
#
# **1.** Why must the closure use the *same* mini-batch when it is called again?
#
# <details><summary>Answer</summary>
#
# The pair is the change of outputs and gradients caused by the step alone. On another batch the difference would measure the batches.
#
# </details>
#
# **2.** BatchNorm's running statistics are not updated by the second pass. What would go wrong otherwise?
#
# <details><summary>Answer</summary>
#
# Each curvature step would count its batch twice, at two different weights: evaluation would depend on the curvature interval.
#
# </details>
#
# **3.** Which steps of the method would make a GPU wait for the CPU, if written carelessly?
#
# <details><summary>Answer</summary>
#
# Every `if` on a tensor: is `sᵀy` positive, is the loss finite, is θ below 1. The optimizer uses masks (`torch.where`) instead.
#
# </details>
