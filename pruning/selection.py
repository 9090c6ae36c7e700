"""The K largest of many scores, exactly K, without sorting them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

FEW = 16
"""Up to so many scores all pairs are compared, which is faster than sorting."""

IN_CACHE = 1 << 15
"""Rows that are compared at a time."""


def largest(scores: Tensor, count: int) -> Tensor:
    """Marks the `count` largest of `scores` [n]; among equals the lower index wins.

    Returns a bool tensor [n] with exactly `count` True entries, 1 <= count <= n. A threshold and `>` alone
    would drop or keep all ties together; here ties are taken in index order until the count is full.
    """
    return largest_along(scores, 0, count)


def largest_along(scores: Tensor, axis: int, count: int) -> Tensor:
    """Marks the `count` largest along an axis, bool of the shape of `scores`; among equals the lower index wins."""
    few = scores.shape[axis] <= FEW
    return _by_pairs(scores, axis, count) if few else _by_threshold(scores, axis, count)


def _by_pairs(scores: Tensor, axis: int, count: int) -> Tensor:
    entries = scores.movedim(axis, 0)
    parts = [_few_by_pairs(part, count) for part in torch.split(entries.reshape(len(entries), -1), IN_CACHE, 1)]
    return torch.cat(parts, 1).reshape(entries.shape).movedim(0, axis)


def _few_by_pairs(entries: Tensor, count: int) -> Tensor:
    entries = entries.contiguous()
    better = torch.zeros_like(entries, dtype=torch.uint8)  # how many of the others there are
    for first in range(len(entries)):
        better[first] += len(entries) - 1 - first
        for second in range(first + 1, len(entries)):
            first_wins = (entries[first] >= entries[second]).view(torch.uint8)
            better[first] -= first_wins
            better[second] += first_wins
    return better < count


def _by_threshold(scores: Tensor, axis: int, count: int) -> Tensor:
    values = scores.movedim(axis, -1).contiguous().cpu().numpy()
    place = values.shape[-1] - count
    threshold = np.partition(values, place)[..., place : place + 1]
    chosen = values >= threshold
    if chosen.sum() > values.size // values.shape[-1] * count:
        above, ties = values > threshold, values == threshold
        chosen = above | (ties & (ties.cumsum(-1) <= count - above.sum(-1, keepdims=True)))
    return torch.from_numpy(chosen).movedim(-1, axis).to(scores.device)


def largest_in_cells(scores: Tensor, axis: int, cell: int, quota: Callable[[int], int]) -> Tensor:
    """Marks the quota(n) largest in every cell of n = `cell` consecutive entries along an axis.

    The cell at the end may be smaller. Returns a bool tensor of the shape of `scores`; among equals the lower index
    wins.
    """
    size = scores.shape[axis]
    marked = []
    for part in torch.split(scores, [size - size % cell, size % cell], axis):
        if part.numel():
            cells = torch.unflatten(part, axis, (-1, min(cell, part.shape[axis])))
            marked.append(largest_along(cells, axis + 1, quota(cells.shape[axis + 1])).flatten(axis, axis + 1))
    return torch.cat(marked, axis)
