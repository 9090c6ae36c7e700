"""N:M: of every M consecutive input channels N weights stay."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from pruning.errors import InvalidRate, InvalidScheme
from pruning.scheme import SCHEMES, Scheme
from pruning.schemes.block import Block
from pruning.schemes.cells import CellScheme, Grid


@dataclass(frozen=True)
class OneRateScheme(Scheme):
    """N of M weights stay. The rate is M / N and no other, except what ragged borders make of it."""

    one_rate: ClassVar[bool] = True
    kept: int
    cell: int

    def __post_init__(self) -> None:
        if not 1 <= self.kept < self.cell:
            raise InvalidScheme(f"{self}: N of M weights stay, 1 <= N < M")

    def rates(self, menu: Iterable[float]) -> list[float]:
        return [self.cell / self.kept]

    def check(self, shape: Sequence[int], rate: float) -> None:
        super().check(shape, rate)
        nominal = self.cell / self.kept
        reached = self.group_count(shape) / self.kept_groups(shape, nominal)
        if not any(math.isclose(rate, allowed) for allowed in (1.0, nominal, reached)):
            raise InvalidRate(f"{self} at rate {rate:g}: its rate is {self.cell}/{self.kept} = {nominal:g}")


@SCHEMES.add
@dataclass(frozen=True)
class NM(OneRateScheme, CellScheme):
    """Keeps the N largest of each cell of M weights: nm(2:4), or nm(2:4, share=16). The rate is M / N and no other.

    Cells run along the input channels, or the columns of a matrix, and restart at every filter and kernel position.
    `share` consecutive filters have their choice in common. A tail of m < M weights keeps ceil(N m / M), so that the
    rate really reached may be a little lower; it is accepted too.
    """

    name: ClassVar[str] = "nm"
    share: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share < 1:
            raise InvalidScheme(f"{self}: a choice is shared by at least 1 filter")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+):([0-9]+)(?:, *share=([0-9]+))?", text)
        if match is None:
            raise InvalidScheme(
                f"{cls.name}({text}): write N of M weights as {cls.name}(N:M), such as {cls.name}(2:4) or "
                f"{cls.name}(2:4, share=16)"
            )
        return cls(int(match[1]), int(match[2]), int(match[3] or 1))

    def arguments(self) -> str:
        return f"{self.kept}:{self.cell}" + (f", share={self.share}" if self.share > 1 else "")

    def supports(self, shape: Sequence[int]) -> str | None:
        if (reason := super().supports(shape)) is not None:
            return reason
        return f"there are only {shape[1]} input channels" if shape[1] < self.cell else None

    def grid(self, shape: Sequence[int]) -> Grid:
        return Grid((-(-shape[0] // self.share), shape[1], math.prod(shape[2:])), 1, self.cell)

    def quota(self, size: int, rate: float) -> int:
        return -(-self.kept * size // self.cell)

    def group_count(self, shape: Sequence[int]) -> int:
        return self._strips.group_count(shape)

    def totals(self, values: Tensor) -> Tensor:
        return self._strips.totals(values)

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return self._strips.expand(groups, shape)

    @property
    def _strips(self) -> Block:
        """The partition into weights of filters that share their choice."""
        return Block(self.share, 1)
