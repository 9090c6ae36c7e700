"""EfficientNet-B0 (Tan and Le, 1905.11946, table 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn


@dataclass(frozen=True)
class Stage:
    """One line of the paper's table."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel: int


STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


class SqueezeExcite(nn.Module):
    """Channels weighted by what their averages say."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.SiLU())
        self.excite = nn.Sequential(nn.Conv2d(squeezed, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.excite(self.squeeze(self.pool(x)))
        return x * weights


class MBConv(nn.Module):
    """Inverted residual with squeeze-and-excitation to a quarter of the block's inputs."""

    def __init__(self, inputs: int, outputs: int, stride: int, stage: Stage) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        expand = [conv_bn(inputs, hidden, activation=nn.SiLU)] if stage.expansion > 1 else []
        depthwise = conv_bn(hidden, hidden, stage.kernel, stride, groups=hidden, activation=nn.SiLU)
        excite = SqueezeExcite(hidden, max(1, inputs // 4))
        self.layers = nn.Sequential(*expand, depthwise, excite, conv_bn(hidden, outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class EfficientNetB0(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(
        self, classes: int = 1000, *, stem: int = 32, stages: tuple[Stage, ...] = STAGES, head: int = 1280
    ) -> None:
        super().__init__()
        self.stem = conv_bn(3, stem, 3, 2, activation=nn.SiLU)
        blocks: list[nn.Module] = []
        inputs = stem
        for stage in stages:
            for index in range(stage.blocks):
                blocks.append(MBConv(inputs, stage.channels, stage.stride if index == 0 else 1, stage))
                inputs = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = conv_bn(inputs, head, activation=nn.SiLU)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(head, classes))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.head(self.blocks(self.stem(x))))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
