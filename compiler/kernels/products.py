"""Products driven by a list of kept entries: what direct and Winograd kernels share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from compiler.extents import groups_met, share_kept
from compiler.graph import Array
from compiler.kernels.base import split
from compiler.layout import LINE
from compiler.spec import KernelSpec
from compiler.structure import group_shape
from compiler.target import Target

Indices = npt.NDArray[np.int32]

FMA_LATENCY = 4
"""Cycles until a sum can be added to again, on the processors at hand."""
FIRST_CACHE = 24_000
"""Bytes of weights that stay in the first-level cache from one tile to the next."""
SECOND_CACHE = 600_000
"""Bytes of weights that stay in the second-level cache."""
SECOND_CACHE_SPEED = 32.0
"""Bytes a cycle from the second-level cache into a running product."""
REFETCH_SPEED = 20.0
"""Bytes a cycle that the second-level cache sustains for weights that every tile reads again."""
THIRD_CACHE_SPEED = 10.0
"""Bytes a cycle from beyond the second-level cache."""
AHEAD = 16_384
"""Bytes by which weights are asked for before their use: by itself the processor looks no further than to the end of a
page, and all weights of a large network come from the last cache or from memory."""
SPARSE_CHANNELS, DENSE_CHANNELS = (1, 2, 4), (1, 2, 4, 8)
MOST_ROWS = 7
"""Rows of pixels in a tile; each needs an address register."""


def kept_share(spec: KernelSpec, filters: int, channels: int, positions: int = 1) -> float:
    """Expected share of entries of filters x channels x kernel positions that hold a kept group.

    Blocks of filters that do not match the groups' meet two groups where they could meet one.
    """
    if spec.sparsity.rate == 1:
        return 1.0
    rows, cols, depth = group_shape(spec.sparsity.scheme, spec.weight_shape)
    down, across = groups_met(spec.out_channels, filters, rows), groups_met(spec.weight_shape[1], channels, cols)
    deep = max(1.0, positions / depth)
    met = tuple((d * a * deep, count * times) for d, count in down for a, times in across)
    return share_kept(1.0 / spec.sparsity.rate, met)


def vector_counts(spec: KernelSpec, target: Target) -> Iterator[tuple[int, int]]:
    """Vectors of filters in a tile, and the most pixels that the registers then allow."""
    filter_blocks = -(-spec.out_channels // target.vector)
    for vectors in range(1, 9):
        most = min(target.accumulators // vectors, (target.registers - 1) // vectors - 1)
        if filter_blocks % vectors == 0 and most >= 1:
            yield vectors, most


def channels_an_index(spec: KernelSpec, form: str, target: Target) -> Sequence[int]:
    """Numbers of consecutive channels, all of one channel block, that may share an index.

    Where nothing is skipped, the larger number costs less, unless it computes channels that do not exist.
    """
    if form == "sparse":
        return SPARSE_CHANNELS
    usable = [count for count in DENSE_CHANNELS if count <= target.vector]
    return (max(usable, key=lambda count: (-(spec.in_channels + -spec.in_channels % count), count)),)


def tiles(height: int, width: int, most: int) -> Iterator[tuple[int, int]]:
    """Balanced tile sizes (rows, columns) of at most `most` pixels, those with long rows first."""
    seen = set()
    for longest in range(min(width, most), 0, -1):
        cols = split(width, longest)[0]
        for tallest in range(1, min(height, most // cols, MOST_ROWS) + 1):
            tile = split(height, tallest)[0], cols
            if tile not in seen:
                seen.add(tile)
                yield tile


def tile_cycles(vectors: int, rows: int, cols: int, unroll: int, entries: float, lanes: int) -> float:
    """Cycles of one tile: two products and two loads a cycle, or what the second-level cache delivers.

    Tile after tile reads the same weights, which come from the first-level cache only if they fit there.
    """
    pixels = rows * cols
    weights = 4.0 * vectors * lanes
    fetch = weights / REFETCH_SPEED if entries * unroll * weights > FIRST_CACHE else 0.0
    issue = max(vectors * pixels / 2, (pixels + vectors) / 2, FMA_LATENCY, fetch)
    return entries * (unroll * issue + 1.5 + 0.25 * (rows - 1)) + 12 + 1.5 * vectors * pixels


def streaming_cycles(weight_bytes: float, times: int) -> float:
    """Cycles that are lost on reading weights `times` times; hardly any of it hides behind the products."""
    if weight_bytes <= FIRST_CACHE:
        return weight_bytes / SECOND_CACHE_SPEED
    return times * weight_bytes / (SECOND_CACHE_SPEED if weight_bytes <= SECOND_CACHE else THIRD_CACHE_SPEED)


def bytes_of_weights(spec: KernelSpec, entries: float, unroll: int, target: Target) -> float:
    """What the kept entries of all filter blocks take, of one plane where there are several."""
    return 4.0 * entries * unroll * target.vector * -(-spec.out_channels // target.vector)


def fetch_ahead(vectors: int, unroll: int, target: Target, weight_bytes: float) -> list[str]:
    """C statements that ask for the weights of an entry `AHEAD` of the current one, at `w`; none if all weights of the
    layer stay in the first-level cache."""
    if weight_bytes <= FIRST_CACHE:
        return []
    floats = range(0, unroll * vectors * target.vector, LINE)
    return [f"__builtin_prefetch(w + {AHEAD // 4 + at});" for at in floats]


def accumulate(
    vectors: int, rows: int, cols: int, unroll: int, step: int, start: str | None, before: Sequence[str] = ()
) -> list[str]:
    """C statements that fill the sums `a{v}_{row}_{col}`.

    They read the entries `ix[0..n)`, the weights from `w0` and the pixels from `xp`, rows `xrow` and columns `step`
    floats apart. Sums start from the vectors at `start`, or from zero. The statements `before` stand before each entry.
    """
    sums = [(v, p, q) for v in range(vectors) for p in range(rows) for q in range(cols)]
    first = [f"*(const vf *)({start} + {v} * VL)" if start else "npas_splat(0.0f)" for v in range(vectors)]
    lines = [f"vf b{v} = {first[v]};" for v in range(vectors)]
    lines += [f"vf a{v}_{p}_{q} = b{v};" for v, p, q in sums]
    lines += ["const float *w = w0;", "for (long e = 0; e < n; e++) {", *(f"  {line}" for line in before)]
    lines += ["  const float *x_0 = xp + ix[e];"]
    lines += [f"  const float *x_{p} = x_{p - 1} + xrow;" for p in range(1, rows)]
    for u in range(unroll):
        for v in range(vectors):
            lines += [f"  vf w{u}_{v} = *(const vf *)(w + {u * vectors + v} * VL); KEEP(w{u}_{v});"]
        for p in range(rows):
            for q in range(cols):
                lines.append(f"  {{ const float t = x_{p}[{u + q * step}];")
                lines += [f"    a{v}_{p}_{q} += w{u}_{v} * t;" for v in range(vectors)]
                lines.append("    UNTIL_HERE(npas_splat(t)); }")
        lines += [f"  UNTIL_HERE(w{u}_{v});" for v in range(vectors)]
    return [*lines, f"  w += {unroll * vectors} * VL;", "}"]


def pack_entries(weight: Array, block: int, unroll: int, keep_all: bool) -> tuple[Indices, Indices, Array]:
    """The kept entries of each block of `block` filters.

    Args:
        weight: [O, I, kh, kw].
        block: filters in a block.
        unroll: consecutive channels in an entry.
        keep_all: entries of zeros stay too.

    Returns:
        pointers [blocks + 1] into the entries; first channel, row and column of each entry [entries, 3]; weights
        [entries, unroll, block].
    """
    filters, channels, height, width = weight.shape
    blocks, deep = -(-filters // block), -(-channels // unroll)
    padded = np.zeros((blocks * block, deep * unroll, height, width), np.float32)
    padded[:filters, :channels] = weight
    # [blocks, block, deep, unroll, kh, kw] -> [blocks, deep, kh, kw, unroll, block]
    grouped = padded.reshape(blocks, block, deep, unroll, height, width).transpose(0, 2, 4, 5, 3, 1)
    kept = (grouped != 0).any(axis=(4, 5)) | keep_all
    pointers = np.concatenate([[0], np.cumsum(kept.reshape(blocks, -1).sum(1))]).astype(np.int32)
    where = np.stack(np.nonzero(kept)[1:], axis=1).astype(np.int32)
    where[:, 0] *= unroll
    return pointers, where, grouped[kept]
