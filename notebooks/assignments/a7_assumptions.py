# %% [markdown]
# # Assignment 7 (open): break an assumption, and measure it
#
# **Time** 90 minutes · **Points** 12 by tests, 12 by hand · **Read first** the chapter *The layer's Hessian block*
#
# ## What you will be able to do
#
# * measure what each of the three assumptions behind $A \otimes G$ costs, on any layer;
# * make each of them fail alone, so that you know what a failure looks like;
# * ask a question about a trained network, and answer it with a number, a picture and its uncertainty.
#
# ## How it is graded
#
# | part | what | points |
# |---|---|---|
# | `SUD`, `IAD`, `SH` | the measured error of each | 2 each |
# | `SUD_alone`, `IAD_alone`, `SH_alone` | an example in which it fails and the others hold exactly | 2 each |
# | `experiment` | by hand: your experiment | 12 |
#
# Rubric of the experiment: **question** (2: one sentence, could be answered wrongly), **design** (3: what varies, what is fixed, how many
# seeds, and why this layer), **measurement** (3: code that runs, errors of all three assumptions, a spread over seeds), **picture** (2: axes,
# units, one message), **answer** (2: says what the numbers show and what they do not).

# %% nbgrader={"grade_id": "setup", "locked": true}
import matplotlib.pyplot as plt
import numpy as np

from kfqn_ref import forward_backward
from kfqn_ref.hessian import output_hessian
from kfqn_ref.course.lesson import laws, untampered

# %% [markdown]
# ## Measure
#
# For one block, `a_bar` has shape $(N, T, d_a)$ and `Hh[n, t, g, u, h]` $= \partial^2 f_n / \partial h_t[g]\, \partial h_u[h]$. The exact block, in the
# order of $\mathrm{cvec}(W)$, and what it becomes by one assumption more at a time:
#
# 1. exact: $\frac1N \sum_n \sum_{t,u} (\bar a_{n,t} \bar a_{n,u}^\top) \otimes \mathrm{Hh}_{n,t,u}$;
# 2. SUD: only the terms $t = u$;
# 3. and IAD: for every location $t$ the product of means, $\sum_t (\frac1N \sum_n \bar a_{n,t} \bar a_{n,t}^\top) \otimes (\frac1N \sum_n \mathrm{Hh}_{n,t,t})$;
# 4. and SH: $A \otimes G$.
#
# Return the Frobenius norm of each step of this chain (2 − 1, 3 − 2, 4 − 3) and of the whole (4 − 1), divided by the norm of the exact block,
# as a dict with the keys `"SUD"`, `"IAD"`, `"SH"`, `"total"`.


# %% nbgrader={"grade_id": "assumption_errors", "solution": true}
def assumption_errors(a_bar, Hh):
    """Return the four relative errors as a dict of floats."""
    ### BEGIN SOLUTION
    N, T = a_bar.shape[:2]

    def total(weights):
        return sum(weights, start=0.0)

    exact = (
        total(
            np.kron(np.outer(a_bar[n, t], a_bar[n, u]), Hh[n, t, :, u])
            for n in range(N)
            for t in range(T)
            for u in range(T)
        )
        / N
    )
    sud = (
        total(
            np.kron(np.outer(a_bar[n, t], a_bar[n, t]), Hh[n, t, :, t])
            for n in range(N)
            for t in range(T)
        )
        / N
    )
    A_t = [
        np.mean([np.outer(a_bar[n, t], a_bar[n, t]) for n in range(N)], axis=0) for t in range(T)
    ]
    G_t = [np.mean([Hh[n, t, :, t] for n in range(N)], axis=0) for t in range(T)]
    iad = total(np.kron(A, G) for A, G in zip(A_t, G_t, strict=True))
    both = np.kron(sum(A_t), sum(G_t) / T)
    steps = {"SUD": sud - exact, "IAD": iad - sud, "SH": both - iad, "total": both - exact}
    return {
        name: float(np.linalg.norm(step) / np.linalg.norm(exact)) for name, step in steps.items()
    }
    ### END SOLUTION


