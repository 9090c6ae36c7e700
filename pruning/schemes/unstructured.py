"""Unstructured: every weight is its own group. The accuracy reference, little speed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.scheme import SCHEMES, Scheme


@SCHEMES.add
@dataclass(frozen=True)
class Unstructured(Scheme):
    """Keeps the weights of largest magnitude."""

    name: ClassVar[str] = "unstructured"

    def group_count(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def scores(self, weight: Tensor) -> Tensor:
        return weight.double().square().flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return groups.reshape(tuple(shape))
