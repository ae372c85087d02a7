"""The running example has the numbers that the chapters work by hand."""

import numpy as np

import kfqn_ref as kf
from kfqn_ref.experiments.book import example


def test_its_factors_are_small_integers() -> None:
    record = example.first_pass().records[example.CONVOLUTION]
    A = kf.input_factor(record.a_bar)
    np.testing.assert_allclose(A, [[1, 0, 1], [0, 2, 0], [1, 0, 2]], rtol=0, atol=1e-15)
    assert record.a_bar.shape == (3, 2, 3)


def test_only_the_block_of_its_last_layer_is_a_kronecker_product() -> None:
    task = (example.NETWORK, example.PARAMS, example.IMAGES, example.TARGETS)
    errors = kf.hessian.exact_blocks(*task, example.CONVOLUTION).errors()
    assert errors["IAD"] <= 1e-15
    assert min(errors["SUD"], errors["SH"]) > 0.2
    assert kf.hessian.exact_blocks(*task, example.LINEAR).errors()["total"] <= 1e-15


def test_fractions_are_written_in_columns() -> None:
    assert example.fractions(np.array([1 / 3, -2.0])) == "1/3   -2"
    assert example.fractions(np.array([[0.5, 1], [10, 0]])) == "1/2    1\n 10    0"
