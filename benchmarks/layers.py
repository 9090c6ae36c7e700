"""The single layers of the comparison, each inside a network in which no runtime has to reorder data for it.

A runtime that is called on one layer converts its layout twice, which inside a network it does not. So a layer is
timed as the difference between a network that holds it often and one that holds it seldom, divided by the difference
in number: what stands at the ends cancels. It does so only if the caches hold the same at both ends. Depthwise layers
take so little that this decides: 384 channels at 14x14 were found to take 22 microseconds with two and six of them in
networks that ran a few times in turn, where they take 6 in any longer network that runs on.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.errors import UnknownName
from pruning import Sparsity, project

FEW_AND_MANY, OF_DEPTHWISE = (2, 6), (6, 14)


@dataclass(frozen=True)
class Layer:
    """A convolution with bias and ReLU.

    Attributes:
        name: `family channels@size`; with `<>` a layer and its mirror image alternate, and both are pruned.
        family: key of `FAMILIES`: the bars are means over a family.
        kernel: height and width.
        stride: 1 or 2.
        depthwise: one filter a channel.
    """

    name: str
    family: str
    inputs: int
    outputs: int
    size: int
    kernel: int
    stride: int = 1
    depthwise: bool = False

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """[O, I, kh, kw]."""
        return self.outputs, 1 if self.depthwise else self.inputs, self.kernel, self.kernel

    @property
    def flops(self) -> int:
        """Twice the dense multiply-accumulates of one image."""
        outputs, inputs, height, width = self.weight_shape
        return 2 * outputs * inputs * height * width * (self.size // self.stride) ** 2

    @property
    def counts(self) -> tuple[int, int]:
        """How often the two networks hold it."""
        return OF_DEPTHWISE if self.depthwise else FEW_AND_MANY

    @property
    def winograd(self) -> bool:
        """Whether Winograd's method applies."""
        return self.kernel == 3 and self.stride == 1 and not self.depthwise


def _layers(family: str, shapes: list[tuple[int, int, int]], kernel: int, stride: int = 1) -> list[Layer]:
    arrow, depthwise = ">" if stride > 1 else "<>", family.startswith("depthwise")
    layers = []
    for inputs, outputs, size in shapes:
        channels = f"{inputs}" if inputs == outputs else f"{inputs}{arrow}{outputs}"
        layers.append(Layer(f"{family} {channels}@{size}", family, inputs, outputs, size, kernel, stride, depthwise))
    return layers


FAMILIES: dict[str, str] = {
    "3x3": "3x3, stride 1",
    "1x1": "1x1",
    "3x3s2": "3x3, stride 2",
    "depthwise": "depthwise 3x3, stride 1",
    "depthwise-s2": "depthwise 3x3, stride 2",
}

LAYERS: dict[str, Layer] = {
    layer.name: layer
    for layer in (
        *_layers("3x3", [(64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7)], 3),
        *_layers("1x1", [(576, 96, 14), (256, 64, 56)], 1),
        *_layers("3x3s2", [(64, 128, 56), (128, 256, 28), (256, 512, 14)], 3, 2),
        *_layers("depthwise", [(144, 144, 56), (192, 192, 28), (384, 384, 14), (960, 960, 7)], 3),
        *_layers("depthwise-s2", [(144, 144, 56), (192, 192, 28), (576, 576, 14)], 3, 2),
    )
}


def find_layers(names: list[str]) -> list[Layer]:
    """The layers of these names or families.

    Raises:
        UnknownName: if there is none of a name.
    """
    found: list[Layer] = []
    for name in names:
        matching = [layer for layer in LAYERS.values() if name in (layer.name, layer.family)]
        if not matching:
            raise UnknownName(f"there is no layer {name!r}; known: {', '.join([*FAMILIES, *LAYERS])}")
        found += matching
    return found


class Surroundings(nn.Module, ABC):
    """A network that holds a layer several times; `copies` are its convolutions, all to be pruned alike."""

    def __init__(self, copies: Iterable[nn.Conv2d]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.relu = nn.ReLU()

    def prune(self, sparsity: Sparsity) -> float:
        """Prune the copies in place by magnitude and keep the size of their outputs; returns the rate reached."""
        before = after = 0
        with torch.no_grad():
            for conv in self.copies:
                assert isinstance(conv, nn.Conv2d)
                mask = project(conv.weight, sparsity)
                before, after = before + mask.numel(), after + int(mask.sum())
                norm = conv.weight.norm()
                conv.weight.mul_(mask)
                conv.weight.mul_(norm / conv.weight.norm())
        return before / after


class Chain(Surroundings):
    """One after the other; where the channels differ, the layer and its mirror image alternate."""

    def __init__(self, layer: Layer, count: int) -> None:
        both = (layer, replace(layer, inputs=layer.outputs, outputs=layer.inputs))
        super().__init__(_convolution(both[index % 2]) for index in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.copies:
            x = self.relu(conv(x))
        return x


class Branches(Surroundings):
    """Side by side on the output of one convolution, summed: for strides.

    The sums are over tensors of the outputs' size, and every runtime has to compute them; most fuse them.
    """

    def __init__(self, layer: Layer, count: int) -> None:
        super().__init__(_convolution(layer) for _ in range(count))
        self.stem = nn.Conv2d(layer.inputs, layer.inputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        first, *others = self.copies
        total: Tensor = self.relu(first(x))
        for conv in others:
            total = self.relu(conv(x) + total)
        return total


def _convolution(layer: Layer) -> nn.Conv2d:
    groups = layer.inputs if layer.depthwise else 1
    padding = layer.kernel // 2
    return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, layer.stride, padding, groups=groups)


def surroundings(layer: Layer, count: int, *, seed: int = 0) -> tuple[Surroundings, Tensor]:
    """A network with `count` copies of `layer`, and an image for it."""
    network: Surroundings = (Branches if layer.stride > 1 else Chain)(layer, count)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
                assert module.bias is not None
                module.bias.normal_(0, 0.1, generator=generator)
    return network.eval(), torch.randn(1, layer.inputs, layer.size, layer.size, generator=generator)
