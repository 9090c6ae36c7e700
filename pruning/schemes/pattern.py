"""Pattern: kept 3x3 kernels hold four positions of a small library, and whole kernels may go (PCONV, 1909.05073)."""

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES
from pruning.schemes.connectivity import PER_PATTERN, POSITIONS, PatternScheme, as_masks

__all__ = ["LIBRARY", "POSITIONS", "Pattern"]

LIBRARY = (
    *((4, 5, 7, 8), (3, 4, 6, 7), (1, 2, 4, 5), (0, 1, 3, 4)),
    *((1, 3, 4, 5), (3, 4, 5, 7), (1, 4, 5, 7), (1, 3, 4, 7)),
)
"""Four corners and four T shapes around the centre; position = 3 * row + column."""


@SCHEMES.add
@dataclass(frozen=True)
class Pattern(PatternScheme):
    """Patterns of `LIBRARY` with connectivity: pattern(4), or pattern(4, share=16); 4 is the size of a pattern."""

    name: ClassVar[str] = "pattern"

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(rf"{PER_PATTERN}(?:, *share=([0-9]+))?", text)
        if match is None:
            raise InvalidScheme(f"{cls.name}({text}): write {cls.name}(4) or {cls.name}(4, share=16)")
        return cls(int(match[1] or 1))

    def arguments(self) -> str:
        return f"{PER_PATTERN}" if self.share == 1 else f"{PER_PATTERN}, share={self.share}"

    def library(self, cells: Tensor) -> Tensor:
        return as_masks(LIBRARY).to(cells.device)
