"""The running example of the book: a network small enough to print, with small integers.

Three images of 2 × 2 pixels, one convolution with two filters of 1 × 2 (so that the two rows of an
image are its patches), and one linear layer with one output. The loss is the squared error. The
chapters work the same numbers by hand, and a cell of each chapter compares them with the package.
"""

from fractions import Fraction

import numpy as np

import kfqn_ref as kf
from kfqn_ref._typing import Array
from kfqn_ref.network import Pass

NETWORK = kf.Network(
    (kf.Conv2d(1, 2, (1, 2)), kf.Flatten(), kf.Linear(4, 1)), kf.MeanSquaredError()
)

PARAMS = (
    np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),  # filters (d_g, d_a) = (2, 3), bias last
    np.array([[1.0, 1.0, 0.0, 1.0, 0.0]]),  # outputs of filter 1, then of filter 2, then the bias
)

IMAGES = np.array([[[1, 1], [0, 0]], [[0, 0], [1, 1]], [[1, -2], [0, 0]]], float)[:, None]
TARGETS = np.array([[-1.0], [2.0], [0.0]])

LAMBDA = 1.0  # λ, so that λ_A = λ_G = 1
STEP = 0.5  # α
CONVOLUTION = 0
LINEAR = 1


def first_pass() -> Pass:
    """Return loss, gradients and records at the start weights."""
    return kf.forward_backward(NETWORK, PARAMS, IMAGES, TARGETS)


def fractions(x: Array) -> str:
    """Return the numbers of a vector or the rows of a matrix as fractions, one row a line."""
    rows = [[fraction(value) for value in row] for row in np.atleast_2d(x)]
    width = max(len(text) for row in rows for text in row)
    return "\n".join("  ".join(text.rjust(width) for text in row) for row in rows)


def fraction(value: float) -> str:
    """Return a number as the fraction that it is up to rounding, with a small denominator."""
    return str(Fraction(float(value)).limit_denominator(10_000))
