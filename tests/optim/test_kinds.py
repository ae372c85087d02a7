"""The sums of each further kind of layer against its rows ā, read off the layer itself."""

from math import ceil
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kfqn_ref.optim import kinds, register_layer
from kfqn_ref.optim.geometry import Geometry, LinearGeometry
from kfqn_ref.optim.kinds import ColumnLinearGeometry, SameGeometry, geometry_of

F64 = torch.float64


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(kinds, "KINDS", dict(kinds.KINDS))


class Column(nn.Module):
    """A linear layer as GPT-2 has it: the weight is (d_in, d_out)."""

    def __init__(self, d_out: int, d_in: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_in, d_out, dtype=F64))
        self.bias = nn.Parameter(torch.randn(d_out, dtype=F64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])


class Same(nn.Conv2d):
    """A convolution that pads its input so that ceil(n / stride) locations come out."""

    def forward(self, x: Tensor) -> Tensor:
        pad: list[int] = []
        for axis in (1, 0):
            n, k, s, d = (
                x.shape[2 + axis],
                *(option[axis] for option in (self.kernel_size, self.stride, self.dilation)),
            )
            missing = max((ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pad += [missing // 2, missing - missing // 2]
        return F.conv2d(
            F.pad(x, pad), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


@torch.no_grad()
def rows_of(module: Any, geometry: Geometry, a: Tensor) -> Tensor:
    """Every ā, (N T, d_a): output 0 of the layer with a weight that is 1 at one entry."""
    kept = {name: p.clone() for name, p in module.named_parameters()}
    columns = []
    for j in range(geometry.d_a - geometry.bias):
        W = torch.zeros(1, geometry.d_g, geometry.d_a - geometry.bias, dtype=a.dtype)
        W[0, 0, j] = 1
        module.weight.copy_(geometry.as_weight(W, module.weight.shape))
        if module.bias is not None:
            module.bias.zero_()
        h = module(a)
        outputs = -1 if isinstance(module, Column) else 1
        columns.append(h.select(outputs, 0).flatten())
    module.load_state_dict(kept)
    rows = torch.stack(columns, 1)
    return F.pad(rows, (0, 1), value=1.0) if geometry.bias else rows


def assert_sums(module: Any, geometry: Geometry, a: Tensor) -> None:
    """All sums of the geometry are those of the rows, and W ā is the layer's output."""
    rows = rows_of(module, geometry, a)
    tight = {"rtol": 1e-11, "atol": 1e-11}
    mean = geometry.input_sum(geometry.batch_sum(a, F64), len(rows))
    torch.testing.assert_close(mean[0], rows.sum(0), **tight)
    torch.testing.assert_close(geometry.factor_sum(a, F64)[0], rows.T @ rows, **tight)
    v = torch.randn(1, geometry.d_a, dtype=F64)
    torch.testing.assert_close(geometry.action(a, v)[0], rows.T @ (rows @ v[0]), **tight)
    W = geometry.as_matrix(module.weight.detach())[0]
    if module.bias is not None:
        W = torch.cat((W, module.bias.detach()[:, None]), 1)
    h = module(a).detach()
    total = geometry.output_sum(h)[0]
    torch.testing.assert_close(total, (rows @ W.T).sum(0), **tight)


@st.composite
def transposed(draw: st.DrawFn) -> tuple[Any, Tensor]:
    """Transposed convolutions of one to three axes with every option but groups."""
    axes = draw(st.integers(1, 3))
    each = st.integers(1, 3)
    kernel, stride, dilation = (
        tuple(draw(each) for _ in range(axes)) for _ in ("kernel", "stride", "dilation")
    )
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    sizes = [draw(st.integers(2, 4)) for _ in range(axes)]
    longest = [
        (s * (n - 1) + d * (k - 1) + e) // 2
        for n, k, s, d, e in zip(sizes, kernel, stride, dilation, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(3, most))) for most in longest)
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    bias, inputs, outputs = draw(st.booleans()), draw(each), draw(st.integers(1, 2))
    options = (kernel, stride, padding, extra, 1, bias, dilation)
    module = kind(inputs, outputs, *options, dtype=F64)
    return module, torch.randn(draw(each), inputs, *sizes, dtype=F64)


@given(transposed())
def test_a_transposed_convolution_has_the_rows_of_its_layer(case: tuple[Any, Tensor]) -> None:
    module, a = case
    geometry = geometry_of(module)
    assert geometry is not None
    assert_sums(module, geometry, a)


@pytest.mark.usefixtures("table")
def test_a_weight_with_a_column_an_output_has_the_rows_of_its_layer() -> None:
    register_layer(Column, ColumnLinearGeometry)
    module = Column(3, 4)
    geometry = geometry_of(module)
    assert geometry is not None
    assert (geometry.d_a, geometry.d_g) == (5, 3)
    assert_sums(module, geometry, torch.randn(6, 4, dtype=F64))
    assert_sums(module, geometry, torch.randn(6, 2, 4, dtype=F64))


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), ((2, 5), 1, 1), (2, 3, 2)])
def test_padding_by_the_input_s_size_has_the_rows_of_its_layer(
    kernel: Any, stride: int, dilation: int
) -> None:
    module = Same(2, 3, kernel, stride, dilation=dilation, dtype=F64)
    assert geometry_of(module) is None  # its forward pass is its own
    register_layer(Same, SameGeometry)
    geometry = geometry_of(module)
    assert geometry is not None
    assert_sums(module, geometry, torch.randn(2, 2, 7, 6, dtype=F64))


def test_a_subclass_is_covered_if_it_inherits_its_forward_pass() -> None:
    class Named(nn.Linear):
        """A linear layer with another name."""

    class Scaled(nn.Linear):
        """A linear layer that computes something else."""

        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    assert isinstance(geometry_of(Named(2, 3)), LinearGeometry)
    assert geometry_of(Scaled(2, 3)) is None


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.ConvTranspose2d(2, 2, 2, groups=2), "groups"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), "computed from"),
    ],
)
def test_a_layer_that_is_not_covered_has_a_reason(module: nn.Module, reason: str) -> None:
    assert geometry_of(module) is None
    assert reason in kinds.why_not(module)


@pytest.mark.parametrize("module", [nn.BatchNorm2d(2), nn.Bilinear(2, 2, 2), nn.LSTM(2, 2)])
def test_other_kinds_have_no_geometry(module: nn.Module) -> None:
    assert geometry_of(module) is None


def test_what_is_registered_must_be_a_module_and_a_function() -> None:
    with pytest.raises(TypeError, match="kind must be a subclass of torch.nn.Module, got 3"):
        register_layer(3, LinearGeometry)  # type: ignore[arg-type]  # the wrong kind is the point
    with pytest.raises(TypeError, match="geometry must be a function of a module, got None"):
        register_layer(nn.LSTM, None)  # type: ignore[arg-type]  # the wrong kind is the point