# %% nbgrader={"grade_id": "SUD", "points": 2}
laws(globals(), "assumptions.SUD_error")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "assumptions.SUD_error", seed=86011, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "IAD", "points": 2}
laws(globals(), "assumptions.IAD_error")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "assumptions.IAD_error", seed=86012, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "SH", "points": 2}
laws(globals(), "assumptions.SH_error")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "assumptions.SH_error", seed=86013, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## Each alone
#
# Return, for each name, a small `(a_bar, Hh)` in which **this** assumption costs more than 10 % and the two others nothing. A second
# derivative is symmetric: `Hh[n, t, g, u, h] == Hh[n, u, h, t, g]`. Hint: with $N = 1$ one of the assumptions cannot fail, with $T = 1$ two others
# cannot.


# %% nbgrader={"grade_id": "lonely_failure", "solution": true}
def lonely_failure(name):
    """Return (a_bar, Hh) in which only the assumption "SUD", "IAD" or "SH" fails."""
    ### BEGIN SOLUTION
    if name == "IAD":  # one location, inputs and derivatives large together
        return np.array([[[1.0]], [[2.0]]]), np.array([1.0, 3.0]).reshape(2, 1, 1, 1, 1)
    a_bar, Hh = np.ones((1, 2, 1)), np.zeros((1, 2, 1, 2, 1))
    Hh[0, :, 0, :, 0] = [[1.0, 0.5], [0.5, 1.0]] if name == "SUD" else [[1.0, 0.0], [0.0, 3.0]]
    if name == "SH":
        a_bar[0, 1] = 2.0
    return a_bar, Hh
    ### END SOLUTION


# %% nbgrader={"grade_id": "SUD_alone", "points": 2}
laws(globals(), "assumptions.SUD_alone")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "assumptions.SUD_alone")
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "IAD_alone", "points": 2}
laws(globals(), "assumptions.IAD_alone")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "assumptions.IAD_alone")
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "SH_alone", "points": 2}
laws(globals(), "assumptions.SH_alone")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "assumptions.SH_alone")
### END HIDDEN TESTS

# %% [markdown]
# ## Your experiment
#
# Choose one question about one layer of one network, for example: does training make IAD worse? Does a wider kernel break SUD? Does zero
# padding break SH? Does the loss (softmax, squares) matter? `forward_backward(network, params, x, target).records[block].a_bar` and
# `output_hessian(network, params, x, target, block)` give what `assumption_errors` needs; keep $T \cdot d_g$ below about 100.
# Write question, design and answer in the text cell, and code and picture in the code cell.

# %% [markdown] nbgrader={"grade_id": "experiment", "points": 8, "solution": true}
# ### BEGIN SOLUTION
# *Question.* Does zero padding break spatial homogeneity? *Design.* One $3 \times 3$ convolution of one channel on $4 \times 4$ images of the digits
# (averaged from $8 \times 8$), tanh, a linear layer, softmax; padding 1 against none; 5 seeds of the weights; 20 samples. *Answer.* The bars show the
# mean and the spread over the seeds; the numbers are those of the cell below, and say nothing of deeper layers or of trained weights.
# ### END SOLUTION

# %% nbgrader={"grade_id": "picture", "points": 4, "solution": true}
### BEGIN SOLUTION
from sklearn.datasets import load_digits

from kfqn_ref import Conv2d, Flatten, Linear, Network, SoftmaxCrossEntropy, Tanh

digits = load_digits()
x = digits.images[:20].reshape(20, 1, 4, 2, 4, 2).mean(axis=(3, 5)) / 16
found = {}
for padding in (0, 1):
    side = 2 + 2 * padding
    network = Network(
        (Conv2d(1, 2, 3, padding=padding), Tanh(), Flatten(), Linear(2 * side**2, 10)),
        SoftmaxCrossEntropy(),
    )
    rows = []
    for seed in range(5):
        params = network.init(np.random.default_rng(seed))
        a_bar = forward_backward(network, params, x, digits.target[:20]).records[0].a_bar
        errors = assumption_errors(a_bar, output_hessian(network, params, x, digits.target[:20], 0))
        rows.append([errors[name] for name in ("SUD", "IAD", "SH")])
    found[padding] = np.array(rows)
for padding, rows in found.items():
    plt.bar(
        np.arange(3) + 0.4 * padding,
        rows.mean(axis=0),
        0.4,
        yerr=rows.std(axis=0),
        label=f"padding {padding}",
    )
plt.xticks(np.arange(3) + 0.2, ["SUD", "IAD", "SH"])
plt.ylabel("error relative to the exact block")
plt.legend()
### END SOLUTION
