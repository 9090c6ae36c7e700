"""The networks of the comparisons: plain torch, random weights, batch norms as after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.errors import UnknownName
from benchmarks.zoo.cifar_resnet import cifar_resnet
from benchmarks.zoo.densenet121 import DenseNet121
from benchmarks.zoo.edsr import EDSR
from benchmarks.zoo.efficientnet_b0 import EfficientNetB0
from benchmarks.zoo.espcn import ESPCN
from benchmarks.zoo.googlenet import GoogLeNet
from benchmarks.zoo.gru_classifier import GRUClassifier
from benchmarks.zoo.mobilenet_v1 import MobileNetV1
from benchmarks.zoo.mobilenet_v2 import MobileNetV2
from benchmarks.zoo.mobilenet_v3_large import MobileNetV3Large
from benchmarks.zoo.resnet18 import ResNet18
from benchmarks.zoo.resnet50 import ResNet50
from benchmarks.zoo.shufflenet_v2 import ShuffleNetV2
from benchmarks.zoo.squeezenet import SqueezeNet
from benchmarks.zoo.unet import UNet
from benchmarks.zoo.vgg import VGG
from benchmarks.zoo.vit_tiny import ViTTiny
from benchmarks.zoo.weights import randomise

__all__ = ["ZOO", "Entry", "make_network"]


IMAGE = (3, 224, 224)


@dataclass(frozen=True)
class Entry:
    """How a network is built, and what it is fed.

    Attributes:
        title: for people.
        build: the network, its parameters drawn with torch's own generator.
        shape: of one input: an image [C, H, W] or a sequence [T, F].
        convolutional: whether convolutions are what it spends its time on.
    """

    title: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = IMAGE
    convolutional: bool = True


ZOO: dict[str, Entry] = {
    "mobilenet_v1": Entry("MobileNetV1 1.0", MobileNetV1),
    "mobilenet_v2": Entry("MobileNetV2 1.0", MobileNetV2),
    "mobilenet_v3_large": Entry("MobileNetV3-large", MobileNetV3Large),
    "efficientnet_b0": Entry("EfficientNet-B0", EfficientNetB0),
    "shufflenet_v2": Entry("ShuffleNetV2 1.0x", ShuffleNetV2),
    "squeezenet": Entry("SqueezeNet 1.1", SqueezeNet),
    "resnet18": Entry("ResNet-18", ResNet18),
    "resnet50": Entry("ResNet-50", ResNet50),
    "densenet121": Entry("DenseNet-121", DenseNet121),
    "googlenet": Entry("GoogLeNet", GoogLeNet),
    "vgg16": Entry("VGG-16", VGG),
    "cifar_resnet20": Entry("CIFAR ResNet-20", lambda: cifar_resnet(20), (3, 32, 32)),
    "cifar_resnet56": Entry("CIFAR ResNet-56", lambda: cifar_resnet(56), (3, 32, 32)),
    "unet": Entry("U-Net, transposed", UNet, (3, 256, 256)),
    "unet_bilinear": Entry("U-Net, bilinear", lambda: UNet(bilinear=True), (3, 256, 256)),
    "espcn": Entry("ESPCN 3x", ESPCN, (1, 224, 224)),
    "edsr": Entry("EDSR baseline 2x", EDSR, (3, 96, 96)),
    "vit_tiny": Entry("ViT-Ti/16", ViTTiny, convolutional=False),
    "gru_classifier": Entry("GRU classifier", GRUClassifier, (98, 40), convolutional=False),
}


def make_network(name: str, *, size: int | None = None, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode, and one random input [1, *shape] for it.

    Args:
        size: height and width of the image, or length of the sequence, instead of the usual ones; for networks that
            are not built for one size.
        seed: of weights, batch norms and input.

    Raises:
        UnknownName: if the zoo has no such network.
    """
    if name not in ZOO:
        raise UnknownName(f"there is no network {name!r} in the zoo; known: {', '.join(ZOO)}")
    entry = ZOO[name]
    shape = entry.shape if size is None else resized(entry.shape, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = entry.build()
    randomise(model, shape, seed=seed)
    return model.eval(), torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed + 1))


def resized(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The shape of an image with other sides, or of a sequence of another length."""
    return (shape[0], size, size) if len(shape) == 3 else (size, shape[1])
