"""N:M: of every M consecutive input channels N weights stay."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidRate, InvalidScheme
from pruning.scheme import SCHEMES, Scheme
from pruning.selection import largest_in_rows


@SCHEMES.add
@dataclass(frozen=True)
class NM(Scheme):
    """Keeps the N largest of each cell of M weights: nm(2:4). The rate is M / N and no other.

    Cells run along the input channels, or the columns of a matrix, and restart at every filter and kernel position.
    A tail of m < M weights keeps min(m, ceil(N m / M)), so that the rate really reached may be a little lower; it is
    accepted too.
    """

    name: ClassVar[str] = "nm"
    kept: int
    cell: int

    def __post_init__(self) -> None:
        if not 1 <= self.kept < self.cell:
            raise InvalidScheme(f"{self}: N of M weights stay, 1 <= N < M")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+):([0-9]+)", text)
        if match is None:
            raise InvalidScheme(f"{cls.name}({text}): write N of M weights as {cls.name}(N:M), such as {cls.name}(2:4)")
        return cls(int(match[1]), int(match[2]))

    def arguments(self) -> str:
        return f"{self.kept}:{self.cell}"

    def supports(self, shape: Sequence[int]) -> str | None:
        if (reason := super().supports(shape)) is not None:
            return reason
        return f"there are only {shape[1]} input channels" if shape[1] < self.cell else None

    def check(self, shape: Sequence[int], rate: float) -> None:
        super().check(shape, rate)
        rates = (1.0, self.cell / self.kept, self.group_count(shape) / self.kept_groups(shape, rate=2.0))
        if not any(math.isclose(rate, allowed) for allowed in rates):
            raise InvalidRate(f"{self} at rate {rate:g}: its rate is {self.cell}/{self.kept} = {rates[1]:g}")

    def group_count(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def scores(self, weight: Tensor) -> Tensor:
        return weight.double().square().flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return groups.reshape(tuple(shape))

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        if rate == 1:
            return self.group_count(shape)
        return self.group_count(shape) // shape[1] * (shape[1] // self.cell * self.kept + self._tail(shape))

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        filters, channels = shape[:2]
        whole = channels - channels % self.cell
        rows = scores.reshape(filters, channels, -1).transpose(1, 2)
        parts = []
        for part, cell, count in (
            (rows[..., :whole], self.cell, self.kept),
            (rows[..., whole:], channels - whole, self._tail(shape)),
        ):
            if cell:
                parts.append(largest_in_rows(part.reshape(-1, cell), count).reshape(part.shape))
        return torch.cat(parts, 2).transpose(1, 2).flatten()

    def _tail(self, shape: Sequence[int]) -> int:
        """Weights that stay in the cell at the end, which has fewer than M."""
        tail = shape[1] % self.cell
        return min(tail, -(-self.kept * tail // self.cell))
