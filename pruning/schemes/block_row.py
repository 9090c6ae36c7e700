"""Block-row: within a block of a matrix whole rows go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pruning.scheme import SCHEMES, kept
from pruning.schemes.blocks import MatrixBlockScheme
from pruning.schemes.cells import CellScheme, Grid


@SCHEMES.add
@dataclass(frozen=True)
class BlockRow(MatrixBlockScheme, CellScheme):
    """A group is one row of one block; every block keeps max(1, floor(h / rate + 1/2)) of its h rows.

    The "block-based" sparsity of fully connected layers (NPAS, 2012.00596).
    """

    name: ClassVar[str] = "block_row"

    def grid(self, shape: Sequence[int]) -> Grid:
        return Grid((shape[0], self.blocks(shape)[1]), 0, self.height)

    def quota(self, size: int, rate: float) -> int:
        return kept(size, rate)

    def group_count(self, shape: Sequence[int]) -> int:
        return shape[0] * self.blocks(shape)[1]

    def totals(self, values: Tensor) -> Tensor:
        rows, columns = values.shape[:2]
        across = self.blocks(values.shape)[1]
        padded = F.pad(values.reshape(rows, columns), (0, across * self.width - columns))
        return padded.reshape(rows, across, self.width).sum(2).flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        pieces = groups.reshape(shape[0], -1).repeat_interleave(self.width, 1)
        return pieces[:, : shape[1]].reshape(tuple(shape))
