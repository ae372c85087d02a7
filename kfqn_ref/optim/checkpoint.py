"""Checkpoints: what is saved beside the tensors, and what must agree before anything is touched."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
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
    for key in MUST_AGREE:
        if theirs[key] != own[key]:
            raise ValueError(
                f"{key} of the checkpoint must be {_first_difference(own[key], theirs[key])}"
            )
    sizes = [len(g["params"]) for g in saved["param_groups"]]
    mine = own["groups"]
    if sizes != mine:
        raise ValueError(f"the parameter groups must have {mine} parameters, got {sizes}")


def with_record(saved: Any) -> Any:
    """Return a checkpoint with its ``"kfqn"`` entry beside the groups, not in the first of them.

    ``get_optimizer_state_dict`` of ``torch.distributed.checkpoint.state_dict`` keeps nothing but
    states and groups, so the first group carries the entry, too.
    """
    if not isinstance(saved, dict) or not saved.get("param_groups"):
        return saved
    first, *groups = saved["param_groups"]
    rest = {key: value for key, value in first.items() if key != "kfqn"}
    record = {"kfqn": first["kfqn"]} if "kfqn" in first else {}
    return {**record, **saved, "param_groups": [rest, *groups]}


def numbered(saved: dict[str, Any]) -> dict[int, Any]:
    """Return the states by the numbers of their parameters, which are positions in the groups.

    ``torch.distributed.checkpoint`` loads tensors where they are, under a number, and puts all
    other values beside them, under the number as a text; both are one state. Its
    ``get_optimizer_state_dict`` gives the states and the groups names in place of numbers.

    Raises:
        ValueError: a state has another key.
    """
    keys = chain.from_iterable(group["params"] for group in saved["param_groups"])
    positions = {key: number for number, key in enumerate(keys)}
    states: dict[int, Any] = {}
    try:
        for key, state in saved["state"].items():
            number = positions[key] if key in positions else int(key)
            states[number] = {**states.get(number, {}), **state}
        return states
    except ValueError as error:
        raise ValueError(
            f"the states of a checkpoint must be numbered as state_dict() does, got {error}"
        ) from error


def refuse_missing(
    saved: Mapping[str, Any],
    states: Mapping[int, Mapping[str, Any]],
    names: Sequence[str],
    keeps: Callable[[int], bool],
) -> None:
    """Refuse a checkpoint that lacks states which the optimizer had when it was saved.

    Args:
        saved: the ``"kfqn"`` entry.   states: what it has, by the numbers of the parameters.
        names: those of the parameters.   keeps: whether this rank keeps a layer, by its number.

    Raises:
        ValueError: there is one; the message names all.
    """
    factors = [i for i in saved.get("started", ()) if keeps(i) and "H_a" not in states.get(i, {})]
    moments = [i for i in saved.get("moments", ()) if "other" not in states.get(i, {})]
    missing = [names[i] for i in sorted({*factors, *moments})]
    if not missing:
        return
    if "part_of_rank" in saved:
        raise ValueError(
            f"the checkpoint must be the one of rank 0, which has all layers, got that of rank "
            f"{saved['part_of_rank']}, without the states of {missing}"
        )
    raise ValueError(
        f"the checkpoint must have all states that it was saved with, got none for {missing}: "
        f"torch.distributed.checkpoint.load fills only those that the optimizer has already; "
        f"convert the checkpoint by torch.distributed.checkpoint.format_utils.dcp_to_torch_save, "
        f"and load what torch.load returns"
    )


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
