# ---
# jupyter:
#   kfqn:
#     allow: [AvgPool2d, Conv2d, Flatten, Linear, Network, SoftmaxCrossEntropy, Tanh, start]
# ---

# %% [markdown]
# # Assignment 6: a whole KF-QN step on a small CNN
#
# **Time** 75-90 minutes · **Points** 20 · **Read first** the chapter *KF-QN-CNN*
#
# ## What you will be able to do
#
# * put gradient, both inverse estimates, curvature pairs and damping together into one iteration;
# * keep the order of its parts, which is where most implementations go wrong;
# * read a law that looks at one step of an optimizer.
#
# ## How it is graded
#
# | part | law | points |
# |---|---|---|
# | `output` | the output pair (7.1) | 3 |
# | `average` | its moving average (7.2) | 2 |
# | `direction` | $W \leftarrow W - \alpha H_g M H_a$ with the matrices of the step before | 5 |
# | `input_side` | $H_a$ after the step, by Hessian action | 4 |
# | `output_side` | $H_g$ after the step, by the damped pair | 5 |
# | `definite` | both stay symmetric and positive definite | 1 |
#
# Each part looks at every step of short runs on small networks (linear, convolutions, grouped ones), starting from what your own step
# before gave: an error is named where it is made.

# %% nbgrader={"grade_id": "setup", "locked": true}
import numpy as np

from kfqn_ref import (
    Pair,
    bfgs_inverse_update,
    dp_dlm_damp,
    forward_backward,
    input_mean,
    input_pair,
)
from kfqn_ref.course.lesson import laws, untampered
from kfqn_ref.course.tasks import Block

# %% [markdown]
# ## The output pair
#
# A `Record` holds what a block saw in one pass: `a_bar` $(N, T, d_a)$, `h` and `Dh` $(N, T, d_g)$; `Dh` is the gradient of the **per-sample**
# loss. Before and after the step, on the same mini-batch (7.1):
#
# $$s = \mathrm{mean}_{n,t}(h^+ - h), \qquad y = \mathrm{mean}_{n,t}(Dh^+ - Dh).$$
#
# And the moving average (7.2), for both: $s_g \leftarrow \mathrm{decay}\; s_g + (1 - \mathrm{decay})\, s$.


# %% nbgrader={"grade_id": "pairs", "solution": true}
def output_pair(first, second):
    """Return Pair(s, y), (d_g,) each, from the records before and after the step."""
    ### BEGIN SOLUTION
    return Pair((second.h - first.h).mean(axis=(0, 1)), (second.Dh - first.Dh).mean(axis=(0, 1)))
    ### END SOLUTION


def average_pair(old, new, *, decay):
    """Return the averaged Pair."""
    ### BEGIN SOLUTION
    return Pair(decay * old.s + (1 - decay) * new.s, decay * old.y + (1 - decay) * new.y)
    ### END SOLUTION


# %% nbgrader={"grade_id": "output", "points": 3}
laws(globals(), "pairs.output_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "pairs.output_formula", seed=75011, examples=80)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "average", "points": 2}
laws(globals(), "pairs.average_formula")
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "pairs.average_formula", seed=75012, examples=80)
### END HIDDEN TESTS

# %% [markdown]
# ## The step
#
# `blocks` holds one `Block(M, H_a, H_g, s_g, y_g)` for every `W` of `params`; at the start $M = 0$, $H_a = (A + \lambda_A I)^{-1}$,
# $H_g = I$, $s_g = y_g = 0$ (this is given). One iteration:
#
# 1. a pass on the mini-batch: `forward_backward(network, params, x, target)` has `.grads` and `.records`;
# 2. for every block: $M \leftarrow \beta M + (1 - \beta) \nabla_W f$, $P = H_g M H_a$, $W \leftarrow W - \alpha P$;
# 3. input side: $\bar{\bar a}$ and $\bar a$ of the **first** pass and the current $H_a$ give `input_pair(H_a, input_mean(a_bar), a_bar, lam=λ_A)`; then
#    one BFGS update of $H_a$;
# 4. a second pass on the **same** mini-batch at the new weights;
# 5. output side: (7.1), (7.2), then `dp_dlm_damp(H_g, s_g, y_g, lam=λ_G)` damps a copy: what is *averaged* stays undamped; one BFGS update of
#    $H_g$ with the damped pair.
#
# On both sides a pair is used only if its $s^\top y$ is positive, on the output side after damping; else the matrix stays. And $y_g = 0$
# has no curvature to damp.
#
# $\lambda_A = \lambda_G = \sqrt{\lambda}$ with $\lambda$ = `damping`. `momentum` is $\beta$, `lr` is $\alpha$.


