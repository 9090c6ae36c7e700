"""ResNet-50 (He et al., 1512.03385, table 1), with the stride in the 3x3 convolution."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions to four times the width, beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.reduce = conv_bn(inputs, width, activation=nn.ReLU)
        self.filter = conv_bn(width, width, 3, stride, activation=nn.ReLU)
        self.expand = conv_bn(width, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.expand(self.filter(self.reduce(x))) + self.shortcut(x))
        return y


class ResNet50(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 64, 7, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        inputs = 64
        for stage, (width, count) in enumerate(STAGES):
            for index in range(count):
                blocks.append(Bottleneck(inputs, width, 2 if stage > 0 and index == 0 else 1))
                inputs = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
