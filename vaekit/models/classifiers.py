"""Image classifiers: those that judge samples (the Inception Score) need no more than torch.

A `Classifier` is one of the networks of `NETWORKS` behind the standardisation of its training images, so that it takes
images in [0, 1] like everything else here.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.data.download import torchvision


class Classifier(nn.Module):
    """p(y|x) by a named network, with the mean and standard deviation of each channel of its training images.

    `record` says how it was trained and how well it does, where it was.

    Args:
        name: of the network, one of `NETWORKS`.
        image_shape: (C, H, W).
        classes: labels lie in 0 … classes - 1.

    Raises:
        KeyError: There is no network of that name; the error lists them.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, name: str, image_shape: tuple[int, int, int], classes: int = 10):
        super().__init__()
        if name not in NETWORKS:
            raise KeyError(f"no classifier {name!r}; there are {', '.join(NETWORKS)}")
        self.name, self.image_shape, self.classes = name, tuple(image_shape), classes
        self.network = NETWORKS[name](image_shape[0], classes)
        self.record: dict[str, Any] = {}
        self.register_buffer("mean", torch.zeros(image_shape[0], 1, 1))
        self.register_buffer("sd", torch.ones(image_shape[0], 1, 1))

    def logits(self, x: Tensor) -> Tensor:
        """Class logits of images in [0, 1], (n, classes)."""
        x = (x - self.mean) / self.sd
        return self.network(x.contiguous(memory_format=torch.channels_last))  # a third faster on a CPU, and more

    def forward(self, x: Tensor) -> Tensor:
        """Class probabilities of images in [0, 1], (n, classes)."""
        return self.logits(x).softmax(1)


class Residual(nn.Module):
    """Two 3 x 3 convolutions around which the input goes: every `stride`-th pixel of it, new channels zero.

    The shortcut without parameters, option A of He et al. 2016, section 4.2.
    """

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.stride, self.new = stride, after - before
        self.first = nn.Sequential(*_normed(before, after, stride), nn.ReLU(inplace=True))
        self.second = nn.Sequential(*_normed(after, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        """From (n, before, H, W) to (n, after, H / stride, W / stride)."""
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new)) if self.new else x
        return (self.second(self.first(x)) + short).relu_()


def resnet20(channels: int, classes: int) -> nn.Module:
    """ResNet-20 for 32 x 32 images (He et al. 2016, section 4.2): three stages of three blocks, 0.27 M weights."""
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    return nn.Sequential(
        *_normed(channels, 16, 1),
        nn.ReLU(inplace=True),
        *(Residual(before, after, after // before) for before, after in pairwise(widths)),
        *_head(64, classes),
    )


def cnn(channels: int, classes: int) -> nn.Module:
    """Three convolutions with BatchNorm, max pooling between them: 29 k weights, for digits and their like."""
    layers: list[nn.Module] = []
    for before, after in pairwise([channels, 16, 32, 64]):
        layers += [*_normed(before, after, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], *_head(64, classes, side=3))


def resnet18(channels: int, classes: int) -> nn.Module:
    """torchvision's ResNet-18 for 32 x 32 images: a first convolution of 3 x 3 and stride 1, no pooling after it."""
    network = torchvision("models").resnet18(num_classes=classes)
    network.conv1, network.maxpool = nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.Identity()
    return network


def densenet121(channels: int, classes: int) -> nn.Module:
    """torchvision's DenseNet-121 for 32 x 32 images, in the same way."""
    network = torchvision("models").densenet121(num_classes=classes)
    network.features.conv0, network.features.pool0 = nn.Conv2d(channels, 64, 3, 1, 1, bias=False), nn.Identity()
    return network


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet20": resnet20,
    "cnn": cnn,
    "resnet18": resnet18,
    "densenet121": densenet121,
}


def _normed(before: int, after: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight)
    return [convolution, nn.BatchNorm2d(after)]


def _head(channels: int, classes: int, side: int = 1) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(channels * side**2, classes)]
