"""The sparsity structure really present in a weight."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from compiler.extents import extent_along
from compiler.graph import Array
from pruning import Scheme, Sparsity
from pruning.schemes.pattern import LIBRARY, POSITIONS, Pattern

BLOCKS = ((32, 4), (16, 4), (32, 1), (16, 1), (8, 4), (8, 1), (4, 4))
"""Block shapes looked for, coarsest first."""
SHARES = (32, 16, 1)
"""Numbers of filters that may share a pattern."""
MOST_FILTERS, MOST_CHANNELS = 64, 8
"""Extents of the largest blocks that are told apart where they are no regular grid."""
WHOLE = 0.9
"""Share of weights that makes kernels about whole: some of the kept ones may just happen to be zero."""
CELLS = ((2, 4), (1, 4), (4, 8))
"""N and M of the N:M structures looked for."""


def structure_of(weight: Array) -> Sparsity:
    """The structure by which a kernel of `weight` skips zeros: the exact one, or the blocks that come closest to it.

    Blocks of which single filters or channels were removed are no regular grid any more, but what is computed of them
    is about what is computed of a grid of blocks of their size, with as many weights.

    Args:
        weight: [O, I, kh, kw].
    """
    exact = exact_structure(weight)
    return _closest_blocks(weight != 0) if exact.scheme.name == "unstructured" else exact


def exact_structure(weight: Array) -> Sparsity:
    """Coarsest known structure that explains the zeros of `weight` exactly, at its effective rate; or unstructured.

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
    if (patterned := _patterned(mask)) is not None:
        return patterned
    return _blocks_of(*_in_kernels(mask), BLOCKS) or _in_cells(mask) or Sparsity("unstructured", mask.size / kept)


def _closest_blocks(mask: npt.NDArray[np.bool_]) -> Sparsity:
    """Blocks whose height and width explain best what is kept of runs of filters and channels."""
    cells, scheme = _in_kernels(mask.reshape(*mask.shape[:2], -1), WHOLE)
    block = extent_along(cells, 0, MOST_FILTERS), extent_along(cells, 1, MOST_CHANNELS)
    rate = cells.size / int(cells.sum())
    if block == (1, 1) and scheme == "block_punched":
        return Sparsity("unstructured", rate)
    return _blocks_of(cells, scheme, (block,)) or Sparsity(f"{scheme}({block[0]}x{block[1]})", rate)


def _in_kernels(mask: npt.NDArray[np.bool_], whole: float = 1.0) -> tuple[npt.NDArray[np.bool_], str]:
    """`mask` [O, I, positions], or [O, I, 1] if it keeps kernels as a whole, and the scheme of blocks of these.

    Args:
        whole: share of the weights of kept kernels that are kept at least.
    """
    kernels = np.any(mask, axis=2, keepdims=True)
    positions = mask.shape[2]
    if positions > 1 and int(mask.sum()) >= whole * int(kernels.sum()) * positions:
        return kernels, "block_kernel"
    return mask, "block_punched"


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
        lengths = np.array([min(cell, channels - first) for first in range(0, channels, cell)])
        wanted = -(-kept * lengths // cell)[:, None]
        runs = (np.add.reduceat(part, range(0, channels, cell), 1, np.int16) for part in (mask[:1], mask))
        if all(bool((found == wanted).all()) for found in runs):
            return Sparsity(f"nm({kept}:{cell})", mask.size / int(mask.sum()))
    return None


def _blocks_of(mask: npt.NDArray[np.bool_], scheme: str, blocks: Sequence[tuple[int, int]]) -> Sparsity | None:
    """The first of the block shapes on which `mask` [O, I, positions] is constant, None if there is none."""
    filters, channels = mask.shape[:2]
    down, across = _steps(mask), _steps(mask.swapaxes(0, 1))
    for rows, cols in blocks:
        if rows >= 2 * filters or cols > channels or (down % rows).any() or (across % cols).any():
            continue
        groups = mask[::rows, ::cols]
        return Sparsity(f"{scheme}({rows}x{cols})", groups.size / int(groups.sum()))
    return None


def _steps(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Where `mask` is not what it was one before, along its first axis."""
    return 1 + np.flatnonzero((mask[1:] != mask[:-1]).any(axis=(1, 2)))


@lru_cache(maxsize=4096)
def group_shape(scheme: Scheme, weight_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Filters, channels and kernel positions that live or die together, read off the scheme's first group."""
    groups = torch.zeros(scheme.group_count(weight_shape), dtype=torch.bool)
    groups[0] = True
    held = scheme.expand(groups, weight_shape).flatten(2).numpy()
    members = np.unravel_index(np.flatnonzero(held), held.shape)
    filters, channels, positions = (len(np.unique(index)) for index in members)
    return filters, channels, positions
