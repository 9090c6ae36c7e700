"""Transposable N:M: of every M x M tile N weights stay in each row and in each column."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Self

import torch
from torch import Tensor

from pruning.errors import InvalidScheme
from pruning.scheme import SCHEMES
from pruning.schemes.nm import OneRateScheme
from pruning.schemes.weights import WeightScheme

LARGEST_TILE = 4
"""A tile of 4 x 4 has at most 90 templates; beyond that they are too many to try."""


@SCHEMES.add
@dataclass(frozen=True)
class TransposableNM(OneRateScheme, WeightScheme):
    """N:M along filters and along channels: transposable_nm(2:4), so that the transposed weight of the backward pass
    is N:M too (2102.08124).

    A tile takes the template of largest retained energy, at each kernel position on its own. Tiles at a ragged border
    are templates cut off, of those that keep most weights.
    """

    name: ClassVar[str] = "transposable_nm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell > LARGEST_TILE:
            raise InvalidScheme(f"{self}: M is at most {LARGEST_TILE}")

    @classmethod
    def from_arguments(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]+):([0-9]+)", text)
        if match is None:
            raise InvalidScheme(f"{cls.name}({text}): write N of M weights, such as {cls.name}(2:4)")
        return cls(int(match[1]), int(match[2]))

    def arguments(self) -> str:
        return f"{self.kept}:{self.cell}"

    def supports(self, shape: Sequence[int]) -> str | None:
        if (reason := super().supports(shape)) is not None:
            return reason
        small = min(shape[:2]) < self.cell
        return f"a tile of {self.cell}x{self.cell} does not fit into {shape[0]}x{shape[1]}" if small else None

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        if rate == 1:
            return self.group_count(shape)
        a_position = sum(
            rows * columns * int(self._templates(height, width)[0].sum())
            for rows, height in self._runs(shape[0])
            for columns, width in self._runs(shape[1])
        )
        return a_position * math.prod(shape[2:])

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        energy = scores.reshape(shape[0], shape[1], -1)
        kept = torch.empty_like(energy, dtype=torch.bool)
        row = 0
        for rows, height in self._runs(shape[0]):
            column = 0
            for columns, width in self._runs(shape[1]):
                area = (slice(row, row + rows * height), slice(column, column + columns * width))
                tiles = energy[area].reshape(rows, height, columns, width, -1).permute(0, 2, 4, 1, 3)
                templates = self._templates(height, width).to(scores.device)
                retained = tiles.reshape(-1, height * width) @ templates.to(scores.dtype).T
                chosen = templates[retained.argmax(1)].reshape(tiles.shape)
                kept[area] = chosen.permute(0, 3, 1, 4, 2).reshape(kept[area].shape)
                column += columns * width
            row += rows * height
        return kept.flatten()

    def cells(self, shape: Sequence[int]) -> None:
        return None

    def _runs(self, extent: int) -> list[tuple[int, int]]:
        """(number of tiles, their length) of the whole tiles and of the one that is cut off."""
        whole, tail = divmod(extent, self.cell)
        return [(number, length) for number, length in ((whole, self.cell), (min(tail, 1), tail)) if number]

    def _templates(self, height: int, width: int) -> Tensor:
        return _templates(self.kept, self.cell, height, width)


@lru_cache(maxsize=64)
def _templates(kept: int, cell: int, height: int, width: int) -> Tensor:
    """What a tile of height x width may keep, bool [templates, height * width]."""
    rows = [tuple(c in chosen for c in range(cell)) for chosen in itertools.combinations(range(cell), kept)]
    tiles = itertools.product(rows, repeat=cell)
    whole = [tile for tile in tiles if all(sum(column) == kept for column in zip(*tile, strict=True))]
    cut_off = {tuple(entry for row in tile[:height] for entry in row[:width]) for tile in whole}
    most = max(map(sum, cut_off))
    return torch.tensor(sorted((tile for tile in cut_off if sum(tile) == most), reverse=True))