# %% nbgrader={"grade_id": "kfqn_step", "solution": true}
def kfqn_step(network, params, blocks, x, target, *, lr, damping, momentum, pair_decay):
    """Return (new params, new blocks), a tuple of arrays and a tuple of Block."""
    ### BEGIN SOLUTION
    lam = np.sqrt(damping)
    first = forward_backward(network, params, x, target)
    M = [
        momentum * block.M + (1 - momentum) * g
        for block, g in zip(blocks, first.grads, strict=True)
    ]
    new = tuple(W - lr * b.H_g @ m @ b.H_a for W, m, b in zip(params, M, blocks, strict=True))
    second = forward_backward(network, new, x, target)
    after = []
    for block, m, before, behind in zip(blocks, M, first.records, second.records, strict=True):
        s, y = input_pair(block.H_a, input_mean(before.a_bar), before.a_bar, lam=lam)
        H_a = bfgs_inverse_update(block.H_a, s, y) if s @ y > 0 else block.H_a
        s_g, y_g = average_pair(
            Pair(block.s_g, block.y_g), output_pair(before, behind), decay=pair_decay
        )
        H_g = block.H_g
        if y_g @ H_g @ y_g > 0:
            s, y = dp_dlm_damp(H_g, s_g, y_g, lam=lam)
            if s @ y > 0:
                H_g = bfgs_inverse_update(H_g, s, y)
        after.append(Block(m, H_a, H_g, s_g, y_g))
    return new, tuple(after)
    ### END SOLUTION


# %% nbgrader={"grade_id": "direction", "points": 5}
laws(globals(), "step.direction", examples=60)
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "step.direction", seed=75013, examples=100)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "input_side", "points": 4}
laws(globals(), "step.input_update", examples=60)
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "step.input_update", seed=75014, examples=100)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "output_side", "points": 5}
laws(globals(), "step.output_update", examples=60)
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "step.output_update", seed=75015, examples=100)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "definite", "points": 1}
laws(globals(), "step.definite", examples=60)
### BEGIN HIDDEN TESTS
untampered()
laws(globals(), "step.definite", "step.output_update", seed=75016, examples=60)
### END HIDDEN TESTS

# %% [markdown]
# ## And it trains
#
# No points here, only the pleasure: your step on real digits. Watch the loss fall; then set `damping=0.001`, and `pair_decay=0.0`.

# %%
# from kfqn_ref import AvgPool2d, Conv2d, Flatten, Linear, Network, SoftmaxCrossEntropy, Tanh
# from kfqn_ref.course.tasks import start
# from sklearn.datasets import load_digits
#
# digits = load_digits()
# x, target = digits.images[:200, None] / 16, digits.target[:200]
# network = Network((Conv2d(1, 4, 3), Tanh(), AvgPool2d(2), Flatten(), Linear(36, 10)), SoftmaxCrossEntropy())
# params = network.init(np.random.default_rng(0))
# a_bars = tuple(record.a_bar for record in forward_backward(network, params, x, target).records)
# blocks = start(a_bars, params, 0.1)
# for k in range(20):
#     print(k, round(network.value(params, x, target), 4))
#     params, blocks = kfqn_step(network, params, blocks, x, target, lr=0.3, damping=0.1, momentum=0.9, pair_decay=0.9)
