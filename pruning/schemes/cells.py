"""What schemes with a quota share: each cell of consecutive groups keeps its own best."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.scheme import Scheme
from pruning.selection import largest_in_cells


@dataclass(frozen=True)
class Grid:
    """The groups in an array of `shape`, cut into cells of `cell` consecutive groups along `axis`.

    The last cell of a run may be smaller.
    """

    shape: tuple[int, ...]
    axis: int
    cell: int


class CellScheme(Scheme):
    """Keeps the quota(n) best groups of each cell of n groups, so that all cells mean equal work."""

    @abstractmethod
    def grid(self, shape: Sequence[int]) -> Grid:
        """How the groups of a weight of `shape` lie in cells."""

    @abstractmethod
    def quota(self, size: int, rate: float) -> int:
        """Number of groups that stay in a cell of `size`, for a rate above 1."""

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        grid = self.grid(shape)
        count = math.prod(grid.shape)
        if rate == 1:
            return count
        whole, tail = divmod(grid.shape[grid.axis], grid.cell)
        in_a_run = whole * self.quota(grid.cell, rate) + (self.quota(tail, rate) if tail else 0)
        return count // grid.shape[grid.axis] * in_a_run

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        grid = self.grid(shape)
        kept = largest_in_cells(scores.reshape(grid.shape), grid.axis, grid.cell, lambda size: self.quota(size, rate))
        return kept.flatten()

    def cells(self, shape: Sequence[int]) -> Tensor | None:
        grid = self.grid(shape)
        along = torch.arange(grid.shape[grid.axis]) // grid.cell
        cells = list(grid.shape)
        cells[grid.axis] = int(along[-1]) + 1
        numbers = torch.arange(math.prod(cells)).reshape(cells)
        return numbers.index_select(grid.axis, along).flatten()
