"""Parameter groups, their values and what they may hold; and what compiling asks of the machine."""

import difflib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kfqn_ref.optim.inverses import numbers_of_inverse
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.presets import INPUT_INVERSES, Preset, fixed_output, lbfgs_output


def check_group(group: dict[str, Any], preset: Preset) -> None:
    """Refuse a parameter group with a value outside its range, or outside the preset's theorem.

    Raises:
        TypeError: a value is not a number.
        ValueError: there is one; for ``convergent`` the message names the assumption that it
            breaks.
    """
    _refuse_kinds(group)
    for holds, rule, key in preset.convergent * _assumptions(group):
        if not holds:
            raise ValueError(f"{rule}, got {group[key]}")
    check_values(group, preset)


def check_values(group: dict[str, Any], preset: Preset) -> None:
    """Refuse a parameter group with a value outside its range.

    Raises:
        TypeError: a value is not a number.
        ValueError: there is one.
    """
    _refuse_kinds(group)
    below = preset.damping_below
    rules = (
        (group["lr"] >= 0, "lr must not be negative", "lr"),
        (group["lr"] < float("inf"), "lr must be finite", "lr"),
        (0 < group["damping"] < below, f"damping must be in (0, {below})", "damping"),
        (0 <= group["momentum"] < 1, "momentum must be in [0, 1)", "momentum"),
        (group["weight_decay"] >= 0, "weight_decay must not be negative", "weight_decay"),
        (group["step_decay"] >= 0, "step_decay must not be negative", "step_decay"),
        (group["other_lr"] >= 0, "other_lr must not be negative", "other_lr"),
        (_are_decays(group["other_betas"]), "other_betas must be two in [0, 1)", "other_betas"),
        (
            group["other_weight_decay"] >= 0,
            "other_weight_decay must not be negative",
            "other_weight_decay",
        ),
    )
    for holds, rule, key in rules:
        if not holds:
            raise ValueError(f"{rule}, got {group[key]}")


NUMBERS = ("lr", "damping", "momentum", "weight_decay", "step_decay", "other_lr")
"""The options of a group that are one number each."""

OPTIONS = (*NUMBERS, "decoupled", "other_betas", "other_weight_decay")
"""The options that a parameter group may have."""

KEYS = (
    *("params", *OPTIONS, "beta2", "other"),
    # written by schedulers of torch
    *("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"),
    # written by optimizers of torch, and a label that a monitor of Lightning shows
    *("param_names", "differentiable", "name"),
)
"""All keys that a parameter group may have when it is given or loaded."""


def refuse_keys(group: Mapping[str, Any], own: Collection[str] = ()) -> None:
    """Refuse a parameter group with a key that no option has: it would change nothing.

    Args:
        group: the group.   own: further keys that are known.

    Raises:
        ValueError: there is one; the message names the nearest option, and all of them.
    """
    unknown = [key for key in group if key not in KEYS and key not in own]
    if not unknown:
        return
    near = difflib.get_close_matches(str(unknown[0]), OPTIONS, n=1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(
        f"the options of a parameter group must be among {[*OPTIONS]}, got {unknown}{meant}; "
        f"write a key of your own into opt.param_groups after the group is there"
    )


def _refuse_kinds(group: dict[str, Any]) -> None:
    for key in NUMBERS:
        value = group[key]
        one = value.numel() == 1 if isinstance(value, torch.Tensor) else isinstance(value, Real)
        if not one:
            raise TypeError(f"{key} must be a number or a tensor of one number, got {value!r}")


def refuse_betas(betas: Any) -> None:
    """Refuse decays that are not two numbers.

    Raises:
        TypeError: they are not.
    """
    two = isinstance(betas, Sequence) and len(betas) == 2
    if not two or not all(isinstance(beta, Real) for beta in betas):
        raise TypeError(f"other_betas must be two numbers, got {betas!r}")


def _are_decays(betas: Any) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)


def _assumptions(group: dict[str, Any]) -> tuple[tuple[bool, str, str], ...]:
    """Return the rules (holds, what must hold, key) of the convergence theorem, with the
    assumption.
    """
    return (
        (group["lr"] > 0, "lr must be positive (AS.4: alpha_k > 0)", "lr"),
        (group["damping"] > 0, "damping must be positive (AS.5: λ_A, λ_G > 0)", "damping"),
        (
            0.5 < group["step_decay"] < 1,
            "step_decay b must be in (1/2, 1) (AS.4: sum alpha_k diverges, sum alpha_k² does not)",
            "step_decay",
        ),
        (
            group["momentum"] == 0,
            "momentum must be 0 (AS.2: an unbiased gradient times H_k)",
            "momentum",
        ),
        (
            not group["decoupled"],
            "decoupled must be False (AS.2: the decay is part of f)",
            "decoupled",
        ),
    )


