"""Stem, head and classifier of a supernet: what every candidate has, whatever fills its sites."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from supernet.chain import Frame


class SharedFrame(nn.Module):
    """Two sets of weights, one for the smallest and one for the largest candidate, and what lies between them.

    At its sites a small candidate has operators and masks that a large one has not; stem, head and classifier it would
    share with all, and of the smallest they are nearly everything. Here those of each candidate are a convex
    combination of two sets, by its size (K-shot NAS, 2106.06442, with K = 2 and a coefficient that is not learned).
    Both sets start alike, and batch norm has one set of statistics.

    Args:
        frame: channels and classes.
        features: channels that the last site gives.
    """

    def __init__(self, frame: Frame, features: int) -> None:
        super().__init__()
        self.largest = nn.ModuleDict(
            {
                "stem": _convolution(frame.in_channels, frame.stem_channels, kernel=3),
                "head": _convolution(features, frame.head_channels, kernel=1),
                "classifier": nn.Linear(frame.head_channels, frame.classes),
            }
        )
        self.smallest = copy.deepcopy(self.largest)
        for module in self.smallest.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def at(self, size: float) -> dict[str, Tensor]:
        """Parameters and buffers, by the names that they have in a `Network`.

        Args:
            size: 0 gives the set of the smallest candidate, 1 that of the largest.
        """
        buffers = dict(self.largest.named_buffers())
        small, large = dict(self.smallest.named_parameters()), dict(self.largest.named_parameters())
        if size in (0, 1):
            return buffers | (large if size else small)
        return buffers | {name: torch.lerp(small[name], weight, size) for name, weight in large.items()}


def _convolution(in_channels: int, out_channels: int, *, kernel: int) -> nn.ModuleDict:
    conv = nn.Conv2d(in_channels, out_channels, kernel, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return nn.ModuleDict({"conv1": conv, "bn1": nn.BatchNorm2d(out_channels)})
