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
# # Bring your own model
#
# You have a network and wonder whether KFQN helps. Wrap it, see what is covered, tune two numbers, read the diagnostics, and decide. The model here is a
# small residual net with BatchNorm and dropout on the digits; put yours in its place.

# %%
try:
    import kfqn_ref
except ImportError:
    raise  # install it first: pip install '.[notebooks]' in a checkout, or its wheel

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.progress import track
from torch import nn

from kfqn_ref.experiments.data import load_data
from kfqn_ref.optim import KFQN

plt.style.use("tableau-colorblind10")

# %%
torch.set_num_threads(1)
train, test = load_data("digits")
x, t = torch.as_tensor(train[0], dtype=torch.float32), torch.as_tensor(train[1])


class Residual(nn.Module):
    """x + relu(BatchNorm(conv(x)))"""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + torch.relu(self.norm(self.conv(x)))


def network():
    """Replace this by your model."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        Residual(8),
        nn.MaxPool2d(2),
        Residual(8),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(128, 10),
    )


# %% [markdown]
# ## What is covered?
#
# Linear layers and convolutions take the method; every other parameter, here BatchNorm's, takes AdamW's step. The optimizer says so once, in a
# warning that we catch and read. Nothing to configure.


# %%
def train_with(make, epochs=3):
    """Train on mini-batches of 100; return losses, model, optimizer."""
    model = network()
    opt = make(model)
    losses = []
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(100):

            def closure(rows=rows):
                opt.zero_grad()
                loss = nn.functional.cross_entropy(model(x[rows]), t[rows])
                loss.backward()
                return loss

            losses.append(opt.step(closure).item())
    return losses, model, opt


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    losses, model, opt = train_with(lambda model: KFQN(model, lr=0.1, damping=0.1))
print("warning:", caught[0].message)
warnings.filterwarnings("ignore", message="covered: ")  # read once, known now
covered = [name for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
print("covered:", covered)
print("loss from", round(losses[0], 2), "to", round(float(np.mean(losses[-5:])), 2))

# %% [markdown]
# ## Tune two numbers
#
# Only `lr` and `damping` matter much. Scan both on a logarithmic grid; the good region is a band: more damping asks for a longer step.

# %%
rates, dampings = (0.03, 0.1, 0.3, 1.0), (0.003, 0.03, 0.3)
table = np.full((len(dampings), len(rates)), np.nan)
cells = [(i, j) for i in range(len(dampings)) for j in range(len(rates))]
for i, j in track(cells, description="scanning"):
    losses, *_ = train_with(
        lambda model, i=i, j=j: KFQN(model, lr=rates[j], damping=dampings[i], curvature_interval=5),
        epochs=2,
    )
    table[i, j] = np.mean(losses[-5:])

fig, ax = plt.subplots(figsize=(6.5, 3.6))
shown = ax.imshow(np.log10(table), cmap="cividis")
ax.set(
    xticks=range(len(rates)),
    xticklabels=rates,
    yticks=range(len(dampings)),
    yticklabels=dampings,
    xlabel="lr",
    ylabel="damping",
    title="log10 of the training loss",
)
for i, j in cells:
    ax.text(
        j,
        i,
        f"{table[i, j]:.2f}",
        ha="center",
        va="center",
        color="black" if shown.norm(np.log10(table[i, j])) > 0.6 else "white",
    )
fig.colorbar(shown)
plt.show()
i, j = np.unravel_index(np.nanargmin(table), table.shape)
print(f"best of the grid: lr = {rates[j]}, damping = {dampings[i]}")

# %% [markdown]
# *The picture: a heat map of the loss over step size and damping; dark cells are good and lie together.*
#
# ## Read the diagnostics
#
# Many skipped pairs or an `H_g` that stays the identity mean that the output side learns nothing: raise `curvature_interval` or the batch. A huge ratio of extreme eigenvalues asks for
# more damping.

# %%
_, model, opt = train_with(
    lambda model: KFQN(model, lr=rates[j], damping=dampings[i], curvature_interval=5), epochs=3
)
for name in covered:
    known = opt.curvature(model.get_submodule(name))
    w_a, w_g = (np.linalg.eigvalsh(H.double().numpy()).ravel() for H in (known.H_a, known.H_g))
    print(
        f"{name:8s} log10 cond H_a {np.log10(w_a[-1] / w_a[0]):.1f}  H_g is no longer I: {abs(w_g - 1).max() > 0.1}"
    )
model.eval()
with torch.no_grad():
    right = (
        (model(torch.as_tensor(test[0], dtype=torch.float32)).argmax(1) == torch.as_tensor(test[1]))
        .float()
        .mean()
    )
print(f"test accuracy: {right:.2f}")

# %% [markdown]
# ## Change this and see
#
# * Your own network in `network()`. A layer used twice in one forward pass is refused by name: give it `exclude=["its.name"]`.
# * Parameter groups: `KFQN(model, groups=[{"params": model[0].parameters(), "lr": 0.01}])`.

# %% [markdown]
# ## Three questions
#
# **1.** The loss jumps in the first ten steps. Which number do you change first?
#
# <details><summary>Answer</summary>
#
# `lr`: halve it. If it still jumps, raise `damping`: the inverse of a factor with tiny eigenvalues makes long steps.
#
# </details>
#
# **2.** Your model has an embedding with most of the parameters. Is KFQN the right choice?
#
# <details><summary>Answer</summary>
#
# Probably not: the embedding takes AdamW's step, so most of the model would be trained by AdamW.
#
# </details>
#
# **3.** Why are the gradients `None` while the closure runs for the second time?
#
# <details><summary>Answer</summary>
#
# The second pass needs gradients of the outputs only, so the weights are frozen and cost nothing. A closure that *reads* `p.grad` must allow for None.
#
# </details>
