"""Losses: value and gradient of the per-sample loss; the mini-batch loss is their mean (book: a
network).

``sample`` draws targets from the distribution whose negative log-likelihood the loss is; the Fisher
matrix of KFAC needs such targets.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator

from kfqn_ref._typing import Array
from kfqn_ref.layers import sigmoid


class Loss(Protocol):
    """What every loss offers; outputs are (N, …)."""

    def value(self, outputs: Array, target: Array) -> Array:
        """Return the loss of each sample, (N,)."""
        ...

    def gradient(self, outputs: Array, target: Array) -> Array:
        """Return the gradient of each sample's loss with respect to its outputs, as ``outputs``."""
        ...

    def sample(self, outputs: Array, rng: Generator) -> Array:
        """Return targets drawn from the model's own distribution."""
        ...


def _check_same(outputs: Array, target: Array) -> None:
    if outputs.shape != target.shape:
        raise ValueError(
            f"target must have the shape of the outputs, {outputs.shape}, got {target.shape}"
        )


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """``−log softmax(outputs)[target]``; outputs (N, classes), target (N,) integers.

    Raises:
        TypeError: the target is not of an integer dtype.
        ValueError: the target is not (N,) with entries in [0, classes).
    """

    def value(self, outputs: Array, target: Array) -> Array:
        """Return log-sum-exp minus the output of the target class, (N,)."""
        self._check(outputs, target)
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(target)), target]

    def gradient(self, outputs: Array, target: Array) -> Array:
        """Return softmax minus the one-hot target, (N, classes)."""
        self._check(outputs, target)
        gradient = self.probabilities(outputs)
        gradient[np.arange(len(target)), target] -= 1
        return gradient

    def sample(self, outputs: Array, rng: Generator) -> Array:
        """Return classes drawn from softmax(outputs), (N,)."""
        cumulative = self.probabilities(outputs).cumsum(axis=1)
        u = rng.random((len(outputs), 1)) * cumulative[:, -1:]
        return (u >= cumulative).sum(axis=1)

    def probabilities(self, outputs: Array) -> Array:
        """Return softmax(outputs), (N, classes)."""
        exp = np.exp(outputs - np.real(outputs).max(axis=1, keepdims=True))
        return exp / exp.sum(axis=1, keepdims=True)

    def _check(self, outputs: Array, target: Array) -> None:
        if outputs.ndim != 2:
            raise ValueError(f"outputs must be (N, classes), got {outputs.shape}")
        if not np.issubdtype(target.dtype, np.integer):
            raise TypeError(f"target must be of an integer dtype, got {target.dtype}")
        if target.shape != outputs.shape[:1]:
            raise ValueError(f"target must be ({len(outputs)},), got {target.shape}")
        if target.size and not (0 <= target.min() and target.max() < outputs.shape[1]):
            raise ValueError(
                f"target must be in [0, {outputs.shape[1]}), got {target.min()}..{target.max()}"
            )


@dataclass(frozen=True)
class MeanSquaredError:
    """The mean over features of ``(outputs − target)²``, as torch's ``MSELoss``; both (N, …).

    Raises:
        ValueError: outputs and target differ in shape.
    """

    def value(self, outputs: Array, target: Array) -> Array:
        """Return the mean squared difference of each sample, (N,)."""
        _check_same(outputs, target)
        return ((outputs - target) ** 2).reshape(len(outputs), -1).mean(axis=1)

    def gradient(self, outputs: Array, target: Array) -> Array:
        """Return twice the difference, divided by the number of features."""
        _check_same(outputs, target)
        return 2 * (outputs - target) * (len(outputs) / outputs.size)

    def sample(self, outputs: Array, rng: Generator) -> Array:
        """Return normal targets around the outputs, variance features / 2: the loss is their −log
        density.
        """
        features = outputs.size / len(outputs)
        return outputs + np.sqrt(features / 2) * rng.standard_normal(outputs.shape)


@dataclass(frozen=True)
class BernoulliCrossEntropy:
    """Cross-entropy of Bernoulli features from logits, **summed** over features: the autoencoder
    loss.

    Outputs are logits, the target is in [0, 1]; both (N, …).

    Raises:
        ValueError: outputs and target differ in shape, or a target is outside [0, 1].

    Source: goldfarb2020kbfgs.
    """

    def value(self, outputs: Array, target: Array) -> Array:
        """Return ``Σ log(1 + exp(z)) − target z`` of each sample, (N,)."""
        self._check(outputs, target)
        return (np.logaddexp(0, outputs) - target * outputs).reshape(len(outputs), -1).sum(axis=1)

    def gradient(self, outputs: Array, target: Array) -> Array:
        """Return ``sigmoid(outputs) − target``."""
        self._check(outputs, target)
        return sigmoid(outputs) - target

    def sample(self, outputs: Array, rng: Generator) -> Array:
        """Return zeros and ones drawn with probability sigmoid(outputs)."""
        return (rng.random(outputs.shape) < sigmoid(outputs)).astype(outputs.dtype)

    def _check(self, outputs: Array, target: Array) -> None:
        _check_same(outputs, target)
        if target.size and not (0 <= target.min() and target.max() <= 1):
            raise ValueError(
                f"target must be in [0, 1], got {target.min():.3g}..{target.max():.3g}"
            )
