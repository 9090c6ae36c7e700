"""What filter and channel pruning share: whole slices along one axis, in multiples of an alignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import Scheme, kept


@dataclass(frozen=True)
class AxisScheme(Scheme):
    """Groups are the slices along `axis`; the kept count is rounded up to a multiple of `align`, at most all.

    `align` = 1 is for accuracy studies; the vector width of the device keeps the shrunken layer fast.
    """

    axis: ClassVar[int]
    align: int = 1

    def __post_init__(self) -> None:
        if self.align < 1:
            raise InvalidScheme(f"{self.name}({self.align}): the alignment is a whole number >= 1")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        if not text:
            return cls()
        if not text.isdecimal():
            raise InvalidScheme(f"{cls.name}({text}): write {cls.name} or {cls.name}(alignment), such as {cls.name}(8)")
        return cls(int(text))

    def arguments(self) -> str:
        return "" if self.align == 1 else str(self.align)

    def group_count(self, shape: Sequence[int]) -> int:
        return shape[self.axis]

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        count = self.group_count(shape)
        return min(count, self.align * -(-kept(count, rate) // self.align))

    def totals(self, values: Tensor) -> Tensor:
        others = [axis for axis in range(values.dim()) if axis != self.axis]
        return values.sum(others)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        ones = [1] * len(shape)
        ones[self.axis] = shape[self.axis]
        return groups.reshape(ones).expand(tuple(shape)).contiguous()
