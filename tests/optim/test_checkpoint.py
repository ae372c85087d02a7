"""A run goes on from a checkpoint bit for bit; a foreign checkpoint is refused and touches
nothing.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kfqn_ref.optim import KFQN, PRESETS

from .models import cnn, equal, mlp, model_for, run, tensors, weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("preset", "factor"), [*((p, "dense") for p in PRESETS), ("kfqn_cnn_l", "lbfgs")]
)
def test_resuming_equals_the_uninterrupted_run_bit_for_bit(
    preset: str, factor: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "lr": 0.1,
        "memory": 4,
        "weight_decay": 1e-3,
        "input_inverse": factor,
    }
    model = model_for(preset, dtype=dtype)
    opt = KFQN(model, preset, **options)
    run(opt, model, 7)
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, tmp_path / "checkpoint.pt")
    run(opt, model, 8, first=7)

    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again = model_for(preset, dtype=dtype)
    resumed = KFQN(again, preset, **options)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["opt"])
    run(resumed, again, 8, first=7)
    assert equal(weights(again), weights(model))
    assert equal(tensors(resumed.state_dict()), tensors(opt.state_dict()))


def test_a_loaded_state_shares_no_memory_with_the_checkpoint() -> None:
    model = cnn()
    opt = KFQN(model)
    run(opt, model, 2)
    saved = opt.state_dict()
    before = copy.deepcopy(tensors(saved))
    other = cnn()
    resumed = KFQN(other)
    resumed.load_state_dict(saved)
    run(resumed, other, 2)
    assert equal(tensors(saved), before)


def wider() -> nn.Module:
    model = cnn()
    model[5] = nn.Linear(12, 6, dtype=torch.float64)
    return model


def older(saved: dict[str, Any]) -> dict[str, Any]:
    return {**saved, "kfqn": {**saved["kfqn"], "version": 0}}


REFUSED = [
    (
        lambda: KFQN(wider()),
        lambda s: s,
        ValueError,
        r"layers of the checkpoint must be .*\[1, 6, 13\].*got",
    ),
    (lambda: KFQN(mlp()), lambda s: s, ValueError, "layers of the checkpoint must be"),
    (
        lambda: KFQN(cnn(), "kfqn_cnn_l"),
        lambda s: s,
        ValueError,
        "preset of the checkpoint must be 'kfqn_cnn_l'",
    ),
    (
        lambda: KFQN(cnn(), memory=7),
        lambda s: s,
        ValueError,
        "memory of the checkpoint must be 7, got 100",
    ),
    (
        lambda: KFQN(cnn(), input_inverse="lbfgs"),
        lambda s: s,
        ValueError,
        "input_inverse of the checkpoint",
    ),
    (
        lambda: KFQN(cnn(), input_inverse="lbfgs", lean_above=9),
        lambda s: s,
        ValueError,
        "input_inverse of the checkpoint must be 'lbfgs above 9', got 'dense'",
    ),
    (lambda: KFQN(cnn()), older, ValueError, "version 2, got version 0"),
    (
        lambda: KFQN(cnn()),
        lambda s: {"state": {}, "param_groups": []},
        ValueError,
        "got none for .'kfqn'.",
    ),
    (lambda: KFQN(cnn()), lambda s: [s], TypeError, "must be a dictionary, got list"),
]


@pytest.mark.parametrize(("build", "change", "error", "words"), REFUSED)
def test_a_foreign_checkpoint_is_refused_and_touches_nothing(
    build: Callable[[], KFQN], change: Callable[[Any], Any], error: type[Exception], words: str
) -> None:
    model = cnn()
    opt = KFQN(model)
    run(opt, model, 2)
    target = build()
    run(target, target.model, 3)
    before = copy.deepcopy(tensors(target.state_dict()))
    with pytest.raises(error, match=words):
        target.load_state_dict(change(opt.state_dict()))
    assert equal(tensors(target.state_dict()), before)
