"""Layers against torch.nn.functional: outputs, input gradients, weight gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import kfqn_ref as kf
from kfqn_ref.layers import sigmoid
from kfqn_ref.transposed import ConvTranspose2d

RTOL = 1e-12  # float64 sums of at most a few hundred terms of order one, in two orders


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=RTOL)


@st.composite
def convolutions(draw):
    """A convolution, grouped or not, and the size of an image that it fits."""
    groups = draw(st.integers(1, 3))
    kernel, stride, padding, dilation = (
        (draw(st.integers(low, 3)), draw(st.integers(low, high)))
        for low, high in ((1, 3), (1, 2), (0, 2), (1, 2))
    )
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    conv = kf.Conv2d(*channels, kernel, stride, padding, dilation, groups, draw(st.booleans()))
    size = [
        draw(st.integers(max(1, dil * (k - 1) + 1 - 2 * pad), 7))
        for k, pad, dil in zip(kernel, padding, dilation, strict=True)
    ]
    return conv, size


def torch_weights(blocks, bias, kernel=None):
    """Return weight and bias as torch keeps them, from blocks with the bias as last column."""
    W = torch.from_numpy(np.concatenate(blocks))
    weight = W[:, : W.shape[1] - bias]
    weight = weight if kernel is None else weight.reshape(len(W), -1, *kernel)
    return weight.clone().requires_grad_(), (W[:, -1].clone().requires_grad_() if bias else None)


def weight_gradient(weight, bias):
    """Return torch's gradients in the layout of a block."""
    grad = weight.grad.reshape(len(weight), -1)
    return grad if bias is None else torch.cat([grad, bias.grad[:, None]], dim=1)


@given(convolutions(), st.integers(0, 2**32 - 1))
def test_convolution(case, seed):
    conv, size = case
    rng = np.random.default_rng(seed)
    blocks = tuple(rng.standard_normal(shape) for shape in conv.block_shapes)
    x = rng.standard_normal((2, conv.in_channels, *size))
    weight, bias = torch_weights(blocks, conv.bias, conv.kernel_size)
    x_torch = torch.from_numpy(x).requires_grad_()
    expected = F.conv2d(
        x_torch, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )  # fmt: skip  # one call, torch's order of arguments
    out, cache = conv.forward(blocks, x)
    close(out, expected.detach())
    Dout = rng.standard_normal(out.shape)
    expected.backward(torch.from_numpy(Dout))
    Dx, records = conv.backward(blocks, cache, Dout)
    close(Dx, x_torch.grad)
    grads = np.concatenate([kf.network.gradient(record) * len(x) for record in records])
    close(grads, weight_gradient(weight, bias))
    for record, W in zip(records, blocks, strict=True):
        close(record.h, record.a_bar @ W.T)
        assert not conv.bias or (record.a_bar[..., -1] == 1).all()


@st.composite
def transposed_convolutions(draw):
    """A transposed convolution with every option, and the size of an image."""
    sizes = [draw(st.integers(2, 4)) for _ in range(2)]
    kernel, stride, dilation = (
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))) for _ in ("kernel", "stride", "dilation")
    )
    extra = tuple(
        draw(st.integers(0, max(step, dil) - 1)) for step, dil in zip(stride, dilation, strict=True)
    )
    longest = [
        (step * (n - 1) + dil * (k - 1) + e) // 2
        for n, k, step, dil, e in zip(sizes, kernel, stride, dilation, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(3, most))) for most in longest)
    channels = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    options = (kernel, stride, padding, extra, dilation, draw(st.booleans()))
    return ConvTranspose2d(*channels, *options), sizes


@given(transposed_convolutions(), st.integers(0, 2**32 - 1))
def test_transposed_convolution(case, seed):
    conv, size = case
    rng = np.random.default_rng(seed)
    blocks = tuple(rng.standard_normal(shape) for shape in conv.block_shapes)
    x = rng.standard_normal((2, conv.in_channels, *size))
    by_output, bias = torch_weights(blocks, conv.bias, conv.kernel_size)
    weight = by_output.detach().transpose(0, 1).clone().requires_grad_()  # torch's order of axes
    x_torch = torch.from_numpy(x).requires_grad_()
    options = (conv.stride, conv.padding, conv.output_padding, 1, conv.dilation)
    expected = F.conv_transpose2d(x_torch, weight, bias, *options)
    out, cache = conv.forward(blocks, x)
    close(out, expected.detach())
    Dout = rng.standard_normal(out.shape)
    expected.backward(torch.from_numpy(Dout))
    Dx, (record,) = conv.backward(blocks, cache, Dout)
    close(Dx, x_torch.grad)
    grad = weight.grad.transpose(0, 1).flatten(1)
    grad = grad if bias is None else torch.cat([grad, bias.grad[:, None]], dim=1)
    close(kf.network.gradient(record) * len(x), grad)
    close(record.h, record.a_bar @ blocks[0].T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "channels must be positive"),
        ({"output_padding": 2}, "output_padding must be below stride or dilation"),
    ],
)
def test_a_transposed_convolution_has_valid_options(options, message):
    with pytest.raises(ValueError, match=message):
        ConvTranspose2d(**{"in_channels": 1, "out_channels": 1, "kernel_size": 2, **options})


