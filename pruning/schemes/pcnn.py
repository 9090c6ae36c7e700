"""PCNN: every kernel of a layer keeps equally many weights, in few different patterns (2002.04997)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES, kept
from pruning.schemes.cells import CellScheme, Grid
from pruning.schemes.library import closest, derive
from pruning.schemes.weights import WeightScheme
from pruning.selection import largest_along

MOST_POSITIONS = 9


@SCHEMES.add
@dataclass(frozen=True)
class PCNN(WeightScheme, CellScheme):
    """n = max(1, floor(kh kw / rate + 1/2)) weights stay in each kernel: "pcnn", or "pcnn(16)" of 16 patterns a layer.

    Without a library every kernel keeps its n largest weights, which is the exact projection. A library of K patterns
    is derived from the layer, out of all C(kh kw, n) (see `library.derive`).
    """

    name: ClassVar[str] = "pcnn"
    patterns: int = 0

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        if text and (not text.isdecimal() or int(text) == 0):
            raise InvalidScheme(
                f"{cls.name}({text}): write {cls.name} or {cls.name}(patterns a layer), such as pcnn(16)"
            )
        return cls(int(text or 0))

    def arguments(self) -> str:
        return str(self.patterns) if self.patterns else ""

    def supports(self, shape: Sequence[int]) -> str | None:
        if (reason := super().supports(shape)) is not None:
            return reason
        positions = math.prod(shape[2:])
        if positions == 1:
            return "a kernel of one position has no pattern"
        if self.patterns and positions > MOST_POSITIONS:
            return f"a library is chosen for kernels of at most {MOST_POSITIONS} positions; pcnn without one takes all"
        return None

    def grid(self, shape: Sequence[int]) -> Grid:
        positions = math.prod(shape[2:])
        return Grid((shape[0] * shape[1], positions), 1, positions)

    def quota(self, size: int, rate: float) -> int:
        return kept(size, rate)

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        if not self.patterns:
            return super().select(scores, shape, rate)
        positions = math.prod(shape[2:])
        count = self.quota(positions, rate)
        kernels = scores.reshape(-1, positions).T.contiguous()
        choices = torch.tensor(list(itertools.combinations(range(positions), count)), device=scores.device)
        masks = torch.zeros(len(choices), positions, dtype=torch.bool, device=scores.device).scatter_(1, choices, True)
        library = derive(kernels, lambda some: largest_along(some, 0, count), masks, self.patterns)
        return closest(kernels, library)[1].flatten()

    def cells(self, shape: Sequence[int]) -> Tensor | None:
        return None if self.patterns else super().cells(shape)
