"""What ``KFQN.diagnostics`` shows: flat numbers by name, for TensorBoard or a line of JSON."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kfqn_ref.optim.curvature import Counts
from kfqn_ref.optim.inverses import inverse_of
from kfqn_ref.optim.kernels import dot
from kfqn_ref.optim.update import Pairs


def of_layer(
    state: Mapping[str, Any], pairs: Pairs | None, *, eigenvalues: bool
) -> dict[str, Tensor]:
    """Return the numbers of one layer that has started, still on the device; the worst of its
    groups.
    """
    numbers = dict(zip(Counts._fields, state["counts"].sum(-1), strict=True))
    if pairs is not None and pairs.compared:
        vectors = {"s_a": pairs.s_a, "s_g": pairs.s, "y_g": pairs.y}
        numbers |= {
            f"norm_{name}": torch.linalg.vector_norm(v, dim=-1).amax()
            for name, v in vectors.items()
        }
        numbers |= {"theta": pairs.theta.amin(), "sy_g": dot(*pairs.damped).amin()}
        if not pairs.renewed:
            y_a = pairs.As + state["lambda_a"] * pairs.s_a
            numbers |= {
                "norm_y_a": torch.linalg.vector_norm(y_a, dim=-1).amax(),
                "sy_a": dot(pairs.s_a, y_a).amin(),
            }
    if eigenvalues:
        for side in ("H_a", "H_g"):
            numbers |= _spectrum(side, inverse_of(state[side]).dense())
    return numbers


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
