"""Block: tiles of a matrix, or of the matrix that a convolution has at each kernel position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.scheme import SCHEMES, Scheme
from pruning.schemes.block_punched import BlockPunched
from pruning.schemes.blocks import BlockScheme


@SCHEMES.add
@dataclass(frozen=True)
class Block(BlockScheme):
    """Tiles of height x width weights, as of a BSR matrix; on convolutions the same as block-punched.

    Tiles restart at every kernel position, so that none straddles two. A tile at a ragged border is smaller and
    still counts as a whole group.
    """

    name: ClassVar[str] = "block"
    sides: ClassVar[str] = "rows x columns"

    def group_count(self, shape: Sequence[int]) -> int:
        return self._tiles.group_count(_with_kernel(shape))

    def totals(self, values: Tensor) -> Tensor:
        return self._tiles.totals(values.reshape(_with_kernel(values.shape)))

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return self._tiles.expand(groups, _with_kernel(shape)).reshape(tuple(shape))

    @property
    def _tiles(self) -> Scheme:
        return BlockPunched(self.height, self.width)


def _with_kernel(shape: Sequence[int]) -> tuple[int, ...]:
    """A matrix is a 1x1 convolution."""
    return (*shape, 1, 1)[:4]
