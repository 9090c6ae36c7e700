"""ResNets for 32x32 images (He et al., 1512.03385, section 4.2): depth 6n + 2, shortcuts without parameters."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.convolution import conv_bn


class OptionA(nn.Module):
    """Every other pixel, the new channels zero, half of them before and half behind."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.before = added // 2
        self.behind = added - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.behind))


class CifarBlock(nn.Module):
    """Two 3x3 convolutions beside an option-A shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, 3, stride, activation=nn.ReLU)
        self.second = conv_bn(outputs, outputs, 3)
        self.shortcut = OptionA(outputs - inputs) if stride > 1 else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.second(self.first(x)) + self.shortcut(x))
        return y


class CifarResNet(nn.Module):
    """Images [N, 3, 32, 32] to logits [N, classes]; three stages of `blocks` blocks."""

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, activation=nn.ReLU)
        layers: list[nn.Module] = []
        width = 16
        for stage, channels in enumerate((16, 32, 64)):
            for index in range(blocks):
                layers.append(CifarBlock(width, channels, 2 if stage > 0 and index == 0 else 1))
                width = channels
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.pool(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(features.flatten(1))
        return logits


def cifar_resnet(depth: int) -> CifarResNet:
    """The network of `depth` = 6n + 2 layers, such as 20 or 56."""
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth {depth} is not 6n + 2; choose 20, 32, 44, 56 or 110")
    return CifarResNet(blocks)
