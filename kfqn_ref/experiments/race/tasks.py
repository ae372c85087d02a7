"""The tasks of the races: five networks on real images, scaled to a processor without
accelerator.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.experiments.data import load_data


class Images(NamedTuple):
    """Training and test images of a task, as the model takes them, and their targets."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Task:
    """A network, its data and the sizes of its runs.

    Args:
        name: how it is asked for.   title: what the reports call it.
        data: the data set.   pool: images are first averaged over pool x pool pixels.
        build: makes the model for images of ``side`` pixels.
        batch: mini-batch size.   steps: steps of a run.   tuning_steps: steps of a run of the grid.
        autoencoder: the targets are the pixels, the loss is Bernoulli's, summed over pixels.
        he: weights start as He's normal and biases at 0, not as torch's default, by which deep
            networks spend the first hundred steps on a plateau.
        held_out: how many images of each split the loss is evaluated on.
    """

    name: str
    title: str
    data: str
    build: Callable[[int], nn.Module]
    batch: int
    steps: int
    tuning_steps: int
    pool: int = 1
    autoencoder: bool = False
    he: bool = False
    held_out: int = 500

    def images(self) -> Images:
        """Load the data, pooled, in float32."""
        data = load_data(self.data)
        parts = []
        for split in (data.train, data.test):
            x = torch.from_numpy(split.x.astype(np.float32))
            x = F.avg_pool2d(x, self.pool) if self.pool > 1 else x
            target = x.flatten(1) if self.autoencoder else torch.from_numpy(split.y)
            parts += [x, target]
        return Images(*parts)

    def model(self, side: int, seed: int) -> nn.Module:
        """Return the model with weights drawn from ``seed``."""
        torch.manual_seed(seed)
        model = self.build(side)
        return he_start(model) if self.he else model

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a mini-batch."""
        if self.autoencoder:
            return F.binary_cross_entropy_with_logits(outputs, target, reduction="sum") / len(
                outputs
            )
        return F.cross_entropy(outputs, target)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return targets drawn from the model's own distribution; from any where its outputs are
        NaN.
        """
        if self.autoencoder:
            return torch.bernoulli(torch.sigmoid(outputs).nan_to_num(0.5), generator=generator)
        return torch.multinomial(F.softmax(outputs, 1).nan_to_num(1.0), 1, generator=generator)[
            :, 0
        ]


def he_start(model: nn.Module) -> nn.Module:
    """Draw the weights of linear and convolution layers from He's normal, set their biases to 0."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def small_cnn(side: int) -> nn.Module:
    """Two 3x3 convolutions of 16 and 32 channels, each pooled, then 64 hidden units."""
    return nn.Sequential(
        *_conv(1, 16), nn.MaxPool2d(2), *_conv(16, 32), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip  # as the network is drawn


def all_cnn(side: int) -> nn.Module:
    """The layers of All-CNN-C with 12 and 24 channels instead of 96 and 192: only convolutions."""
    return nn.Sequential(
        *_conv(1, 12), *_conv(12, 12), *_conv(12, 12, stride=2),
        *_conv(12, 24), *_conv(24, 24), *_conv(24, 24, stride=2),
        *_conv(24, 24), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Conv2d(24, 10, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip  # as the network is drawn


def vgg(side: int) -> nn.Module:
    """Two blocks of two 3x3 convolutions, 16 and 32 channels, each pooled, then 64 hidden units."""
    return nn.Sequential(
        *_conv(1, 16), *_conv(16, 16), nn.MaxPool2d(2), *_conv(16, 32), *_conv(32, 32),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip  # as the network is drawn


def autoencoder(side: int) -> nn.Module:
    """The K-BFGS autoencoder, 784-1000-500-250-30 and back: ReLUs, a linear code of 30."""
    return _autoencoder(side**2, 1000, 500, 250, 30)


def narrow_autoencoder(side: int) -> nn.Module:
    """The same with a quarter of the hidden units."""
    return _autoencoder(side**2, 250, 125, 62, 30)


def _autoencoder(*half: int) -> nn.Module:
    sizes = (*half, *half[-2::-1])
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (d_in, d_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers.append(nn.Linear(d_in, d_out))
        if i not in (len(half) - 2, len(sizes) - 2):
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to the input; a 1x1 convolution where shapes
    differ.
    """

    def __init__(self, d_in: int, d_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(d_in, d_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(d_out, d_out, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(d_out)
        self.norm2 = nn.BatchNorm2d(d_out)
        same = stride == 1 and d_in == d_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(d_in, d_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet(side: int) -> nn.Module:
    """A 3x3 convolution, two residual blocks of 12 and 24 channels, global average, a linear
    layer.
    """
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        Residual(12, 12), Residual(12, 24, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip  # as the network is drawn


def _conv(d_in: int, d_out: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(d_in, d_out, 3, stride, padding=1), nn.ReLU()


FASHION = "fashion-mnist"
DIGITS = "digits"

FULL = (
    Task("cnn", "small CNN, Fashion-MNIST", FASHION, small_cnn, 128, 300, 120),
    Task("autoencoder", "autoencoder, Fashion-MNIST", FASHION, autoencoder, 1000, 180, 60,
         autoencoder=True, he=True),
    Task("resnet", "ResNet-like with BatchNorm, Fashion-MNIST at 14x14", FASHION, resnet, 64, 240,
         120, pool=2, he=True),
    Task("vgg", "VGG-like, digits", DIGITS, vgg, 64, 240, 120, he=True),
    Task("allcnn", "All-CNN-C-like, Fashion-MNIST at 14x14", FASHION, all_cnn, 64, 240, 120,
         pool=2, he=True),
)  # fmt: skip  # a table

QUICK = (
    Task("cnn", "small CNN, digits", DIGITS, small_cnn, 64, 100, 40, held_out=297),
    Task("autoencoder", "autoencoder, digits", DIGITS, narrow_autoencoder, 100, 100, 40,
         autoencoder=True, he=True, held_out=297),
)  # fmt: skip  # a table

SMOKE = (Task("cnn", "small CNN, digits", DIGITS, small_cnn, 32, 24, 6, held_out=100),)
"""For the test suite: every part of a race, in seconds."""
