"""Patches: torch's unfold as the oracle, and the adjoint identity."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kfqn_ref.patches import append_one, col2im, im2col, output_size


@st.composite
def geometries(draw):
    """A batch shape and a convolution that fits it."""
    kernel, stride, padding, dilation = (
        (draw(st.integers(low, 3)), draw(st.integers(low, 3))) for low in (1, 1, 0, 1)
    )
    size = [
        draw(st.integers(max(1, dil * (k - 1) + 1 - 2 * pad), 8))
        for k, pad, dil in zip(kernel, padding, dilation, strict=True)
    ]
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *size)
    return shape, kernel, {"stride": stride, "padding": padding, "dilation": dilation}


@given(geometries(), st.integers(0, 2**32 - 1))
def test_im2col_is_torch_unfold(case, seed):
    shape, kernel, options = case
    x = np.random.default_rng(seed).standard_normal(shape)
    expected = torch.nn.functional.unfold(torch.from_numpy(x), kernel, **options).mT.numpy()
    np.testing.assert_array_equal(im2col(x, kernel, **options), expected)


@given(geometries(), st.integers(0, 2**32 - 1))
def test_col2im_is_the_adjoint(case, seed):
    """⟨im2col(x), cols⟩ = ⟨x, col2im(cols)⟩, exactly on integers."""
    shape, kernel, options = case
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, shape).astype(float)
    patches = im2col(x, kernel, **options)
    cols = rng.integers(-9, 10, patches.shape).astype(float)
    assert np.vdot(patches, cols) == np.vdot(x, col2im(cols, shape, kernel, **options))


def test_one_number_means_both_axes():
    x = np.arange(50.0).reshape(1, 2, 5, 5)
    square = im2col(x, (2, 2), stride=(2, 2), padding=(1, 1), dilation=(1, 1))
    np.testing.assert_array_equal(im2col(x, 2, stride=2, padding=1), square)


def test_without_options_the_kernel_moves_by_one_over_the_bare_image():
    plain = {"stride": 1, "padding": 0, "dilation": 1}
    x = np.arange(50.0).reshape(1, 2, 5, 5)
    cols = im2col(x, 2, **plain)
    assert output_size((5, 5), 2) == output_size((5, 5), 2, **plain) == (4, 4)
    np.testing.assert_array_equal(im2col(x, 2), cols)
    np.testing.assert_array_equal(col2im(cols, x.shape, 2), col2im(cols, x.shape, 2, **plain))


def test_the_one_is_appended_last():
    a = np.arange(12.0).reshape(2, 3, 2)
    a_bar = append_one(a)
    np.testing.assert_array_equal(a_bar[..., :2], a)
    np.testing.assert_array_equal(a_bar[..., 2], 1)
    assert append_one(a.astype(np.float32)).dtype == np.float32  # inputs keep their precision


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        (0, {}, "must be >= 1"),
        (2, {"stride": 0}, "must be >= 1"),
        (2, {"padding": -1}, "padding >= 0"),
        (2, {"dilation": 0}, "must be >= 1"),
        (5, {}, "must fit the padded image of 4"),
        (3, {"dilation": 2}, "must fit the padded image of 4"),
        (7, {"padding": 1}, "must fit the padded image of 6"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(kernel, options, message):
    with pytest.raises(ValueError, match=message):
        output_size((4, 4), kernel, **options)


def test_columns_of_another_geometry_are_refused():
    with pytest.raises(ValueError, match=r"cols must have shape \(1, 9, 4\)"):
        col2im(np.ones((1, 4, 4)), (1, 1, 4, 4), 2)
