"""GoogLeNet (Szegedy et al., 1409.4842, table 1) with batch norms, without the auxiliary classifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

# 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; behind the pooling. A stage ends with a pooling.
Row = tuple[int, int, int, int, int, int]
STAGES: tuple[tuple[Row, ...], ...] = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


class Inception(nn.Module):
    """Four branches, concatenated."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        point, reduced3, window3, reduced5, window5, pooled = row
        relu = nn.ReLU
        self.point = conv_bn(inputs, point, activation=relu)
        self.window3 = nn.Sequential(
            conv_bn(inputs, reduced3, activation=relu), conv_bn(reduced3, window3, 3, activation=relu)
        )
        self.window5 = nn.Sequential(
            conv_bn(inputs, reduced5, activation=relu), conv_bn(reduced5, window5, 5, activation=relu)
        )
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(inputs, pooled, activation=relu))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.point(x), self.window3(x), self.window5(x), self.pooled(x)], 1)


class GoogLeNet(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(
        self, classes: int = 1000, *, stem: tuple[int, int] = (64, 192), stages: tuple[tuple[Row, ...], ...] = STAGES
    ) -> None:
        super().__init__()
        first, inputs = stem
        layers: list[nn.Module] = [
            *(conv_bn(3, first, 7, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, ceil_mode=True)),
            *(conv_bn(first, first, activation=nn.ReLU), conv_bn(first, inputs, 3, activation=nn.ReLU)),
        ]
        for rows in stages:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            for row in rows:
                layers.append(Inception(inputs, row))
                inputs = row[0] + row[2] + row[4] + row[5]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.4), nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(x))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
