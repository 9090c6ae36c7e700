"""Pattern: kept 3x3 kernels hold four positions of a small library, and whole kernels may go (PCONV, 1909.05073)."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES, Scheme
from pruning.schemes.block_punched import BlockPunched
from pruning.selection import largest_in_rows

POSITIONS = 9
LIBRARY = (
    *((4, 5, 7, 8), (3, 4, 6, 7), (1, 2, 4, 5), (0, 1, 3, 4)),
    *((1, 3, 4, 5), (3, 4, 5, 7), (1, 4, 5, 7), (1, 3, 4, 7)),
)
"""Four corners and four T shapes around the centre; position = 3 * row + column."""


@SCHEMES.add
@dataclass(frozen=True)
class Pattern(Scheme):
    """Patterns with connectivity, projected jointly: pattern(4), or pattern(4, share=16).

    A cell is the kernel of one channel in `share` consecutive filters, which have one pattern in common. The pattern
    of a cell is the one of `LIBRARY` that retains most energy; every block of filters keeps equally many cells, those
    of largest retained energy. Patterns alone are rate 2.25, which is the least there is; beyond it a block keeps
    max(1, floor(9 I / (4 rate) + 1/2)) of its I cells. Exact, because energy adds over cells.
    """

    name: ClassVar[str] = "pattern"
    positions: int = 4
    share: int = 1

    def __post_init__(self) -> None:
        if self.positions != 4 or self.share < 1:
            raise InvalidScheme(f"{self}: patterns have 4 positions and are shared by at least 1 filter")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+)(?:, *share=([0-9]+))?", text)
        if match is None:
            raise InvalidScheme(f"{cls.name}({text}): write {cls.name}(4) or {cls.name}(4, share=16)")
        return cls(int(match[1]), int(match[2] or 1))

    def arguments(self) -> str:
        return f"{self.positions}" if self.share == 1 else f"{self.positions}, share={self.share}"

    def supports(self, shape: Sequence[int]) -> str | None:
        if len(shape) != 4 or tuple(shape[2:]) != (3, 3):
            return "a pattern is a choice of positions in a 3x3 kernel"
        return self._cells.supports(shape)

    def group_count(self, shape: Sequence[int]) -> int:
        return self._cells.group_count(shape)

    def scores(self, weight: Tensor) -> Tensor:
        return self._cells.scores(weight)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return self._cells.expand(groups, shape)

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        if rate == 1:
            return self.group_count(shape)
        return -(-shape[0] // self.share) * self._kept_cells(shape, rate) * self.positions

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        cells = scores.reshape(-1, shape[1], POSITIONS)
        library = torch.tensor(LIBRARY, device=scores.device)
        energy, best = cells[..., library].sum(3).max(2)
        kept = largest_in_rows(energy, self._kept_cells(shape, rate))
        patterns = torch.zeros_like(cells, dtype=torch.bool).scatter_(2, library[best], True)
        return (patterns & kept.unsqueeze(2)).flatten()

    @property
    def _cells(self) -> BlockPunched:
        """The partition into positions of cells."""
        return BlockPunched(self.share, 1)

    def _kept_cells(self, shape: Sequence[int], rate: float) -> int:
        """Cells that stay in every block of filters."""
        wanted = math.floor(POSITIONS * shape[1] / (self.positions * rate) + 0.5)
        return min(shape[1], max(1, wanted))