@given(st.booleans(), st.sampled_from([(3,), (3, 4)]), st.integers(0, 2**32 - 1))
def test_linear_on_vectors_and_on_positions(bias, leading, seed):
    rng = np.random.default_rng(seed)
    layer = kf.Linear(5, 2, bias)
    blocks = tuple(rng.standard_normal(shape) for shape in layer.block_shapes)
    x = rng.standard_normal((*leading, 5))
    weight, bias_torch = torch_weights(blocks, bias)
    x_torch = torch.from_numpy(x).requires_grad_()
    expected = F.linear(x_torch, weight, bias_torch)
    out, cache = layer.forward(blocks, x)
    close(out, expected.detach())
    Dout = rng.standard_normal(out.shape)
    expected.backward(torch.from_numpy(Dout))
    Dx, (record,) = layer.backward(blocks, cache, Dout)
    close(Dx, x_torch.grad)
    close(kf.network.gradient(record) * len(x), weight_gradient(weight, bias_torch))
    assert record.a_bar.shape == (3, leading[1] if len(leading) == 2 else 1, 5 + bias)


POOLED = (2, 3, 6, 7)
PLAIN = [
    (kf.ReLU(), F.relu),
    (kf.Tanh(), torch.tanh),
    (kf.Sigmoid(), torch.sigmoid),
    (kf.Flatten(), lambda x: x.flatten(1)),
    (kf.MaxPool2d(2), lambda x: F.max_pool2d(x, 2)),
    (kf.MaxPool2d((3, 2), stride=1), lambda x: F.max_pool2d(x, (3, 2), stride=1)),
    (kf.AvgPool2d(3), lambda x: F.avg_pool2d(x, 3)),
    (kf.AvgPool2d(2, stride=(1, 3)), lambda x: F.avg_pool2d(x, 2, stride=(1, 3))),
]


@pytest.mark.parametrize(
    ("layer", "function"), PLAIN, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_layers_without_weights(layer, function):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(POOLED)
    x_torch = torch.from_numpy(x).requires_grad_()
    expected = function(x_torch)
    out, cache = layer.forward((), x)
    close(out, expected.detach())
    Dout = rng.standard_normal(out.shape)
    expected.backward(torch.from_numpy(Dout))
    Dx, records = layer.backward((), cache, Dout)
    close(Dx, x_torch.grad)
    assert records == ()
    assert layer.block_shapes == ()


@pytest.mark.parametrize(
    ("layer", "function"), PLAIN, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_complex_step_differentiates_every_layer(layer, function):
    """Im⟨Dout, layer(x + iεv)⟩ / ε = ⟨Dx, v⟩: forward and backward agree without torch."""
    rng = np.random.default_rng(1)
    x, v = rng.standard_normal((2, *POOLED))
    out, cache = layer.forward((), x)
    Dout = rng.standard_normal(out.shape)
    moved = layer.forward((), x + 1e-30j * v)[0]
    assert np.vdot(Dout, moved.imag) / 1e-30 == pytest.approx(
        np.vdot(layer.backward((), cache, Dout)[0], v)
    )


def test_sigmoid_does_not_overflow():
    assert sigmoid(np.array([-800.0, 0.0, 800.0])).tolist() == [0.0, 0.5, 1.0]


def test_ties_in_max_pooling_go_to_the_first_entry():
    x = np.ones((1, 1, 2, 2))
    _, cache = kf.MaxPool2d(2).forward((), x)
    Dx, _ = kf.MaxPool2d(2).backward((), cache, np.ones((1, 1, 1, 1)))
    assert Dx.ravel().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kf.Linear(0, 2), "must be positive"),
        (lambda: kf.Conv2d(2, 4, 3, groups=0), "must be positive"),
        (lambda: kf.Conv2d(3, 4, 3, groups=2), "groups must divide"),
        (
            lambda: kf.Linear(3, 2).forward((np.ones((2, 4)),), np.ones((5, 4))),
            r"\(N, 3\).*got \(5, 4\)",
        ),
        (
            lambda: kf.Conv2d(3, 2, 1).forward((np.ones((2, 4)),), np.ones((1, 2, 4, 4))),
            r"\(N, 3, H, W\)",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
