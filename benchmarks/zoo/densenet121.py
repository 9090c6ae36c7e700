"""DenseNet-121 (Huang et al., 1608.06993, table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

BLOCKS = (6, 12, 24, 16)


def activated(inputs: int, outputs: int, kernel: int = 1) -> list[nn.Module]:
    """Batch norm, ReLU and a convolution."""
    return [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)]


class DenseLayer(nn.Module):
    """`growth` new channels, concatenated to those that there are."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*activated(inputs, 4 * growth), *activated(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


class DenseNet121(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]; `blocks` gives the layers of each dense block."""

    def __init__(self, classes: int = 1000, *, growth: int = 32, blocks: tuple[int, ...] = BLOCKS) -> None:
        super().__init__()
        inputs = 2 * growth
        self.stem = nn.Sequential(conv_bn(3, inputs, 7, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1))
        layers: list[nn.Module] = []
        for index, count in enumerate(blocks):
            for _ in range(count):
                layers.append(DenseLayer(inputs, growth))
                inputs += growth
            if index < len(blocks) - 1:
                layers.append(nn.Sequential(*activated(inputs, inputs // 2), nn.AvgPool2d(2)))
                inputs //= 2
        self.blocks = nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
