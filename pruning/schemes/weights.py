"""What schemes without larger groups share: every weight is a group of its own."""

import math
from collections.abc import Sequence

from torch import Tensor

from pruning.scheme import Scheme


class WeightScheme(Scheme):
    """The groups are the single weights; which of them may stay together is up to `select`."""

    def group_count(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def totals(self, values: Tensor) -> Tensor:
        return values.flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return groups.reshape(tuple(shape))
