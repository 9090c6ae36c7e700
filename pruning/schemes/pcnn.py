"""PCNN: every kernel of a layer keeps equally many weights, in few different patterns (2002.04997)."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES, Scheme, kept
from pruning.selection import largest_in_rows

MOST_POSITIONS = 9


@SCHEMES.add
@dataclass(frozen=True)
class PCNN(Scheme):
    """n = max(1, floor(kh kw / rate + 1/2)) weights stay in each kernel: "pcnn", or "pcnn(16)" of 16 patterns a layer.

    Without a library every kernel keeps its n largest weights, which is the exact projection. A library of K patterns
    is distilled from the layer: greedily those of all C(kh kw, n) that raise the retained energy most, which is
    within 1 - 1/e of the best K; a layer that already has no more than K patterns keeps them.
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

    def group_count(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def scores(self, weight: Tensor) -> Tensor:
        return weight.double().square().flatten()

    def expand(self, groups: Tensor, shape: Sequence[int]) -> Tensor:
        return groups.reshape(tuple(shape))

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        return shape[0] * shape[1] * kept(math.prod(shape[2:]), rate)

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        positions = math.prod(shape[2:])
        kernels = scores.reshape(-1, positions)
        best = largest_in_rows(kernels, kept(positions, rate))
        if not self.patterns or len(torch.unique(best, dim=0)) <= self.patterns:
            return best.flatten()
        library = distil(kernels, kept(positions, rate), self.patterns)
        energy = torch.stack([kernels[:, pattern].sum(1) for pattern in library], 1)
        return library[energy.argmax(1)].flatten()


def distil(kernels: Tensor, weights: int, patterns: int) -> Tensor:
    """The library of `patterns` patterns of `weights` positions that greedily retains most energy.

    Args:
        kernels: energies [kernels, positions].

    Returns:
        bool [patterns, positions], in the lexicographic order of the positions.
    """
    choices = list(itertools.combinations(range(kernels.shape[1]), weights))
    energy = torch.stack([kernels[:, list(choice)].sum(1) for choice in choices])
    retained = torch.zeros_like(energy[0])
    chosen: set[int] = set()
    for _ in range(min(patterns, len(choices))):
        gains = torch.stack([(row - retained).clamp(min=0).sum() for row in energy])
        gains[list(chosen)] = -1.0
        index = int(gains.argmax())
        chosen.add(index)
        retained = torch.maximum(retained, energy[index])
    library = torch.zeros(len(chosen), kernels.shape[1], dtype=torch.bool, device=kernels.device)
    for row, index in enumerate(sorted(chosen)):
        library[row, list(choices[index])] = True
    return library
