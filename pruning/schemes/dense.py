"""Dense: the whole weight is one group, and it stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pruning.errors import InvalidRate
from pruning.scheme import SCHEMES, Scheme


@SCHEMES.add
@dataclass(frozen=True)
class Dense(Scheme):
    """Keeps every weight; rate 1 only."""

    name: ClassVar[str] = "dense"

    def supports(self, shape: Sequence[int]) -> str | None:
        return None

    def check(self, shape: Sequence[int], rate: float) -> None:
        super().check(shape, rate)
        if rate != 1:
            raise InvalidRate(f"dense at rate {rate:g}: dense keeps every weight; use rate 1 or another scheme")

    def group_count(self, shape: Sequence[int]) -> int:
        return 1

    def totals(self, values: Tensor) -> Tensor:
        return values.sum().reshape(1)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return groups.expand(tuple(shape)).contiguous()
