"""Derived pattern: like pattern, with a library of the layer's own that comes from its weights."""

import itertools
import re
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES
from pruning.schemes.connectivity import PER_PATTERN, POSITIONS, PatternScheme, as_masks
from pruning.schemes.library import derive
from pruning.selection import largest_along

CENTRE = 4


@SCHEMES.add
@dataclass(frozen=True)
class DerivedPattern(PatternScheme):
    """The `patterns` patterns that suit a layer best: derived_pattern(8), or derived_pattern(8, share=16).

    They are taken from the 56 that hold the centre and three other positions (see `library.derive`).
    """

    name: ClassVar[str] = "derived_pattern"
    patterns: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patterns < 1:
            raise InvalidScheme(f"{self}: a library has at least 1 pattern")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+)(?:, *share=([0-9]+))?", text)
        if match is None:
            raise InvalidScheme(
                f"{cls.name}({text}): write the number of patterns a layer, such as {cls.name}(8) or "
                f"{cls.name}(8, share=16)"
            )
        return cls(share=int(match[2] or 1), patterns=int(match[1]))

    def arguments(self) -> str:
        return f"{self.patterns}" if self.share == 1 else f"{self.patterns}, share={self.share}"

    def library(self, cells: Tensor) -> Tensor:
        others = [position for position in range(POSITIONS) if position != CENTRE]
        choices = [(CENTRE, *chosen) for chosen in itertools.combinations(others, PER_PATTERN - 1)]
        return derive(cells, _natural, as_masks(choices).to(cells.device), self.patterns)


def _natural(cells: Tensor) -> Tensor:
    """The centre and the three largest others of each cell, bool [positions, cells]."""
    energy = cells.clone()
    energy[CENTRE] = torch.inf
    return largest_along(energy, 0, PER_PATTERN)
