"""Checkpoints: what is saved beside the tensors, and what must agree before anything is touched."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.options import Method
from kfqn_ref.optim.sharded import collected

VERSION = 2
"""Version of the layout of ``state_dict()["kfqn"]`` and of the states of the layers."""

MUST_AGREE = ("preset", "input_inverse", "memory", "layers", "others")
"""What a checkpoint and an optimizer must have in common."""


def identity(
    model: nn.Module, method: Method, layers: Sequence[Layer], group_sizes: list[int]
) -> dict[str, Any]:
    """Return what a checkpoint must agree on; ``group_sizes`` counts the parameters of every
    group.
    """
    covered = {p for layer in layers for p in layer.parameters}
    form = method.input_inverse
    if method.lean_above:
        form += f" above {method.lean_above}"
    return {
        "version": VERSION,
        "preset": method.preset.name,
        "input_inverse": form,
        "memory": method.memory,
        "layers": [layer.fingerprint for layer in layers],
        "others": [[n, list(p.shape)] for n, p in model.named_parameters() if p not in covered],
        "groups": group_sizes,
    }


def check(saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Refuse a checkpoint that is not one of this optimizer, naming the first thing that differs.

    Args:
        saved: a ``state_dict``.   own: the ``"kfqn"`` entry of this optimizer's.

    Raises:
        TypeError: it is not a dictionary.
        ValueError: it is not one of KFQN, has another version, or belongs to another model or
            preset.
    """
    if not isinstance(saved, dict):
        raise TypeError(f"a checkpoint must be a dictionary, got {type(saved).__name__}")
    missing = [key for key in ("state", "param_groups", "kfqn") if key not in saved]
    if missing:
        raise ValueError(
            "a KFQN checkpoint must have the entries state, param_groups and kfqn, "
            f"got none for {missing}"
        )
    theirs = saved["kfqn"]
    if theirs.get("version") != VERSION:
        raise ValueError(
            f"the checkpoint must be of version {VERSION}, got version {theirs.get('version')!r}"
        )
    if theirs.get("part_of_rank") is not None:
        raise ValueError(
            f"the checkpoint must be the one of rank 0, which has all layers, got that of rank "
            f"{theirs['part_of_rank']}"
        )
    for key in MUST_AGREE:
        if theirs[key] != own[key]:
            raise ValueError(
                f"{key} of the checkpoint must be {_first_difference(own[key], theirs[key])}"
            )
    sizes = [len(g["params"]) for g in saved["param_groups"]]
    mine = own["groups"]
    if sizes != mine:
        raise ValueError(f"the parameter groups must have {mine} parameters, got {sizes}")


def numbered(saved: dict[str, Any]) -> dict[int, Any]:
    """Return the states by the numbers of their parameters.

    ``torch.distributed.checkpoint`` loads tensors where they are, under a number, and puts all
    other values beside them, under the number as a text; both are one state.

    Raises:
        ValueError: a state has another key, such as a name.
    """
    states: dict[int, Any] = {}
    try:
        for key, state in saved["state"].items():
            states[int(key)] = {**states.get(int(key), {}), **state}
        return states
    except ValueError as error:
        raise ValueError(
            f"the states of a checkpoint must be numbered as state_dict() does, got {error}"
        ) from error


def _first_difference(own: Any, theirs: Any) -> str:
    if isinstance(own, list) and isinstance(theirs, list):
        for mine, other in zip(own, theirs, strict=False):
            if mine != other:
                return f"{mine} here, got {other}"
        return f"{len(own)} in number, got {len(theirs)}"
    return f"{own!r}, got {theirs!r}"


def merged(parts: Sequence[dict[int, Any]]) -> dict[int, Any]:
    """Return the states of all ranks as one, where each rank has what it keeps of a parameter."""
    whole: dict[int, Any] = {}
    for part in parts:
        for number, state in part.items():
            whole.setdefault(number, {}).update(state)
    return whole


def copied(value: Any, device: torch.device) -> Any:
    """Return a state with every tensor copied to ``device``, no dtype changed.

    A tensor that is sharded is collected, for which all ranks must call.
    """
    if isinstance(value, Tensor):
        return collected(value).detach().to(device=device, copy=True)
    if isinstance(value, dict):
        return {key: copied(item, device) for key, item in value.items()}
    return value
