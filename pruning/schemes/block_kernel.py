"""Block-kernel: whole kernels are removed in blocks of filters x channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.scheme import SCHEMES
from pruning.schemes.block_punched import BlockPunched


@SCHEMES.add
@dataclass(frozen=True)
class BlockKernel(BlockPunched):
    """Blocks of filters x channels of kernels; a group is a block with all its kernel positions.

    A removed kernel stays zero under the weight transform of Winograd convolution, so that the gains of Winograd and
    of pruning multiply. On 1x1 convolutions it is the same as block-punched.
    """

    name: ClassVar[str] = "block_kernel"

    def group_count(self, shape: Sequence[int]) -> int:
        down, across = self.blocks(shape)
        return down * across

    def totals(self, values: Tensor) -> Tensor:
        positions = values.shape[2] * values.shape[3]
        return super().totals(values).reshape(-1, positions).sum(1)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return super().expand(groups.repeat_interleave(shape[2] * shape[3]), shape)
