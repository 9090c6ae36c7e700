"""The sparsity structure really present in a weight."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from compiler.graph import Array
from pruning import Scheme, Sparsity

BLOCKS = ((32, 4), (16, 4), (32, 1), (16, 1), (8, 4), (8, 1), (4, 4))
"""Block shapes looked for, coarsest first."""


def structure_of(weight: Array) -> Sparsity:
    """Coarsest known structure that explains the zeros of `weight` exactly, at its effective rate.

    Args:
        weight: [O, I, kh, kw].
    """
    mask = weight != 0
    kept = int(mask.sum())
    if kept in (0, mask.size):
        return Sparsity()
    mask = mask.reshape(mask.shape[0], mask.shape[1], -1)
    for name, axes in (("filter", (1, 2)), ("channel", (0, 2))):
        live = mask.any(axis=axes)
        if int(live.sum()) * (mask.size // len(live)) == kept:
            return Sparsity(name, len(live) / int(live.sum()))
    positions = mask.shape[2]
    kernels = mask.any(2, keepdims=True)
    if positions > 1 and int(kernels.sum()) * positions == kept:
        found = _blocks_of(kernels, "block_kernel")
    else:
        found = _blocks_of(mask, "block_punched")
    return found or Sparsity("unstructured", mask.size / kept)


def _blocks_of(mask: npt.NDArray[np.bool_], scheme: str) -> Sparsity | None:
    """The coarsest block shape on which `mask` [O, I, positions] is constant, None if there is none."""
    filters, channels = mask.shape[:2]
    for rows, cols in BLOCKS:
        if rows > filters or cols > channels:
            continue
        groups = np.add.reduceat(np.add.reduceat(mask, range(0, filters, rows), 0), range(0, channels, cols), 1) > 0
        filled = np.repeat(np.repeat(groups, rows, 0), cols, 1)[:filters, :channels]
        if int(filled.sum()) == int(mask.sum()):
            return Sparsity(f"{scheme}({rows}x{cols})", groups.size / int(groups.sum()))
    return None


@lru_cache(maxsize=4096)
def group_shape(scheme: Scheme, weight_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Filters, channels and kernel positions that live or die together, read off the scheme's first group."""
    groups = torch.zeros(scheme.group_count(weight_shape), dtype=torch.bool)
    groups[0] = True
    members = np.nonzero(scheme.expand(groups, weight_shape).flatten(2).numpy())
    filters, channels, positions = (len(np.unique(index)) for index in members)
    return filters, channels, positions
