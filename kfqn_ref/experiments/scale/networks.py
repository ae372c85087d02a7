"""Networks as tables of layers: what the cost model of ``kfqn scale`` counts.

The tables are computed from the definitions of the architectures. A test compares their numbers of
parameters and their multiply-adds with the published ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A linear or convolution layer.

    Args:
        name: the layer.
        d_g: outputs.
        d_a: inputs of a location, with 1 for the bias if there is one.
        T: output locations.   bias: whether there is a bias.
    """

    name: str
    d_g: int
    d_a: int
    T: int
    bias: bool

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass of one sample."""
        return self.T * self.d_g * (self.d_a - self.bias)


@dataclass(frozen=True)
class Network:
    """A network.

    Args:
        name: the network.   layers: its covered layers, in order.
        others: parameters that no layer has: norms, embeddings.
        attention: multiply-adds of a sample's forward pass that involve no weights.
    """

    name: str
    layers: tuple[Shape, ...]
    others: int = 0
    attention: int = 0

    @property
    def covered(self) -> int:
        """Parameters of the layers."""
        return sum(layer.d_g * layer.d_a for layer in self.layers)

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.covered + self.others

    @property
    def macs(self) -> int:
        """Multiply-adds of the forward pass of one sample."""
        return sum(layer.macs for layer in self.layers) + self.attention


def conv(name: str, c_in: int, c_out: int, kernel: int, side: int, *, bias: bool = True) -> Shape:
    """Return a square convolution with ``side`` x ``side`` output locations."""
    return Shape(name, c_out, c_in * kernel**2 + bias, side**2, bias)


def linear(name: str, d_in: int, d_out: int, T: int = 1) -> Shape:
    """Return a linear layer with a bias, on ``T`` positions."""
    return Shape(name, d_out, d_in + 1, T, True)


def reference_cnn() -> Network:
    """The network of ``kfqn bench``; a test compares it with the module itself."""
    return Network(
        "reference CNN",
        (
            conv("conv1", 1, 16, 3, 28),
            conv("conv2", 16, 32, 3, 14),
            linear("fc1", 1568, 64),
            linear("fc2", 64, 10),
        ),
    )


def resnet50() -> Network:
    """ResNet-50 with the stride in the 3 x 3 convolutions. Source: he2016resnet, torchvision."""
    layers = [conv("conv1", 3, 64, 7, 112, bias=False)]
    c_in = 64
    side = 56
    for stage, (mid, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            before = side
            side = side // 2 if stage > 1 and block == 0 else side
            name = f"layer{stage}.{block}"
            c_out = 4 * mid
            layers += [
                conv(f"{name}.conv1", c_in, mid, 1, before, bias=False),
                conv(f"{name}.conv2", mid, mid, 3, side, bias=False),
                conv(f"{name}.conv3", mid, c_out, 1, side, bias=False),
            ]
            if block == 0:
                layers.append(conv(f"{name}.downsample", c_in, c_out, 1, side, bias=False))
            c_in = c_out
    norms = sum(2 * layer.d_g for layer in layers)  # every convolution is followed by one
    return Network("ResNet-50", (*layers, linear("fc", 2048, 1000)), others=norms)


def vgg16() -> Network:
    """VGG-16 without norms (configuration D). Source: simonyan2015vgg, torchvision."""
    layers = []
    c_in = 3
    side = 224
    for block, (c_out, count) in enumerate(
        ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), start=1
    ):
        for i in range(1, count + 1):
            layers.append(conv(f"conv{block}_{i}", c_in, c_out, 3, side))
            c_in = c_out
        side //= 2
    classifier = (linear("fc6", 25088, 4096), linear("fc7", 4096, 4096), linear("fc8", 4096, 1000))
    return Network("VGG-16", (*layers, *classifier))


def vit_b16() -> Network:
    """ViT-B/16 on 224 x 224 pixels, queries, keys and values in one layer.

    In ``torch.nn.MultiheadAttention`` the weights of attention are not those of a Linear module,
    and KFQN would not cover them; here they are taken as linear layers. Source: dosovitskiy2021vit,
    torchvision.
    """
    d = 768
    T = 14**2 + 1
    depth = 12
    layers = [conv("patches", 3, d, 16, 14)]
    for block in range(depth):
        layers += [
            linear(f"{block}.qkv", d, 3 * d, T),
            linear(f"{block}.out", d, d, T),
            linear(f"{block}.mlp1", d, 4 * d, T),
            linear(f"{block}.mlp2", 4 * d, d, T),
        ]
    others = d + T * d + (2 * depth + 1) * 2 * d  # class token, positions, norms
    return Network(
        "ViT-B/16", (*layers, linear("head", d, 1000)), others, attention=depth * 2 * T * T * d
    )


def large() -> Iterator[Network]:
    """Yield the networks to which the model is extrapolated."""
    yield from (resnet50(), vgg16(), vit_b16())
