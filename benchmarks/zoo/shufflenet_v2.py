"""ShuffleNetV2 1.0x (Ma et al., 1807.11164, table 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

STAGES = ((116, 4), (232, 8), (464, 4))


def branch(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Depthwise and 1x1 convolution."""
    return [conv_bn(inputs, inputs, 3, stride, groups=inputs), conv_bn(inputs, outputs, activation=nn.ReLU)]


class ShuffleUnit(nn.Module):
    """Half of the channels goes through three convolutions; halves are concatenated and shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.layers = nn.Sequential(conv_bn(half, half, activation=nn.ReLU), *branch(half, half, 1))
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        y: Tensor = self.shuffle(torch.cat([kept, self.layers(changed)], 1))
        return y


class ShuffleDown(nn.Module):
    """Both branches take all channels at stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.shortcut = nn.Sequential(*branch(inputs, half, 2))
        self.layers = nn.Sequential(conv_bn(inputs, half, activation=nn.ReLU), *branch(half, half, 2))
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shuffle(torch.cat([self.shortcut(x), self.layers(x)], 1))
        return y


class ShuffleNetV2(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]; `stages` gives (channels, units) each."""

    def __init__(
        self, classes: int = 1000, *, stem: int = 24, stages: tuple[tuple[int, int], ...] = STAGES, head: int = 1024
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, stem, 3, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1))
        units: list[nn.Module] = []
        inputs = stem
        for channels, count in stages:
            units += [ShuffleDown(inputs, channels), *(ShuffleUnit(channels) for _ in range(count - 1))]
            inputs = channels
        self.units = nn.Sequential(*units)
        self.head = conv_bn(inputs, head, activation=nn.ReLU)
        self.classifier = nn.Linear(head, classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.head(self.units(self.stem(x)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits
