"""How the closure's loss reduces its samples, as far as the graph of the loss shows it."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

LINKS = {
    "AddBackward0",
    "SubBackward0",
    "NegBackward0",
    "StackBackward0",
    "CatBackward0",
    "ToCopyBackward0",
    "CloneBackward0",
    "ViewBackward0",
    "SqueezeBackward0",
    "UnsqueezeBackward0",
}
"""Operations that leave the scale of a loss as it is, or put several losses together."""

ELEMENTWISE = {"PowBackward0", "AbsBackward0", "MulBackward0", "DivBackward0", *LINKS}
"""Operations behind which a single weight tensor is recognised."""

MOST_NODES = 100
"""Operations that are looked at; a loss of more parts shows itself in those."""


def refuse_reduction(loss: Any, reduction: str, samples: Collection[int]) -> None:
    """Refuse a loss that is visibly reduced in another way than the option says.

    Visible is a loss function of torch, or a sum or mean over an array whose first axis is the
    samples, behind additions, signs, casts and views. A factor hides it, since the graph keeps no
    factor after the backward pass.

    Args:
        loss: what the closure returned.   reduction: the option.
        samples: the numbers of samples, and of rows, that the layers saw.

    Raises:
        ValueError: it is.
    """
    for how in ("mean", "sum"):
        if how != reduction and how in reductions(loss, samples):
            raise ValueError(
                f"the closure's loss must be a {reduction} over the samples (loss_reduction="
                f"{reduction!r}), got a {how}: return the {reduction} (what is weighted is divided "
                f"after the sum), or pass loss_reduction={how!r}"
            )


def reductions(loss: Any, samples: Collection[int]) -> set[str]:
    """Return which of ``"mean"`` and ``"sum"`` the terms of a loss show."""
    found: set[str] = set()
    waiting: list[Any] = [loss.grad_fn] if isinstance(loss, Tensor) else []
    seen = 0
    while waiting and seen < MOST_NODES:
        node = waiting.pop()
        seen += 1
        how = _reduction(node, samples)
        if how is not None:
            found.add(how)
        elif type(node).__name__ in LINKS or _puts_losses_together(node):
            waiting += [each for each, _ in node.next_functions if each is not None]
    return found


def _puts_losses_together(node: Any) -> bool:
    """Return whether this is the sum of a stack of losses."""
    if type(node).__name__ != "SumBackward0":
        return False
    below = [type(each).__name__ for each, _ in node.next_functions]
    return below == ["StackBackward0"]


def _reduction(node: Any, samples: Collection[int]) -> str | None:
    """Return how one operation reduces the samples, ``None`` where it does not show it."""
    if hasattr(node, "_saved_reduction"):
        return {1: "mean", 2: "sum"}.get(node._saved_reduction)
    sizes = getattr(node, "_saved_self_sym_sizes", ())
    if not sizes or sizes[0] < 2 or sizes[0] not in samples:  # of one sample they are the same
        return None
    if 0 not in getattr(node, "_saved_dim", (0,)) or _puts_losses_together(node):
        return None
    how = type(node).__name__.removesuffix("0").removesuffix("1")
    found = {"MeanBackward": "mean", "SumBackward": "sum"}.get(how)
    if found is None or _is_of_one_weight(node):
        return None
    below = node.next_functions[0][0]
    # x.mean(0).sum() adds up outputs, though they may be as many as the samples
    inner = _reduction(below, samples) if hasattr(below, "_saved_dim") else None
    return inner or found


def _is_of_one_weight(node: Any) -> bool:
    """Return whether a sum is one over the entries of a weight, as in a penalty."""
    while type(node).__name__ != "AccumulateGrad":
        below = [each for each, _ in node.next_functions if each is not None]
        if len(set(below)) != 1:
            return False
        node = below[0]
        if type(node).__name__ not in ELEMENTWISE | {"AccumulateGrad"}:
            return False
    return True
