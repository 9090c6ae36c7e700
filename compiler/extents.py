"""How many filters, or channels, of a weight live or die together, where the blocks are no regular grid any more.

Removed channels leave blocks of different sizes. What a kernel computes of them is known all the same: of each run of
filters that share their entries, those that any filter keeps. The extent of the blocks is the one by which the shares
kept by runs of all lengths are explained best.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

EXTENTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Extents of blocks that are told apart."""


@lru_cache(maxsize=1 << 14)
def groups_met(total: int, run: int, extent: int) -> tuple[tuple[int, int], ...]:
    """(groups, runs that meet so many) where `total` are cut into runs of `run`, and into groups of `extent`."""
    met = ((min(first + run, total) - 1) // extent - first // extent + 1 for first in range(0, max(total, 1), run))
    return tuple(sorted(Counter(met).items()))


def extent_along(mask: npt.NDArray[np.bool_], axis: int, longest: int) -> int:
    """The extent of the blocks in `mask` along `axis`, at most `longest`; 1 if neighbours have nothing in common.

    Args:
        mask: anything of it kept.
    """
    mask = np.moveaxis(mask, axis, 0)
    size = len(mask)
    shares = {1: float(mask.mean())}
    for run in (2**power for power in range(1, longest.bit_length())):
        if run >= 2 * size:
            break
        odd = mask[1::2]
        mask = mask[::2].copy()
        mask[: len(odd)] |= odd
        shares[run] = float(mask.mean())
    return min(
        (extent for extent in EXTENTS if extent <= min(size, longest)), key=lambda extent: _error(extent, size, shares)
    )


def _error(extent: int, size: int, shares: dict[int, float]) -> float:
    """Sum of the squared logarithms by which the shares kept by runs are missed."""
    return math.fsum(
        math.log(share_kept(shares[1], groups_met(size, run, extent)) / share) ** 2 for run, share in shares.items()
    )


def share_kept(kept: float, met: Sequence[tuple[float, int]]) -> float:
    """Share of runs of which anything is kept where a share `kept` of all groups is, by chance.

    Args:
        met: (groups, runs that meet so many).
    """
    return 1.0 - math.fsum(runs * (1.0 - kept) ** groups for groups, runs in met) / sum(runs for _, runs in met)