def complete_groups(
    model: nn.Module,
    groups: Iterable[dict[str, Any]],
    defaults: dict[str, Any],
    covered: Collection[nn.Parameter],
) -> list[dict[str, Any]]:
    """Return the groups, with all parameters of the model that are in none of them as a last one.

    A group that holds covered parameters and others becomes two, so that schedulers drive the step
    size of each: the second takes AdamW's step with ``other_lr`` as its ``lr``. In a group without
    covered parameters ``lr``, ``momentum`` and ``weight_decay`` mean AdamW's own.
    """
    complete = []
    for group in groups:
        refuse_group(group)
        complete.append({**group, "params": plain_parameters(group["params"])})
    taken = {p for group in complete for p in group["params"]}
    complete.append({"params": [p for p in model.parameters() if p not in taken]})
    parted = []
    for group in complete:
        own = [p for p in group["params"] if p in covered]
        rest = [p for p in group["params"] if p not in covered]
        parted.append({**group, "params": own, "other": False})
        parted.append({**other_group(group, defaults, mixed=bool(own)), "params": rest})
    return [group for group in parted if group["params"]]


def plain_parameters(params: Any) -> list[nn.Parameter]:
    """Return the parameters of a group, which may be one tensor, or pairs of a name and a tensor.

    Raises:
        TypeError: there is something else, or a set, which has no order.
        ValueError: a parameter is there twice, and would move twice a step.
    """
    if isinstance(params, set | frozenset):
        raise TypeError("params of a group must have an order, got a set: give a list")
    given: list[Any] = [params] if isinstance(params, torch.Tensor) else list(params)
    plain = [_without_name(each) for each in given]
    wrong = [type(each).__name__ for each in plain if not isinstance(each, torch.Tensor)]
    if wrong:
        raise TypeError(f"params of a group must be parameters, got {wrong[0]}")
    if len({*map(id, plain)}) < len(plain):
        raise ValueError(
            f"a parameter must be in a group once, got {len(plain)} entries for "
            f"{len({*map(id, plain)})} parameters: leave out the repeated ones"
        )
    return plain


def refuse_group(group: Any) -> None:
    """Refuse a parameter group that is no dictionary with ``params``, or has an unknown key.

    Raises:
        TypeError: it is not one.
        ValueError: it has one.
    """
    if not isinstance(group, dict) or "params" not in group:
        raise TypeError(f"a group must be a dictionary with params, got {group!r}")
    refuse_keys(group)


def _without_name(each: Any) -> Any:
    return each[1] if isinstance(each, tuple) and len(each) == 2 else each


def other_group(
    group: dict[str, Any], defaults: dict[str, Any], *, mixed: bool = False
) -> dict[str, Any]:
    """Return a group that takes AdamW's step, its options under the names that schedulers know.

    Args:
        group: the options that the user gave.   defaults: those of the optimizer.
        mixed: whether ``lr``, ``momentum`` and ``weight_decay`` are those of covered parameters.
    """
    full = {**defaults, **group}
    refuse_betas(full["other_betas"])
    beta1, beta2 = full["other_betas"]
    adamw = {
        "lr": full["other_lr"],
        "momentum": beta1,
        "beta2": beta2,
        "weight_decay": full["other_weight_decay"],
        "decoupled": True,
        "other": True,
    }
    return {**group, **adamw} if mixed else {**adamw, **group}


def check_groups(layers: Sequence[Layer], group_of: dict[nn.Parameter, int]) -> None:
    """Refuse a layer whose weight and bias are in different groups.

    Raises:
        ValueError: there is one.
    """
    for layer in layers:
        if len({group_of[p] for p in layer.parameters}) > 1:
            raise ValueError(
                f"weight and bias must be in one parameter group, but not so in {layer.name!r}"
            )


def compile_problem(device: torch.device) -> str:
    """Return in one sentence why ``torch.compile`` cannot work for a device, "" where it can.

    On a CPU it needs a C++ compiler, whose command line it writes without quotes: the folders of
    torch and of the compiled code must have no space.
    """
    if device.type != "cpu":
        return ""
    if not any(map(shutil.which, compilers())):
        return f"compile=True needs one of the C++ compilers {compilers()}, got none in PATH"
    torch_folder = Path(torch.__file__).parent
    if " " in str(torch_folder):
        return (
            "compile=True needs torch installed in a folder without spaces, "
            f"got {str(torch_folder)!r}"
        )
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR", tempfile.gettempdir())
    if " " in cache:
        return (
            f"compile=True needs a folder without spaces for the compiled code, got {cache!r}: "
            "set TORCHINDUCTOR_CACHE_DIR"
        )
    return ""


