"""MobileNetV1 (Howard et al., 1704.04861, table 1)."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn

# channels at width 1, stride
ROWS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class MobileNetV1(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes: int = 1000, *, width: float = 1.0) -> None:
        super().__init__()
        inputs = int(32 * width)
        layers: list[nn.Module] = [conv_bn(3, inputs, 3, 2, activation=nn.ReLU)]
        for channels, stride in ROWS:
            outputs = int(channels * width)
            layers.append(conv_bn(inputs, inputs, 3, stride, groups=inputs, activation=nn.ReLU))
            layers.append(conv_bn(inputs, outputs, activation=nn.ReLU))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.features(x))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
