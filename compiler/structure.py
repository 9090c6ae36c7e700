"""The sparsity structure really present in a weight."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from compiler.graph import Array
from pruning import Scheme, Sparsity
from pruning.schemes.pattern import LIBRARY, POSITIONS, Pattern

BLOCKS = ((32, 4), (16, 4), (32, 1), (16, 1), (8, 4), (8, 1), (4, 4))
"""Block shapes looked for, coarsest first."""
SHARES = (32, 16, 1)
"""Numbers of filters that may share a pattern."""
CELLS = ((2, 4), (1, 4), (4, 8))
"""N and M of the N:M structures looked for."""


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
    if (patterned := _patterned(mask)) is not None:
        return patterned
    if positions > 1 and int(kernels.sum()) * positions == kept:
        found = _blocks_of(kernels, "block_kernel")
    else:
        found = _blocks_of(mask, "block_punched")
    return found or _in_cells(mask) or Sparsity("unstructured", mask.size / kept)


def _patterned(mask: npt.NDArray[np.bool_]) -> Sparsity | None:
    """Patterns of the library, shared by as many filters as can be, with equally many kernels a block of filters."""
    filters, _, positions = mask.shape
    if positions != POSITIONS:
        return None
    library = np.zeros((len(LIBRARY), positions), bool)
    for row, pattern in enumerate(LIBRARY):
        library[row, list(pattern)] = True
    for share in (count for count in SHARES if count <= filters):
        cells = mask[::share]
        if not bool((np.repeat(cells, share, 0)[:filters] == mask).all()):
            continue
        kept = cells.any(2)
        counts = kept.sum(1)
        known = (cells[:, :, None, :] == library).all(3).any(2)
        if bool((known == kept).all()) and bool((counts == counts[0]).all()):
            return Sparsity(Pattern(share=share), cells.size / int(cells.sum()))
    return None


def _in_cells(mask: npt.NDArray[np.bool_]) -> Sparsity | None:
    """Equally many weights in each kernel, or in each run of channels, if `mask` [O, I, positions] is like that."""
    _, channels, positions = mask.shape
    counts = mask.sum(2)
    if bool((counts == counts[0, 0]).all()):
        return Sparsity("pcnn", positions / int(counts[0, 0]))
    for kept, cell in (sizes for sizes in CELLS if sizes[1] <= channels):
        runs = np.add.reduceat(mask.astype(int), range(0, channels, cell), 1)
        lengths = np.array([min(cell, channels - first) for first in range(0, channels, cell)])
        if bool((runs == -(-kept * lengths // cell)[:, None]).all()):
            return Sparsity(f"nm({kept}:{cell})", mask.size / int(mask.sum()))
    return None


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
    held = scheme.expand(groups, weight_shape).flatten(2).numpy()
    members = np.unravel_index(np.flatnonzero(held), held.shape)
    filters, channels, positions = (len(np.unique(index)) for index in members)
    return filters, channels, positions
