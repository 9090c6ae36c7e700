"""Block-punched: within a block of filters x channels every kernel loses the same positions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES, Scheme


@SCHEMES.add
@dataclass(frozen=True)
class BlockPunched(Scheme):
    """Blocks of `filters` x `channels` kernels; a group is one kernel position of one block (YOLObile, 2009.05697).

    Blocks at a ragged border have fewer filters or channels and still count as whole groups: they cost the
    kernel a full vector anyway. On 1x1 convolutions the groups are plain filters x channels tiles.
    """

    name: ClassVar[str] = "block_punched"
    filters: int
    channels: int

    def __post_init__(self) -> None:
        if self.filters < 1 or self.channels < 1:
            raise InvalidScheme(f"{self}: a block has at least 1 filter and 1 channel")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
        if match is None:
            raise InvalidScheme(f"{cls.name}({text}): write the block as filters x channels, such as {cls.name}(16x1)")
        return cls(int(match[1]), int(match[2]))

    def arguments(self) -> str:
        return f"{self.filters}x{self.channels}"

    def supports(self, shape: Sequence[int]) -> str | None:
        if len(shape) == 2:
            return "block-punched is for convolutions; a matrix has no kernel positions"
        return super().supports(shape)

    def group_count(self, shape: Sequence[int]) -> int:
        rows, columns = self._blocks(shape)
        return rows * columns * shape[2] * shape[3]

    def scores(self, weight: Tensor) -> Tensor:
        rows, columns = self._blocks(weight.shape)
        filters, channels, kh, kw = weight.shape
        padding = (0, 0, 0, 0, 0, columns * self.channels - channels, 0, rows * self.filters - filters)
        energy = F.pad(weight.double().square(), padding)
        return energy.reshape(rows, self.filters, columns, self.channels, kh, kw).sum((1, 3)).flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        rows, columns = self._blocks(shape)
        filters, channels, kh, kw = shape
        blocks = groups.reshape(rows, 1, columns, 1, kh, kw).expand(-1, self.filters, -1, self.channels, -1, -1)
        padded = blocks.reshape(rows * self.filters, columns * self.channels, kh, kw)
        return padded[:filters, :channels].contiguous()

    def _blocks(self, shape: Sequence[int]) -> tuple[int, int]:
        """Number of blocks along filters and along channels."""
        return -(-shape[0] // self.filters), -(-shape[1] // self.channels)
