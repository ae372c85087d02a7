"""What ``KFQN.curvature`` shows of a layer."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from kfqn_ref.optim.inverses import inverse_of


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
        T: number of output locations at the first mini-batch.
        counts: what happened to the pairs.
    """

    H_a: Tensor
    H_g: Tensor
    lambda_a: float
    lambda_g: float
    T: int
    counts: Counts


def curvature_of(state: dict[str, Any]) -> Curvature:
    """Return the view on the state of a layer that has started; reads the device."""
    H_a, H_g = (_ungrouped(inverse_of(state[side]).dense()) for side in ("H_a", "H_g"))
    counts = Counts(*state["counts"].sum(-1).tolist())
    return Curvature(H_a, H_g, state["lambda_a"], state["lambda_g"], state["T"], counts)


def _ungrouped(H: Tensor) -> Tensor:
    return H[0] if len(H) == 1 else H
