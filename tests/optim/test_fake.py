"""Readiness for a GPU, shown without one: whole steps on the tensors of a fake accelerator.

A fake tensor has a shape, a dtype and a device but no values: a data-dependent operation, a host
synchronisation or a mix of devices raises. The CPU build of torch cannot differentiate on fake CUDA
tensors (its autograd asks for a device guard that is not linked), so the accelerator is torch's
place for private backends, under the name ``fakegpu``. Autocast has no rules there: half precision
is a model in bfloat16.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from kfqn_ref.optim import KFQN, PRESETS, iteration

from .models import tensors

_setup_privateuseone_for_python_backend("fakegpu")
torch.fakegpu.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]  # made by the line above

VARIANTS = [
    *((preset, "dense") for preset in PRESETS),
    ("kfqn_cnn", "lbfgs"),
    ("convergent", "lbfgs"),
]


def model_for(preset: str) -> nn.Module:
    if preset.endswith("2020"):
        return nn.Sequential(nn.Flatten(), nn.Linear(128, 12), nn.Tanh(), nn.Linear(12, 5))
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(54, 5),
    )


def on_the_fake_gpu(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model with its parameters replaced: ``Module.to`` asks for more than a fake device
    has.
    """
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(
                    torch.empty(p.shape, device="fakegpu", dtype=dtype)
                )
    return model


def fake_steps(preset: str, steps: int, *, half: bool, **options: Any) -> KFQN:
    dtype = torch.bfloat16 if half else torch.float32
    with FakeTensorMode(allow_non_fake_inputs=False):
        model = on_the_fake_gpu(model_for(preset), dtype)
        opt = KFQN(model, preset, memory=4, **options)
        x = torch.empty(8, 2, 8, 8, device="fakegpu", dtype=dtype)
        target = torch.zeros(8, dtype=torch.int64, device="fakegpu")

        def closure() -> Tensor:
            model.zero_grad()
            loss = F.cross_entropy(model(x), target)
            loss.backward()
            return loss

        for _ in range(steps):
            opt.step(closure)
        return opt


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize(("preset", "factor"), VARIANTS)
@pytest.mark.parametrize("interval", [1, 10])
def test_a_whole_step_runs_on_a_fake_gpu(
    preset: str, factor: str, interval: int, half: bool
) -> None:
    options = {"input_inverse": factor, "curvature_interval": interval, "weight_decay": 0.1}
    opt = fake_steps(preset, 3, half=half, **options)
    states = [tensor for state in opt.state.values() for tensor in tensors(state)]
    assert states
    assert all(tensor.device.type == "fakegpu" for tensor in states)
    assert all(tensor.dtype != torch.bfloat16 for tensor in states)


@pytest.fixture(autouse=True)
def _a_start_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run reads the device once, when its layers start; here they are sound."""
    monkeypatch.setattr(iteration, "is_sound", lambda ok: True)


def test_a_read_of_the_device_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(values: Any) -> Tensor:
        return torch.tensor(bool(original(values)))

    original = iteration.all_finite
    monkeypatch.setattr(iteration, "all_finite", reading)
    with pytest.raises(DataDependentOutputException):
        fake_steps("kfqn_cnn", 1, half=False)


def test_a_mix_of_devices_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    original = iteration.all_finite
    monkeypatch.setattr(
        iteration, "all_finite", lambda values: original(values).new_ones(3, device="cpu") > 0
    )
    with pytest.raises((RuntimeError, TypeError)):
        fake_steps("kfqn_cnn", 1, half=False)
