"""The networks of the comparisons: plain torch, random weights, batch norms as after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.errors import UnknownName
from benchmarks.zoo.cifar_resnet import cifar_resnet
from benchmarks.zoo.mobilenet_v2 import MobileNetV2
from benchmarks.zoo.mobilenet_v3_large import MobileNetV3Large
from benchmarks.zoo.resnet18 import ResNet18
from benchmarks.zoo.resnet50 import ResNet50
from benchmarks.zoo.weights import randomise

__all__ = ["ZOO", "Entry", "make_network"]


@dataclass(frozen=True)
class Entry:
    """How a network is built, and what it is fed: an image of 3 x size x size."""

    title: str
    build: Callable[[], nn.Module]
    size: int


ZOO: dict[str, Entry] = {
    "mobilenet_v2": Entry("MobileNetV2 1.0", MobileNetV2, 224),
    "mobilenet_v3_large": Entry("MobileNetV3-large", MobileNetV3Large, 224),
    "resnet18": Entry("ResNet-18", ResNet18, 224),
    "resnet50": Entry("ResNet-50", ResNet50, 224),
    "cifar_resnet20": Entry("CIFAR ResNet-20", lambda: cifar_resnet(20), 32),
    "cifar_resnet56": Entry("CIFAR ResNet-56", lambda: cifar_resnet(56), 32),
}


def make_network(name: str, *, size: int | None = None, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode, and one random image [1, 3, size, size] for it.

    Args:
        size: height and width of the image instead of the usual ones.
        seed: of weights, batch norms and image.

    Raises:
        UnknownName: if the zoo has no such network.
    """
    if name not in ZOO:
        raise UnknownName(f"there is no network {name!r} in the zoo; known: {', '.join(ZOO)}")
    entry = ZOO[name]
    shape = (3, size or entry.size, size or entry.size)
    model = entry.build()
    randomise(model, shape, seed=seed)
    return model.eval(), torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed + 1))
