"""U-Net (Ronneberger et al., 1505.04597, figure 1) with padding and batch norms, as it is used today."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn


def double(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    return nn.Sequential(
        conv_bn(inputs, middle, 3, activation=nn.ReLU), conv_bn(middle, outputs, 3, activation=nn.ReLU)
    )


class Up(nn.Module):
    """Twice the size, concatenated with what the way down had at that size.

    Doubled by a transposed convolution, or bilinearly: the way down then ends in half as many channels.
    """

    def __init__(self, inputs: int, outputs: int, *, bilinear: bool) -> None:
        super().__init__()
        if bilinear:
            self.up: nn.Module = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            self.layers = double(inputs, inputs // 2, outputs)
        else:
            self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)
            self.layers = double(inputs, outputs, outputs)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        y: Tensor = self.layers(torch.cat([skipped, self.up(x)], 1))
        return y


class UNet(nn.Module):
    """Images [N, 3, H, W], sides multiples of 2 ** depth, to logits of each pixel [N, classes, H, W]."""

    def __init__(self, classes: int = 2, *, width: int = 64, depth: int = 4, bilinear: bool = False) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        if bilinear:
            widths[-1] //= 2
        self.first = double(3, width, width)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(double(widths[level], out, out) for level, out in enumerate(widths[1:]))
        ups = []
        for level in reversed(range(depth)):
            inputs = width * 2 ** (level + 1)
            outputs = inputs // 4 if bilinear and level else inputs // 2
            ups.append(Up(inputs, outputs, bilinear=bilinear))
        self.up = nn.ModuleList(ups)
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        skipped = []
        for layers in self.down:
            skipped.append(x)
            x = layers(self.pool(x))
        for layers, before in zip(self.up, reversed(skipped), strict=True):
            x = layers(x, before)
        logits: Tensor = self.last(x)
        return logits
