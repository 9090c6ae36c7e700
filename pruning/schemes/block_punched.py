"""Block-punched: within a block of filters x channels every kernel loses the same positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pruning.scheme import SCHEMES
from pruning.schemes.blocks import BlockScheme


@SCHEMES.add
@dataclass(frozen=True)
class BlockPunched(BlockScheme):
    """Blocks of filters x channels of kernels; a group is one kernel position of one block (YOLObile, 2009.05697).

    Blocks at a ragged border have fewer filters or channels and still count as whole groups: they cost the
    kernel a full vector anyway. On 1x1 convolutions the groups are plain filters x channels tiles.
    """

    name: ClassVar[str] = "block_punched"

    def supports(self, shape: Sequence[int]) -> str | None:
        if len(shape) == 2:
            return f"{self.name} is for convolutions; a matrix has no kernel positions, use block for tiles"
        return super().supports(shape)

    def group_count(self, shape: Sequence[int]) -> int:
        down, across = self.blocks(shape)
        return down * across * shape[2] * shape[3]

    def totals(self, values: Tensor) -> Tensor:
        if self.height == self.width == 1:
            return values.flatten()
        down, across = self.blocks(values.shape)
        filters, channels, kh, kw = values.shape
        border = (0, 0, 0, 0, 0, across * self.width - channels, 0, down * self.height - filters)
        padded = F.pad(values, border) if any(border) else values
        strips = padded.reshape(down, self.height, -1).sum(1)
        return strips.reshape(down, across, self.width, kh, kw).sum(2).flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        down, across = self.blocks(shape)
        filters, channels, kh, kw = shape
        blocks = groups.reshape(down, 1, across, 1, kh, kw).expand(-1, self.height, -1, self.width, -1, -1)
        padded = blocks.reshape(down * self.height, across * self.width, kh, kw)
        return padded[:filters, :channels].contiguous()
