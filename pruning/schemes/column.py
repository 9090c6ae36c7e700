"""Column: one position of one input channel goes from all filters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.scheme import SCHEMES, Scheme


@SCHEMES.add
@dataclass(frozen=True)
class Column(Scheme):
    """Keeps the columns of the GEMM view [O, I kh kw] of largest energy, shape-wise sparsity (1608.03665).

    It runs as a dense product of fewer rows of the unfolded input.
    """

    name: ClassVar[str] = "column"

    def group_count(self, shape: Sequence[int]) -> int:
        return math.prod(shape[1:])

    def totals(self, values: Tensor) -> Tensor:
        return values.flatten(1).sum(0)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return groups.reshape(1, *shape[1:]).expand(tuple(shape)).contiguous()
