"""MobileNetV3-large 1.0 (Howard et al., 1905.02244, table 1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn


@dataclass(frozen=True)
class Row:
    """One line of the paper's table."""

    kernel: int
    hidden: int
    outputs: int
    excite: bool
    activation: type[nn.Module]
    stride: int


RELU, SWISH = nn.ReLU, nn.Hardswish
ROWS = (
    Row(3, 16, 16, False, RELU, 1),
    Row(3, 64, 24, False, RELU, 2),
    Row(3, 72, 24, False, RELU, 1),
    Row(5, 72, 40, True, RELU, 2),
    Row(5, 120, 40, True, RELU, 1),
    Row(5, 120, 40, True, RELU, 1),
    Row(3, 240, 80, False, SWISH, 2),
    Row(3, 200, 80, False, SWISH, 1),
    Row(3, 184, 80, False, SWISH, 1),
    Row(3, 184, 80, False, SWISH, 1),
    Row(3, 480, 112, True, SWISH, 1),
    Row(3, 672, 112, True, SWISH, 1),
    Row(5, 672, 160, True, SWISH, 2),
    Row(5, 960, 160, True, SWISH, 1),
    Row(5, 960, 160, True, SWISH, 1),
)


def rounded(channels: float, multiple: int = 8) -> int:
    """The nearest multiple of 8 that loses at most a tenth, as in the authors' code."""
    nearest = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return nearest + multiple if nearest < 0.9 * channels else nearest


class SqueezeExcite(nn.Module):
    """Channels weighted by what their averages say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = rounded(channels / 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.ReLU())
        self.excite = nn.Sequential(nn.Conv2d(squeezed, channels, 1), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.excite(self.squeeze(self.pool(x)))
        return x * weights


class Block(nn.Module):
    """Inverted residual with squeeze-and-excitation before the projection."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        expand = [conv_bn(inputs, row.hidden, activation=row.activation)] if row.hidden != inputs else []
        depthwise = conv_bn(
            row.hidden, row.hidden, row.kernel, row.stride, groups=row.hidden, activation=row.activation
        )
        excite = [SqueezeExcite(row.hidden)] if row.excite else []
        self.layers = nn.Sequential(*expand, depthwise, *excite, conv_bn(row.hidden, row.outputs))
        self.shortcut = row.stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class MobileNetV3Large(nn.Module):
    """Images [N, 3, H, W] to logits [N, classes]."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, 2, activation=nn.Hardswish)
        widths = [16, *(row.outputs for row in ROWS)]
        self.blocks = nn.Sequential(*(Block(inputs, row) for inputs, row in zip(widths, ROWS, strict=False)))
        self.head = conv_bn(160, 960, activation=nn.Hardswish)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(960, 1280), nn.Hardswish(), nn.Linear(1280, classes))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.head(self.blocks(self.stem(x))))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits
