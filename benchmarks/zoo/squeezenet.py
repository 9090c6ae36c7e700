"""SqueezeNet 1.1 (Iandola et al., 1602.07360, and the authors' second version)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# squeezed channels of the fire modules between two poolings; each expands to eight times as many
STAGES = ((16, 16), (32, 32), (48, 48, 64, 64))


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, and two beside each other that expand, concatenated."""

    def __init__(self, inputs: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.point = nn.Sequential(nn.Conv2d(squeezed, 4 * squeezed, 1), nn.ReLU())
        self.window = nn.Sequential(nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.squeeze(x)
        return torch.cat([self.point(y), self.window(y)], 1)


class SqueezeNet(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes: int = 1000, *, width: float = 1.0) -> None:
        super().__init__()
        inputs = int(64 * width)
        layers: list[nn.Module] = [nn.Conv2d(3, inputs, 3, 2), nn.ReLU()]
        for stage in STAGES:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            for channels in stage:
                squeezed = int(channels * width)
                layers.append(Fire(inputs, squeezed))
                inputs = 8 * squeezed
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(inputs, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x))
        return logits.flatten(1)