def compilers() -> list[str]:
    """Return the names of the C++ compilers that ``torch.compile`` would use on a CPU."""
    from torch._inductor import config  # a second to import, and seldom needed

    return [name for name in config.cpp.cxx if name]


def check_compile(compile: bool, device: torch.device) -> None:
    """Refuse to compile where that cannot work, before the first step needs it.

    Raises:
        ValueError: there is no compiler, or a folder whose name the compiler cannot be told.
    """
    problem = compile_problem(device) if compile else ""
    if problem:
        raise ValueError(problem)


@dataclass(frozen=True)
class Method:
    """What is common to all layers: the preset and the hyper-parameters that no parameter group
    changes.

    Raises:
        TypeError: ``memory``, ``curvature_interval`` or ``lean_above`` is not an integer.
        ValueError: a value is outside its range.
    """

    preset: Preset
    pair_decay: float
    mu1: float
    memory: int
    curvature_interval: int
    loss_reduction: str
    input_inverse: str
    gamma: float = 1.0
    lean_above: int = 0

    def __post_init__(self) -> None:
        for name in ("memory", "curvature_interval", "lean_above"):
            if not isinstance(getattr(self, name), Integral):
                raise TypeError(f"{name} must be an integer, got {getattr(self, name)!r}")
        named = " (AS.5 of the convergence theorem)" if self.preset.convergent else ""
        rules = (
            (0 <= self.pair_decay < 1, "pair_decay must be in [0, 1)", self.pair_decay),
            (0 < self.mu1 < 1, "mu1 must be in (0, 1)", self.mu1),
            (0 < self.gamma < float("inf"), f"gamma must be positive{named}", self.gamma),
            (self.memory >= 1, f"memory must be at least 1{named}", self.memory),
            (
                self.curvature_interval >= 1,
                "curvature_interval must be at least 1",
                self.curvature_interval,
            ),
            (
                self.loss_reduction in ("mean", "sum"),
                "loss_reduction must be 'mean' or 'sum'",
                self.loss_reduction,
            ),
            (
                self.input_inverse in INPUT_INVERSES,
                f"input_inverse must be one of {[*INPUT_INVERSES]}",
                self.input_inverse,
            ),
            (self.lean_above >= 0, "lean_above must not be negative", self.lean_above),
            (
                self.input_inverse == "lbfgs" or not self.lean_above,
                "lean_above must be 0 where input_inverse is not 'lbfgs'",
                self.lean_above,
            ),
            (
                not (self.preset.convergent and self.lean_above),
                "lean_above must be 0 for the preset convergent",
                self.lean_above,
            ),
        )
        for holds, rule, got in rules:
            if not holds:
                raise ValueError(f"{rule}, got {got!r}")

    def form_of(self, layer: Layer) -> str:
        """Return ``input_inverse`` for a layer of more than ``lean_above`` inputs, else
        ``"dense"``; ``"diagonal"`` where ``A`` is diagonal.
        """
        if layer.has_diagonal_A:
            return "diagonal"
        return self.input_inverse if layer.shape[2] > self.lean_above else "dense"

    @property
    def renews_H_a(self) -> bool:
        """Whether ``H_a`` is the exact inverse of every mini-batch's ``A + λ_A I``."""
        return self.preset.convergent and self.input_inverse == "dense"


def factor_bytes(layer: Layer, method: Method) -> int:
    """Return how many bytes ``H_a``, ``H_g`` and, where it is averaged, ``A`` of a layer take."""
    groups, d_g, d_a = layer.shape
    of_pairs = method.memory
    form = method.form_of(layer)
    pairs = of_pairs if form == "lbfgs" else None
    numbers = 2 * d_a if form == "diagonal" else numbers_of_inverse(d_a, pairs)
    if method.preset.output_inverse is fixed_output:
        numbers += d_g
    else:
        pairs = of_pairs if method.preset.output_inverse is lbfgs_output else None
        numbers += numbers_of_inverse(d_g, pairs)
    if method.preset.averages_A and form != "diagonal":
        numbers += d_a**2
    return groups * numbers * layer.dtype.itemsize
