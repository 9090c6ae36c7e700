"""How far a kernel is outside of what was measured, and which kernels to leave out to learn what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_model.runner import Floats

Mask = npt.NDArray[np.bool_]

LEAST = 3
"""Kernels that are left out together, at least."""
END = 0.1
"""Share of the kernels that are taken to be an end of a range."""


@dataclass(frozen=True)
class Extent:
    """The range of every feature among the measured kernels of each operation.

    Attributes:
        row: of each operation in `low` and `high`.
        low, high: [operations, columns], in units of `deviation`.
        deviation: of each column among all measured kernels [columns]; 1 where it is the same in all.
    """

    row: dict[str, int]
    low: Floats
    high: Floats
    deviation: Floats

    @classmethod
    def of(cls, ops: Sequence[str], features: Floats) -> Extent:
        """The extent of measured kernels with these operations and features [kernels, columns]."""
        deviation = features.std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        row = {op: index for index, op in enumerate(dict.fromkeys(ops))}
        index = np.array([row[op] for op in ops])
        of_each = [features[index == one] / deviation for one in row.values()]
        low = np.array([rows.min(axis=0) for rows in of_each])
        high = np.array([rows.max(axis=0) for rows in of_each])
        return cls(row, low, high, deviation)

    def excess(self, ops: Sequence[str], features: Floats) -> Floats:
        """What each feature is beyond the range of its operation, in deviations, summed over features [kernels]; 0
        inside. All operations must have been measured."""
        index = np.fromiter((self.row[op] for op in ops), np.int64, len(ops))
        rows = features / self.deviation
        beyond = np.maximum(self.low[index] - rows, rows - self.high[index])
        result: Floats = np.maximum(beyond, 0, out=beyond).sum(axis=1)
        return result


def ends(values: Floats) -> Iterator[Mask]:
    """The largest tenth of the values [n], and the smallest, with all that are equal to the last of them; unless that
    is more than a third, then without those. Ends of fewer than `LEAST` or more than half are left out."""
    count = max(LEAST, int(END * len(values)))
    for signed in (values, -values):
        last = np.sort(signed)[-count:][0]
        end = signed >= last
        yield from _some(end if end.mean() <= 1 / 3 else signed > last)


def cases(column: Floats) -> Iterator[Mask]:
    """The kernels of one category, by its column of ones and zeros [n]; none if they are too few or too many."""
    yield from _some(column > 0)


def _some(chosen: Mask) -> Iterator[Mask]:
    if LEAST <= chosen.sum() <= len(chosen) / 2:
        yield chosen
