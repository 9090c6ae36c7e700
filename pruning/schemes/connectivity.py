"""What schemes of patterns share: each kept 3x3 kernel has one of a library, and whole kernels may go."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import Scheme
from pruning.schemes.block_punched import BlockPunched
from pruning.schemes.library import closest
from pruning.selection import largest_along

POSITIONS = 9
PER_PATTERN = 4


@dataclass(frozen=True)
class PatternScheme(Scheme):
    """Patterns of four positions with connectivity, projected jointly.

    A cell is the kernel of one channel in `share` consecutive filters, which have one pattern in common. The pattern
    of a cell is the one of the library that retains most energy; every block of filters keeps equally many cells,
    those of largest retained energy. Patterns alone are rate 2.25, which is the least there is; beyond it a block
    keeps max(1, floor(9 I / (4 rate) + 1/2)) of its I cells. Exact, because energy adds over cells.
    """

    share: int = 1

    def __post_init__(self) -> None:
        if self.share < 1:
            raise InvalidScheme(f"{self}: a pattern is shared by at least 1 filter")

    @abstractmethod
    def library(self, cells: Tensor) -> Tensor:
        """The patterns, bool [patterns, positions], for the energies of cells [positions, cells]."""

    def supports(self, shape: Sequence[int]) -> str | None:
        if len(shape) != 4 or tuple(shape[2:]) != (3, 3):
            return "a pattern is a choice of positions in a 3x3 kernel"
        return self._strips.supports(shape)

    def group_count(self, shape: Sequence[int]) -> int:
        return self._strips.group_count(shape)

    def totals(self, values: Tensor) -> Tensor:
        return self._strips.totals(values)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return self._strips.expand(groups, shape)

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        if rate == 1:
            return self.group_count(shape)
        return -(-shape[0] // self.share) * self._kept_cells(shape, rate) * PER_PATTERN

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        cells = scores.reshape(-1, POSITIONS).T.contiguous()
        energy, patterns = closest(cells, self.library(cells))
        kept = largest_along(energy.reshape(-1, shape[1]), 1, self._kept_cells(shape, rate))
        return (patterns & kept.reshape(-1, 1)).flatten()

    def cells(self, shape: Sequence[int]) -> None:
        return None

    @property
    def _strips(self) -> BlockPunched:
        """The partition into positions of cells."""
        return BlockPunched(self.share, 1)

    def _kept_cells(self, shape: Sequence[int], rate: float) -> int:
        """Cells that stay in every block of filters."""
        wanted = math.floor(POSITIONS * shape[1] / (PER_PATTERN * rate) + 0.5)
        return min(shape[1], max(1, wanted))


def as_masks(patterns: Sequence[Sequence[int]]) -> Tensor:
    """Positions of each pattern -> bool [patterns, positions]."""
    masks = torch.zeros(len(patterns), POSITIONS, dtype=torch.bool)
    return masks.scatter_(1, torch.tensor(patterns), True)
