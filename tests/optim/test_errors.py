"""Every wrong use is refused with the class and the words that are promised, and changes
nothing.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kfqn_ref.optim import KFQN
from kfqn_ref.optim.options import compilers

from .models import closure_of, cnn, data, equal, mlp, weights

NAN = float("nan")

WRONG_VALUES = [
    ({"preset": "kfqn"}, "preset must be one of"),
    ({"lr": -0.1}, "lr must not be negative, got -0.1"),
    ({"lr": NAN}, "lr must not be negative, got nan"),
    ({"damping": 0.0}, "damping must be in"),
    ({"damping": -1.0}, "damping must be in"),
    ({"damping": NAN}, "damping must be in"),
    ({"momentum": 1.0}, "momentum must be in"),
    ({"momentum": -0.1}, "momentum must be in"),
    ({"weight_decay": -1e-4}, "weight_decay must not be negative"),
    ({"pair_decay": 1.0}, "pair_decay must be in"),
    ({"mu1": 0.0}, r"mu1 must be in \(0, 1\), got 0.0"),
    ({"mu1": 1.0}, r"mu1 must be in \(0, 1\), got 1.0"),
    ({"mu1": NAN}, "mu1 must be in"),
    ({"memory": 0}, "memory must be at least 1, got 0"),
    (
        {"preset": "convergent", "memory": 0},
        r"memory must be at least 1 \(AS.5 of the convergence theorem\), got 0",
    ),
    ({"gamma": 0.0}, "gamma must be positive, got 0.0"),
    ({"gamma": float("inf")}, "gamma must be positive, got inf"),
    ({"curvature_interval": 0}, "curvature_interval must be at least 1"),
    ({"loss_reduction": "none"}, "loss_reduction must be 'mean' or 'sum'"),
    ({"input_inverse": "sparse"}, "input_inverse must be one of"),
    ({"lean_above": -1}, "lean_above must not be negative, got -1"),
    ({"lean_above": 9}, "lean_above must be 0 where input_inverse is not 'lbfgs', got 9"),
    (
        {"preset": "convergent", "input_inverse": "lbfgs", "lean_above": 9},
        "lean_above must be 0 for the preset convergent, got 9",
    ),
    ({"exclude": ["nothing"]}, "exclude must name modules of the model, got .'nothing'."),
    ({"preset": "kbfgs_2020"}, r"kbfgs_2020 takes linear layers only, got \['0', '2'\]"),
    ({"preset": "kbfgs_l_2020"}, "kbfgs_l_2020 takes linear layers only"),
]


@pytest.mark.parametrize(("options", "words"), WRONG_VALUES, ids=lambda v: str(v)[:40])
def test_wrong_values_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="^" + words):
        KFQN(cnn(), **options)


def test_the_closed_ends_of_the_ranges_are_taken() -> None:
    KFQN(
        cnn(),
        lr=0.0,
        momentum=0.0,
        weight_decay=0.0,
        pair_decay=0.0,
        memory=1,
        curvature_interval=1,
    )


def test_double_damping_needs_damping_below_one() -> None:
    with pytest.raises(ValueError, match=r"damping must be in \(0, 1.0\), got 1.5"):
        KFQN(mlp(), "kbfgs_2020", damping=1.5)
    KFQN(cnn(), "kfqn_cnn", damping=1.5)


def test_a_model_that_is_not_a_module_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got list"):
        KFQN(list(cnn().parameters()))  # type: ignore[arg-type]  # the wrong kind is the point


def test_compiling_without_a_compiler_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        ValueError, match=r"compile=True needs one of the C\+\+ compilers .* none in PATH"
    ):
        KFQN(mlp(), compile=True)


def test_compiling_into_a_folder_with_a_space_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_a_compiler(monkeypatch, tmp_path)
    monkeypatch.setattr(torch, "__file__", "/opt/torch/__init__.py")  # its own is refused first
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/var/another cache")
    with pytest.raises(ValueError, match="got '/var/another cache': set TORCHINDUCTOR_CACHE_DIR"):
        KFQN(mlp(), compile=True)
    KFQN(mlp())


def test_compiling_with_torch_in_a_folder_with_a_space_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_a_compiler(monkeypatch, tmp_path)
    monkeypatch.setattr(torch, "__file__", "/opt/another name/torch/__init__.py")
    needs = "compile=True needs torch installed in a folder without spaces, got '/opt/another name"
    with pytest.raises(ValueError, match=needs):
        KFQN(mlp(), compile=True)
    KFQN(mlp())


def make_a_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put a command with a compiler's name into PATH, on machines without one too."""
    (folder / compilers()[0]).write_text("#!/bin/sh\n")
    (folder / compilers()[0]).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_model_without_a_supported_layer_is_refused() -> None:
    with pytest.raises(
        ValueError, match="must have a layer that is covered, got BatchNorm2d: not a linear"
    ):
        KFQN(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))


