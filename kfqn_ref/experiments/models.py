"""The networks that the experiments train, as values from which both engines are built."""

import numpy as np

from kfqn_ref.experiments.data import Split
from kfqn_ref.layers import Conv2d, Flatten, Layer, Linear, ReLU, Sigmoid
from kfqn_ref.losses import BernoulliCrossEntropy, SoftmaxCrossEntropy
from kfqn_ref.network import Network
from kfqn_ref.pooling import MaxPool2d

MODELS = ("cnn", "mlp", "autoencoder")


def build_network(model: str, shape: tuple[int, int], classes: int = 10) -> Network:
    """The network ``model`` for one-channel images of ``shape`` (height, width).

    Raises:
        ValueError: the model is not one of ``MODELS``, or the images are too small for it.
    """
    if model == "cnn" and min(shape) < 4:
        raise ValueError(
            f"the model cnn needs images of at least 4x4 pixels, got {shape[0]}x{shape[1]}: use "
            "the model mlp"
        )
    if model == "cnn":
        return cnn(shape, classes)
    if model == "mlp":
        return mlp(shape, classes)
    if model == "autoencoder":
        return autoencoder(shape)
    raise ValueError(f"the model must be one of {', '.join(MODELS)}, got {model!r}")


def cnn(shape: tuple[int, int], classes: int) -> Network:
    """Two convolutions that keep the size, each halved by pooling, and two linear layers."""
    channels, kernel, hidden = ((8, 16), 3, 32) if max(shape) < 16 else ((16, 32), 5, 64)
    features = channels[1] * (shape[0] // 4) * (shape[1] // 4)
    layers: tuple[Layer, ...] = (
        Conv2d(1, channels[0], kernel, padding=kernel // 2),
        ReLU(),
        MaxPool2d(2),
        Conv2d(channels[0], channels[1], kernel, padding=kernel // 2),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(features, hidden),
        ReLU(),
        Linear(hidden, classes),
    )
    return Network(layers, SoftmaxCrossEntropy())


def mlp(shape: tuple[int, int], classes: int) -> Network:
    """Two hidden layers of ReLUs."""
    hidden = 32 if max(shape) < 16 else 128
    layers: tuple[Layer, ...] = (
        Flatten(),
        Linear(shape[0] * shape[1], hidden),
        ReLU(),
        Linear(hidden, hidden),
        ReLU(),
        Linear(hidden, classes),
    )
    return Network(layers, SoftmaxCrossEntropy())


def autoencoder(shape: tuple[int, int]) -> Network:
    """Sigmoid layers down to a linear code and back to the logits of the pixels."""
    pixels = shape[0] * shape[1]
    hidden, code = (32, 8) if max(shape) < 16 else (256, 30)
    layers: tuple[Layer, ...] = (
        Flatten(),
        Linear(pixels, hidden),
        Sigmoid(),
        Linear(hidden, code),
        Linear(code, hidden),
        Sigmoid(),
        Linear(hidden, pixels),
    )
    return Network(layers, BernoulliCrossEntropy())


def batch_of(network: Network, split: Split, index: np.ndarray | slice) -> Split:
    """Inputs and targets of some samples: an autoencoder's targets are its own pixels."""
    x = split.x[index]
    if classifies(network):
        return Split(x, split.y[index])
    return Split(x, x.reshape(len(x), -1))


def classifies(network: Network) -> bool:
    """Whether the network's targets are classes, so that it has a classification error."""
    return isinstance(network.loss, SoftmaxCrossEntropy)
