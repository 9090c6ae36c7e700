"""Row and column: whole rows and whole columns of the GEMM view go together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pruning.scheme import SCHEMES, kept
from pruning.schemes.weights import WeightScheme
from pruning.selection import largest

ROUNDS = 10


@SCHEMES.add
@dataclass(frozen=True)
class RowColumn(WeightScheme):
    """A weight of [O, I kh kw] stays where its row and its column stay; each has the square root of the rate.

    The best choice of both together is a densest-submatrix problem and not sought. Rows are taken by their energy,
    columns by what the kept rows leave, and again in turn until nothing changes, ten rounds at most; energy never
    falls. The mask removes rows as weights only: biases and batch norms behind them stay (see `filter`).
    """

    name: ClassVar[str] = "row_column"

    def kept_groups(self, shape: Sequence[int], rate: float) -> int:
        root = math.sqrt(rate)
        return kept(shape[0], root) * kept(math.prod(shape[1:]), root)

    def select(self, scores: Tensor, shape: Sequence[int], rate: float) -> Tensor:
        energy, root = scores.reshape(shape[0], -1), math.sqrt(rate)
        down, across = (kept(extent, root) for extent in energy.shape)
        columns = torch.zeros(energy.shape[1], dtype=torch.bool, device=scores.device)
        rows = largest(energy.sum(1), down)
        for _ in range(ROUNDS):
            before = columns
            columns = largest(energy[rows].sum(0), across)
            if torch.equal(columns, before):
                break
            rows = largest(energy[:, columns].sum(1), down)
        return (rows[:, None] & columns).flatten()

    def cells(self, shape: Sequence[int]) -> None:
        return None
