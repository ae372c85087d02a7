"""Laws of a network's pass: loss, gradients and what each block saw, against loops and complex
steps.
"""

from typing import Any

import numpy as np

from kfqn_ref.testing import oracles
from kfqn_ref.testing import tolerances as tol
from kfqn_ref.testing.law import equal, law
from kfqn_ref.testing.strategies.networks import problems


def growth(params: Any, x: np.ndarray) -> float:
    """How much a network can magnify an error: a layer by ‖W‖, its activation not at all, the
    gradient once more.
    """
    scale = np.prod([max(1.0, float(np.linalg.norm(W))) for W in params])
    return float(scale**2 * max(1.0, np.linalg.norm(x)))


def pass_error(u: float, params: Any, x: np.ndarray) -> float:
    """Error of one output or derivative of a pass: a sum of at most d_a terms a layer, magnified by
    :func:`growth`.
    """
    return tol.rounding(u, sum(W.size for W in params) + x.size, growth(params, x))


@law(
    "The gradient is the derivative of the mini-batch loss with respect to every weight, the "
    "bias column "
    "included.",
    "∇_W f = mean_n Σ_t Dh_t ā_tᵀ = ∂f/∂W",
    chapter="network",
    requires="forward_backward",
    given=problems,
    cost=5,
)
def gradients(f: Any, network: Any, params: Any, x: np.ndarray, target: np.ndarray) -> None:
    found = f.forward_backward(network, params, x, target)
    outputs = oracles.run(network.layers, params, x)[0]
    bound = pass_error(f.u, params, x)
    equal(
        "loss",
        found.loss,
        "mean of the losses",
        oracles.losses(network.loss, outputs, target).mean(),
        bound,
    )
    wanted = oracles.weight_gradients(network, params, x, target)
    for block, (g, derivative) in enumerate(zip(found.grads, wanted, strict=True)):
        equal(f"∇_W f of block {block}", g, "∂f/∂W by complex steps", derivative, bound)


@law(
    "Every block records its inputs with the 1 last, its outputs, and the derivative of the "
    "per-sample "
    "loss: no 1/N.",
    "h_t = W ā_t,  Dh_t = ∂f_n/∂h_t",
    chapter="network",
    requires="forward_backward",
    given=problems,
    cost=5,
)
def records(f: Any, network: Any, params: Any, x: np.ndarray, target: np.ndarray) -> None:
    found = f.forward_backward(network, params, x, target).records
    _, bars, hs = oracles.run(network.layers, params, x)
    Dhs = oracles.output_gradients(network, params, x, target)
    bound = pass_error(f.u, params, x)
    for block, (record, a_bar, h, Dh) in enumerate(zip(found, bars, hs, Dhs, strict=True)):
        equal(f"ā of block {block}", record.a_bar, "ā by loops", a_bar, bound)
        equal(f"h of block {block}", record.h, "W ā_t", h, bound)
        equal(f"Dh of block {block}", record.Dh, "∂f_n/∂h_t by complex steps", Dh, bound)


@law(
    "The second derivatives of each sample's loss with respect to a block's outputs are "
    "those of its first "
    "derivatives.",
    "∂²f_n/∂h_t∂h_t' = ∂Dh_t/∂h_t'",
    chapter="hessian",
    requires="output_hessian",
    given=problems,
    cost=5,
)
def second_derivatives(
    f: Any, network: Any, params: Any, x: np.ndarray, target: np.ndarray
) -> None:
    step = f.u ** (
        1 / 3
    )  # central differences: rounding u/ε and truncation ε² are of one size, u^(2/3)
    for block, h in enumerate(oracles.run(network.layers, params, x)[2]):
        found = f.output_hessian(network, params, x, target, block)
        wanted = np.empty(found.shape)
        for t, g in np.ndindex(*h.shape[1:]):
            shift = np.zeros(h.shape)
            shift[:, t, g] = step
            ahead, behind = (
                _shifted(network, params, x, target, block, d) for d in (shift, -shift)
            )
            wanted[:, :, :, t, g] = (ahead - behind) / (2 * step)
        bound = (
            tol.rounding(f.u, 1, pass_error(f.u, params, x) / f.u / step)
            + growth(params, x) * step**2 * h.size
        )
        equal(f"∂²f/∂h² of block {block}", found, "central differences of Dh", wanted, bound)


def _shifted(
    network: Any, params: Any, x: np.ndarray, target: np.ndarray, block: int, shift: np.ndarray
) -> np.ndarray:
    return oracles.output_gradients(network, params, x, target, {block: shift})[block]
