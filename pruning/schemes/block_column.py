"""Block-column: within a block of a matrix whole columns go."""

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
class BlockColumn(MatrixBlockScheme, CellScheme):
    """A group is one column of one block; every block keeps max(1, floor(w / rate + 1/2)) of its w columns.

    The "block-based" sparsity of fully connected layers (NPAS, 2012.00596).
    """

    name: ClassVar[str] = "block_column"

    def grid(self, shape: Sequence[int]) -> Grid:
        return Grid((self.blocks(shape)[0], shape[1]), 1, self.width)

    def quota(self, size: int, rate: float) -> int:
        return kept(size, rate)

    def group_count(self, shape: Sequence[int]) -> int:
        return self.blocks(shape)[0] * shape[1]

    def totals(self, values: Tensor) -> Tensor:
        rows, columns = values.shape[:2]
        down = self.blocks(values.shape)[0]
        padded = F.pad(values.reshape(rows, columns), (0, 0, 0, down * self.height - rows))
        return padded.reshape(down, self.height, columns).sum(1).flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        pieces = groups.reshape(-1, shape[1]).repeat_interleave(self.height, 0)
        return pieces[: shape[0]].reshape(tuple(shape))