def test_shared_weights_are_refused_by_name_unless_excluded() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, nn.Tanh(), second, nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"those of \['0', '2'\] are shared"):
        KFQN(model)
    with pytest.warns(UserWarning, match="these take AdamW's step"):
        opt = KFQN(model, exclude=["0", "2"])
    assert [layer.name for layer in opt.layers] == ["3"]


def test_weight_and_bias_in_different_groups_are_refused() -> None:
    model = cnn()
    with pytest.raises(
        ValueError, match="weight and bias must be in one parameter group, but not so in '0'"
    ):
        KFQN(model, groups=[{"params": [model[0].weight], "lr": 0.1}])


@pytest.mark.parametrize("key", ["lr", "damping", "momentum", "weight_decay"])
def test_a_group_with_a_wrong_value_is_refused(key: str) -> None:
    model = cnn()
    with pytest.raises(ValueError, match=key):
        KFQN(model, groups=[{"params": model[5].parameters(), key: -1.0}])


class Twice(nn.Module):
    """A model that uses one layer twice in a forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(72, 72, dtype=torch.float64)
        self.outer = nn.Linear(72, 5, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.outer(self.inner(torch.tanh(self.inner(x))))


def no_backward(model: nn.Module) -> Callable[[], Any]:
    return lambda: model(data()[0]).sum()


def no_loss(model: nn.Module) -> Callable[[], Any]:
    return lambda: closure_of(model, *data())() and None


@pytest.mark.parametrize(
    ("build", "closure", "error", "words"),
    [
        (cnn, no_backward, ValueError, "closure must call backward"),
        (cnn, no_loss, ValueError, "closure must return the loss, got NoneType"),
        (
            cnn,
            lambda m: None,
            TypeError,
            "step needs a closure that calls backward and returns the loss, got NoneType",
        ),
    ],
)
def test_a_wrong_closure_is_refused_and_changes_nothing(
    build: Callable[[], nn.Module], closure: Callable, error: type[Exception], words: str
) -> None:
    model = build()
    opt, before = KFQN(model), weights(model)
    for _ in range(2):
        with pytest.raises(error, match=words):
            opt.step(closure(model))
    assert equal(weights(model), before)
    assert not any(opt.state.values())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_module_used_twice_can_be_excluded() -> None:
    model = Twice()
    with pytest.warns(UserWarning, match=r"other parameters: \d+% \(1 Linear\)"):
        opt = KFQN(model, exclude=["inner"])
    before = weights(model)
    opt.step(closure_of(model, *data()))
    assert not any(torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))


def test_curvature_is_refused_before_the_first_iteration_and_for_foreign_modules() -> None:
    model = cnn()
    opt = KFQN(model)
    with pytest.raises(ValueError, match="'0' must have been through one iteration"):
        opt.curvature(model[0])
    with pytest.raises(ValueError, match="module must be one of"):
        opt.curvature(model[1])


def test_warm_start_is_refused_without_batches_and_after_the_first_iteration() -> None:
    model = cnn()
    opt = KFQN(model)
    with pytest.raises(ValueError, match="at least one mini-batch, got none"):
        opt.warm_start([])
    opt.step(closure_of(model, *data()))
    with pytest.raises(ValueError, match="before the first iteration, got k = 1"):
        opt.warm_start([data()[0]])
