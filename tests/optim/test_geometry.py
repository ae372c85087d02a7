"""The sums of every kind of layer against patches that are cut out one by one."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kfqn_ref.optim import geometry
from kfqn_ref.optim.geometry import Geometry
from kfqn_ref.optim.kinds import geometry_of
from kfqn_ref.optim.layer import Layer

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def covered(module: nn.Module) -> tuple[Geometry, Layer]:
    found = geometry_of(module)
    assert found is not None
    return found, Layer("layer", module, found)


def patches(module: Any, a: Tensor) -> Tensor:
    """ā of every sample and location, (groups, N T, d_a), read off the layer itself.

    A convolution whose kernel is one at one entry and zero elsewhere shows that entry of every
    patch.
    """
    probe = type(module)(
        module.in_channels,
        module.in_channels,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.in_channels,
        False,
        module.padding_mode,
        dtype=a.dtype,
    )
    columns = []
    for entry in product(*map(range, module.kernel_size)):
        with torch.no_grad():
            probe.weight.zero_()[(slice(None), 0, *entry)] = 1
            columns.append(probe(a))  # (N, C_in, *locations)
    stacked = torch.stack(columns, 2)  # (N, C_in, offsets, *locations)
    stacked = (
        stacked.unflatten(1, (module.groups, -1)).flatten(2, 3).flatten(3)
    )  # (N, groups, C k, T)
    rows = stacked.permute(1, 0, 3, 2).flatten(1, 2)
    return F.pad(rows, (0, 1), value=1.0) if module.bias is not None else rows


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, Tensor]:
    """Convolutions of one to three axes with every option, and an input."""
    axes = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2]))
    channels = groups * draw(st.sampled_from([1, 2, 4, 5]))
    kernel = [draw(st.integers(1, 3)) for _ in range(axes)]
    dilation = [draw(st.integers(1, 2)) for _ in range(axes)]
    mode = draw(st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]))
    same = draw(st.booleans())
    padding: Any = "same" if same else [draw(st.integers(0, 2)) for _ in range(axes)]
    stride = 1 if same else [draw(st.integers(1, 3)) for _ in range(axes)]
    bias = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 3)))
    conv = CONVS[axes](
        channels,
        2 * groups,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias,
        mode,
        dtype=torch.float64,
    )
    space = [draw(st.integers(5, 7)) for _ in range(axes)]
    return conv, torch.randn(draw(st.integers(1, 3)), channels, *space, dtype=torch.float64)


@pytest.mark.filterwarnings(
    "ignore:Using padding='same' with even kernel:UserWarning"
)  # torch's word on its speed
@given(convolutions())
def test_convolutions(case: tuple[nn.Conv2d, Tensor]) -> None:
    module, a = case
    layer_geometry, layer = covered(module)
    a_bar, h = patches(module, a), module(a).detach()
    N, T = layer_geometry.counts(h)
    assert a_bar.shape == (layer_geometry.groups, N * T, layer_geometry.d_a)
    W = module.weight.detach().reshape(layer_geometry.groups, layer_geometry.d_g, -1)
    if module.bias is not None:
        W = torch.cat((W, module.bias.detach().reshape(*W.shape[:2], 1)), -1)
    by_patches = (a_bar @ W.mT).unflatten(1, (N, T)).permute(1, 0, 3, 2).reshape(h.shape)
    torch.testing.assert_close(
        by_patches, h, rtol=1e-12, atol=1e-12
    )  # the patches are the layer's own

    v = torch.randn(layer_geometry.groups, layer_geometry.d_a, dtype=a.dtype)
    expected = (a_bar.mT @ (a_bar @ v[..., None]))[..., 0]
    size = float(expected.norm())
    assert float((layer_geometry.action(a, v) - expected).norm()) <= 1e-12 * size
    for way in ("convolutions", "shifts", "offsets"):
        found = getattr(layer_geometry, f"_action_by_{way}")(layer_geometry._padded(a), v)
        assert float((found - expected).norm()) <= 1e-12 * size, way
    factor = layer_geometry.factor_sum(a, a.dtype)
    torch.testing.assert_close(factor, a_bar.mT @ a_bar, rtol=1e-12, atol=1e-12)
    mean = layer_geometry.input_sum(layer_geometry.batch_sum(a, a.dtype), N * T) / (N * T)
    torch.testing.assert_close(mean, a_bar.mean(1), rtol=1e-12, atol=1e-12)
    means = h.unflatten(1, (layer_geometry.groups, -1)).flatten(3).mean((0, 3))
    torch.testing.assert_close(
        layer_geometry.output_sum(h) / (N * T), means, rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(layer.output_mean(mean), means, rtol=1e-12, atol=1e-12)


@given(st.booleans(), st.lists(st.integers(1, 3), max_size=3))
def test_linear_layers_at_any_number_of_positions(bias: bool, positions: list[int]) -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 3, bias, dtype=torch.float64)
    layer_geometry, layer = covered(module)
    a = torch.randn(2, *positions, 4, dtype=torch.float64)
    h, rows = module(a).detach(), a.reshape(-1, 4)
    a_bar = F.pad(rows, (0, 1), value=1.0) if bias else rows
    N, T = layer_geometry.counts(h)
    assert (N, N * T) == (2, len(rows))
    v = torch.randn(1, layer_geometry.d_a, dtype=torch.float64)
    torch.testing.assert_close(
        layer_geometry.action(a, v)[0], a_bar.T @ (a_bar @ v[0]), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        layer_geometry.factor_sum(a, a.dtype)[0], a_bar.T @ a_bar, rtol=1e-12, atol=1e-12
    )
    mean = layer_geometry.input_sum(layer_geometry.batch_sum(a, a.dtype), N * T) / (N * T)
    torch.testing.assert_close(mean[0], a_bar.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        layer_geometry.output_sum(h)[0], h.reshape(-1, 3).sum(0), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(
        layer.output_mean(mean)[0], h.reshape(-1, 3).mean(0), rtol=1e-12, atol=1e-12
    )


def test_inputs_without_a_batch_axis_are_one_sample() -> None:
    conv, linear = nn.Conv2d(2, 3, 3, dtype=torch.float64), nn.Linear(4, 3, dtype=torch.float64)
    one, row = torch.randn(2, 5, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    for module, a in ((conv, one), (linear, row)):
        layer_geometry, _ = covered(module)
        v = torch.randn(1, layer_geometry.d_a, dtype=torch.float64)
        assert layer_geometry.counts(module(a)) == layer_geometry.counts(module(a[None]))
        torch.testing.assert_close(layer_geometry.action(a, v), layer_geometry.action(a[None], v))
        torch.testing.assert_close(
            layer_geometry.output_sum(module(a)), layer_geometry.output_sum(module(a[None]))
        )


def test_factor_and_action_are_the_same_from_small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = nn.Conv2d(2, 3, 3, dtype=torch.float64)
    layer_geometry, _ = covered(conv)
    a = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    v = torch.randn(1, layer_geometry.d_a, dtype=a.dtype)
    whole, product = layer_geometry.factor_sum(a, a.dtype), layer_geometry.action(a, v)
    monkeypatch.setattr(geometry, "PATCH_FLOATS", 1)
    torch.testing.assert_close(layer_geometry.factor_sum(a, a.dtype), whole, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(layer_geometry.action(a, v), product, rtol=1e-13, atol=1e-13)
