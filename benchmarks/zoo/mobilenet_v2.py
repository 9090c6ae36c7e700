"""MobileNetV2 1.0 (Sandler et al., 1801.04381, table 2)."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

# expansion, channels, blocks, stride of the first
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to the input where the shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [conv_bn(inputs, hidden, activation=nn.ReLU6)] if expansion > 1 else []
        depthwise = conv_bn(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6)
        self.layers = nn.Sequential(*expand, depthwise, conv_bn(hidden, outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = conv_bn(3, 32, 3, 2, activation=nn.ReLU6)
        blocks: list[nn.Module] = []
        width = 32
        for expansion, channels, count, stride in STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(width, channels, stride if index == 0 else 1, expansion))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_bn(width, 1280, activation=nn.ReLU6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.head(self.blocks(self.stem(x))))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
