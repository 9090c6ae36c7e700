"""What schemes with a block as their argument share: its text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pruning.errors import InvalidScheme
from pruning.scheme import Scheme


@dataclass(frozen=True)
class BlockScheme(Scheme):
    """Blocks of `height` x `width`: filters x channels of a convolution, rows x columns of a matrix.

    Blocks at a ragged border are smaller.
    """

    height: int
    width: int
    sides: ClassVar[str] = "filters x channels"
    """What a block's sides count, in words."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InvalidScheme(f"{self}: a block ({self.sides}) is at least 1x1")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
        if match is None:
            raise InvalidScheme(f"{cls.name}({text}): write the block as {cls.sides}, such as {cls.name}(16x4)")
        return cls(int(match[1]), int(match[2]))

    def arguments(self) -> str:
        return f"{self.height}x{self.width}"

    def blocks(self, shape: Sequence[int]) -> tuple[int, int]:
        """Number of blocks down and across."""
        return -(-shape[0] // self.height), -(-shape[1] // self.width)


@dataclass(frozen=True)
class MatrixBlockScheme(BlockScheme):
    """Blocks of a matrix [R, C]; a 1x1 convolution is one."""

    sides: ClassVar[str] = "rows x columns"

    def supports(self, shape: Sequence[int]) -> str | None:
        if any(extent > 1 for extent in shape[2:]):
            return f"{self.name} is for matrices and 1x1 convolutions; use block_punched for larger kernels"
        return super().supports(shape)
