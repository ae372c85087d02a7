"""What ``KFQN.curvature`` and ``KFQN.diagnostics`` show: matrices, and flat numbers by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kfqn_ref.optim.inverses import inverse_of
from kfqn_ref.optim.kernels import dot
from kfqn_ref.optim.update import Damped, InputPair, OutputPair, Seen


class Counts(NamedTuple):
    """Events of one layer, summed over its groups: pairs accepted, skipped and damped."""

    updates_a: int
    skipped_a: int
    updates_g: int
    damped_g: int
    skipped_g: int


@dataclass(frozen=True)
class Curvature:
    """What the method knows of one layer.

    Args:
        H_a: estimate of ``(A + λ_A I)⁻¹``, (d_a, d_a); (groups, d_a, d_a) for a grouped
            convolution.
        H_g: estimate of ``(G + λ_G I)⁻¹``, (d_g, d_g); (groups, d_g, d_g) for a grouped
            convolution.
        lambda_a, lambda_g: damping of the two sides.
        T: number of output locations at the first mini-batch, a mean if samples differ in it.
        counts: what happened to the pairs.
    """

    H_a: Tensor
    H_g: Tensor
    lambda_a: float
    lambda_g: float
    T: float
    counts: Counts


def curvature_of(state: dict[str, Any]) -> Curvature:
    """Return the view on the state of a layer that has started; reads the device."""
    H_a, H_g = (_ungrouped(inverse_of(state[side]).dense()) for side in ("H_a", "H_g"))
    counts = Counts(*state["counts"].sum(-1).tolist())
    return Curvature(H_a, H_g, state["lambda_a"], state["lambda_g"], state["T"], counts)


def _ungrouped(H: Tensor) -> Tensor:
    return H[0] if len(H) == 1 else H


def of_layer(
    state: Mapping[str, Any], seen: Seen | None, *, eigenvalues: bool
) -> dict[str, Tensor]:
    """Return the numbers of one layer that has started, still on the device; the worst of its
    groups.
    """
    numbers = dict(zip(Counts._fields, state["counts"].sum(-1), strict=True))
    if seen is not None and seen.output is not None and seen.damped is not None:
        numbers |= _of_pairs(state, seen.input, seen.output, seen.damped)
    if eigenvalues:
        for side in ("H_a", "H_g"):
            numbers |= _spectrum(side, inverse_of(state[side]).dense())
    return numbers


def _of_pairs(
    state: Mapping[str, Any], input: InputPair, output: OutputPair, damped: Damped
) -> dict[str, Tensor]:
    vectors = {"s_a": input.s, "s_g": output.s, "y_g": output.y}
    pairs = {"sy_g": (damped.s, damped.y)}
    if input.As.shape == input.s.shape:  # else it is the matrix A, and there is no input pair
        vectors["y_a"] = input.As + state["lambda_a"] * input.s
        pairs["sy_a"] = input.s, vectors["y_a"]
    norms = {f"norm_{name}": torch.linalg.vector_norm(v, dim=-1) for name, v in vectors.items()}
    numbers = {name: norm.amax() for name, norm in norms.items()}
    numbers |= {name: dot(*pair).amin() for name, pair in pairs.items()}
    return numbers | {"theta": damped.theta.amin()}


def _spectrum(side: str, H: Tensor) -> dict[str, Tensor]:
    values = torch.linalg.eigvalsh((H + H.mT) / 2)
    asymmetry = (H - H.mT).abs().amax() / H.abs().amax()
    return {
        f"min_eig_{side}": values.amin(),
        f"max_eig_{side}": values.amax(),
        f"asymmetry_{side}": asymmetry,
    }


def on_host(numbers: dict[str, Tensor]) -> dict[str, float]:
    """Return the numbers, read from the device at once."""
    values = (
        torch.stack([x.to(torch.float64) for x in numbers.values()]).tolist() if numbers else []
    )
    return dict(zip(numbers, values, strict=True))
