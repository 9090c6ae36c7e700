"""Block-row-column: within a block of a matrix rows and columns go together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.scheme import SCHEMES
from pruning.schemes.block_column import BlockColumn
from pruning.schemes.block_row import BlockRow
from pruning.schemes.blocks import MatrixBlockScheme
from pruning.schemes.weights import WeightScheme


@SCHEMES.add
@dataclass(frozen=True)
class BlockRowColumn(MatrixBlockScheme, WeightScheme):
    """In every block columns go first, then rows by the energy that is left, each at the square root of the rate.

    (BLK-REW, 2001.08357.) Each step is exact, both together need not be.
    """

    name: ClassVar[str] = "block_row_column"

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        root = math.sqrt(rate)
        rows, columns = self._rows.kept_groups(shape, root), self._columns.kept_groups(shape, root)
        down, across = self.blocks(shape)
        return rows // across * (columns // down)

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        energy, root = scores.reshape(tuple(shape)), math.sqrt(rate)
        columns = self._columns.best(energy, root)
        rows = self._rows.best(energy * columns, root)
        return (rows & columns).flatten()

    def cells(self, shape: Sequence[int]) -> None:
        return None

    @property
    def _rows(self) -> BlockRow:
        return BlockRow(self.height, self.width)

    @property
    def _columns(self) -> BlockColumn:
        return BlockColumn(self.height, self.width)
