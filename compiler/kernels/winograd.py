"""Winograd F(4x4, 3x3): 36 products instead of 144 a tile of 4x4 outputs (Lavin and Gray, 1509.09308).

A chunk of tiles is transformed into 36 planes U, a filter block's 36 products are taken on them, and their result M is
transformed back at once, so that both stay in the second-level cache. The products run over a list of kept channels
that all 36 planes share: whole kernels removed in blocks stay removed under the weight transform, so that the gains of
Winograd and of pruning multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from compiler.graph import Array
from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    pack_sections,
    prelude,
    register,
    share,
    signature,
    split,
)
from compiler.kernels.epilogue import apply, suffix
from compiler.kernels.products import (
    SECOND_CACHE,
    SECOND_CACHE_SPEED,
    accumulate,
    bytes_of_weights,
    channels_an_index,
    fetch_ahead,
    kept_share,
    pack_entries,
    streaming_cycles,
    tile_cycles,
    vector_counts,
)
from compiler.spec import KernelSpec
from compiler.target import Target

TILE = 4
PLANES = 36
CACHE_BYTES = 600_000
"""What U and M of a chunk may take of the second-level cache."""
MOST_BYTES = 6_000_000
"""What U and M of a chunk may take of the third-level cache, where products are taken plane by plane: weights are then
one stream, which the processor fetches ahead, and a plane of U stays in the first-level cache."""
LAST_CACHE = 4_000_000
"""Bytes of a layer's weights that the other layers of a network leave in the last cache."""
STREAM_SPEED = 30.0
"""Bytes a cycle that are read or written one after the other there."""
MEMORY_SPEED, WIDE_MEMORY_SPEED = 8.0, 5.0
"""Bytes a cycle of weights that come from memory, one or two vectors of filters at a time, or more."""
UNHIDDEN = 0.15
"""Share of the shorter that does not hide behind the longer, of taking products and fetching weights for them."""
INPUT_CYCLES = 150.0
"""Transforming one tile of one channel block."""
OUTPUT_CYCLES = 120.0
"""Transforming one tile of one vector of filters back."""

WEIGHT_TRANSFORM = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ]
)

DIMS = (
    *("cblocks", "blocks", "group", "tiles", "across", "chunk", "blocks_shared"),
    *("height", "width", "there_y", "there_x"),
    *("x0", "xrow", "xplane", "y0", "yrow", "yplane", "r0", "rrow", "rplane", "uplane", "mplane"),
    *("bias_at", "ptr_at", "ix_at", "w_at"),
)


@dataclass(frozen=True)
class Products:
    """One way to take the products of a layer, whatever its weights are kept as.

    Attributes:
        near: tiles that one thread works on.
        input_cycles, output_cycles: of the transformations.
        weight_vectors: vectors of filters in all kept kernels.
        For the others see `Schedule`.
    """

    form: str
    vectors: int
    cols: int
    unroll: int
    entries: float
    pieces: int
    blocks_shared: bool
    tiles: int
    near: int
    threads: int
    lanes: int
    filter_blocks: int
    input_cycles: float
    output_cycles: float

    @property
    def weight_vectors(self) -> float:
        return self.entries * self.unroll * self.filter_blocks

    def product_cycles(self, chunk: int) -> float:
        """Of the products of all planes and filter blocks, so many tiles at a time."""
        groups = sum(-(-min(chunk, self.tiles - at) // self.cols) for at in range(0, self.tiles, chunk))
        one = tile_cycles(self.vectors, 1, self.cols, self.unroll, self.entries, self.lanes)
        return PLANES * groups * one * self.filter_blocks / self.vectors

    def memory_cycles(self, weight_bytes: float) -> float:
        """Of reading so many bytes of weights once, in one stream."""
        if weight_bytes <= SECOND_CACHE:
            return weight_bytes / SECOND_CACHE_SPEED
        if weight_bytes <= LAST_CACHE:
            return weight_bytes / STREAM_SPEED
        return weight_bytes / (MEMORY_SPEED if self.vectors <= 2 else WIDE_MEMORY_SPEED)

    def cycles(self, work: float, weights: float) -> float:
        """Of everything: `work` behind the transformation of the input, and what it costs to have the `weights`.

        Threads that share filter blocks transform the whole input each; those that share tiles need all weights each.
        """
        if self.blocks_shared:
            return self.input_cycles + share(work + weights, self.pieces, self.threads)
        return weights + share(self.input_cycles + work, self.pieces, self.threads)

    def schedule(self, family: str, chunk: int, cycles: float, moved: float, group: int = 1) -> Schedule:
        return Schedule(
            family,
            self.form,
            self.vectors,
            1,
            self.cols,
            chunk=chunk,
            group=group,
            unroll=self.unroll,
            entries=self.entries,
            pieces=self.pieces,
            blocks_shared=self.blocks_shared,
            cycles=cycles,
            bytes=moved,
        )


def products(spec: KernelSpec, target: Target) -> Iterator[Products]:
    """All ways that are worth considering, none where the method does not apply."""
    geometry = (spec.kernel, spec.stride, spec.dilation)
    if geometry != ((3, 3), (1, 1), (1, 1)) or spec.in_channels < target.vector or min(spec.out_size) < TILE - 1:
        return
    tiles = tile_count(spec)[0]
    filter_blocks = -(-spec.out_channels // target.vector)
    channel_blocks = -(-spec.in_channels // target.vector)
    for form in ("dense", "sparse") if spec.sparsity.rate > 1 else ("dense",):
        for vectors, most in vector_counts(spec, target):
            for unroll in channels_an_index(spec, form, target):
                kept = kept_share(spec, vectors * target.vector, unroll, 9) if form == "sparse" else 1.0
                widths = {split(tiles, longest)[0] for longest in range(1, min(tiles, most) + 1)}
                for cols, blocks_shared in product(widths, (False, True) if spec.threads > 1 else (False,)):
                    pieces = filter_blocks // vectors if blocks_shared else -(-tiles // cols)
                    yield Products(
                        form=form,
                        vectors=vectors,
                        cols=cols,
                        unroll=unroll,
                        entries=max(kept * -(-spec.in_channels // unroll), 1.0),
                        pieces=pieces,
                        blocks_shared=blocks_shared,
                        tiles=tiles,
                        near=tiles if blocks_shared else min(tiles, -(-pieces // spec.threads) * cols),
                        threads=spec.threads,
                        lanes=target.vector,
                        filter_blocks=filter_blocks,
                        input_cycles=tiles * channel_blocks * INPUT_CYCLES,
                        output_cycles=tiles * filter_blocks * OUTPUT_CYCLES,
                    )


class Winograd(Family):
    """3x3 convolutions of stride 1, their weights transformed when the network is compiled."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        for one in products(spec, target):
            weight_bytes = 4.0 * PLANES * one.weight_vectors * target.vector
            moved = activation_bytes(spec) + weight_bytes
            chunk = block_chunk(spec, target, one.vectors, one.cols, one.near)
            streamed = streaming_cycles(weight_bytes, -(-one.near // chunk))
            cycles = one.cycles(one.output_cycles + one.product_cycles(chunk), streamed)
            yield one.schedule("winograd", chunk, cycles, moved)
            if (blocks := one.filter_blocks // one.vectors) > 1:
                a_tile = tile_bytes(spec, one.vectors * blocks, target)
                chunk = _chunk(a_tile, one.cols, one.near, MOST_BYTES)
                times = -(-one.near // chunk)
                work = one.output_cycles + 2 * a_tile * one.tiles / STREAM_SPEED
                overlapped = overlap(one.product_cycles(chunk), times * one.memory_cycles(weight_bytes))
                yield one.schedule("winograd", chunk, one.cycles(work + overlapped, 0.0), moved, group=blocks)

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        vectors, cols = schedule.vectors, schedule.cols
        weight_bytes = PLANES * bytes_of_weights(spec, schedule.entries, schedule.unroll, target)
        before = fetch_ahead(vectors, schedule.unroll, target, weight_bytes)
        name = f"wino{vectors}_{cols}_u{schedule.unroll}{'f' if before else ''}{suffix(spec.epilogue)}"
        lines = accumulate(vectors, 1, cols, schedule.unroll, target.vector, None, before)
        for v in range(vectors):
            lines += [f"*(vf *)(mp + ({q} * {vectors} + {v}) * VL) = a{v}_0_{q};" for q in range(cols)]
        sums = "".join(f"          {line}\n" for line in lines)
        source = f"""
{output_functions(name, spec.epilogue)}
{signature(name)}
{{
{prelude(DIMS)}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  const int32_t *ptr = (const int32_t *)(c + ptr_at), *index = (const int32_t *)(c + ix_at);
  float *U = (float *)s, *M = U + {PLANES} * uplane;
  const long products = (tiles + {cols - 1}) / {cols};
  const npas_range filters = blocks_shared ? npas_part(blocks, part, parts) : (npas_range){{ 0, blocks }};
  const npas_range some_tiles = blocks_shared ? (npas_range){{ 0, products }} : npas_part(products, part, parts);
  const long last = some_tiles.to * {cols} < tiles ? some_tiles.to * {cols} : tiles;
  for (long first = some_tiles.from * {cols}; first < last; first += chunk) {{
    const long some = last - first < chunk ? last - first : chunk;
{TRANSFORM_IN}    for (long g = filters.from / group * group; g < filters.to; g += group) {{
      const long full = g + group < blocks ? g + group : blocks;
      const long start = g < filters.from ? filters.from : g, end = full < filters.to ? full : filters.to;
      for (long p = 0; p < {PLANES}; p++) for (long b = start; b < end; b++) {{
        const int32_t *ix = index + ptr[b];
        const long n = ptr[b + 1] - ptr[b], before = {PLANES - 1} * (long)ptr[g] + p * (ptr[full] - ptr[g]) + ptr[b];
        const float *w0 = weights + before * {schedule.unroll * vectors} * VL;
        for (long t = 0; t < some; t += {cols}) {{
          const float *xp = U + p * uplane + t * VL;
          float *mp = M + p * mplane + ((b - g) * chunk + t) * {vectors} * VL;
{sums}        }}
      }}
      for (long b = start; b < end; b++) {{
{transform_out(name, vectors)}      }}
    }}
  }}
}}
"""
        return Code(name, source, TRANSFORMS)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        planes = transform_weight(use.weight)
        return constants(spec, schedule, use, planes, lambda parts: _grouped(parts, schedule.group))

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        return 4 * PLANES * sum(chunk_planes(schedule, use.x.blocks, use.y.lanes))


def transform_weight(weight: Array) -> Array:
    """G g G^T of each 3x3 kernel: [O, I, 3, 3] to [36, O, I]."""
    both = np.kron(WEIGHT_TRANSFORM, WEIGHT_TRANSFORM)  # [36, 9]
    kernels = weight.reshape(-1, both.shape[1]).T.astype(np.float64)
    return (both @ kernels).astype(np.float32).reshape(PLANES, *weight.shape[:2])


Pack = Callable[[list[Array]], Array]


def constants(
    spec: KernelSpec, schedule: Schedule, use: Operands, planes: Array, pack: Pack
) -> tuple[list[int], bytes]:
    """`DIMS`, and bias, kept channels and their weights.

    Args:
        planes: weights as they are kept, [planes, O, I].
        pack: brings those of the filter blocks, each [planes, channels, block], into the order in which they are read.
    """
    lanes = use.y.lanes
    block = schedule.vectors * lanes
    kernels = (use.weight != 0).any(axis=(2, 3), keepdims=True)
    pointers, where, _ = pack_entries(kernels.astype(np.float32), block, schedule.unroll, schedule.form == "dense")
    offsets = (where[:, 0] // lanes * schedule.chunk * lanes + where[:, 0] % lanes).astype(np.int32)
    weights = pack(list(_of_blocks(planes, pointers, where[:, 0], block, schedule.unroll)))
    bias = np.zeros(-(-spec.out_channels // block) * block, np.float32)
    bias[: spec.out_channels] = use.bias
    sections, blob = pack_sections(bias, pointers, offsets, weights)
    tiles, across = tile_count(spec)
    x, y, r = use.x, use.y, use.r or use.y
    dims = [
        *(x.blocks, len(pointers) - 1, schedule.group, tiles, across, schedule.chunk),
        *(int(schedule.blocks_shared), *spec.out_size),
        *(x.height + x.halo[0] + spec.padding[0], x.width + x.halo[1] + spec.padding[1]),
        *(x.offset(0, -spec.padding[0], -spec.padding[1]), x.row, x.plane),
        *(y.offset(0, 0, 0), y.row, y.plane, r.offset(0, 0, 0), r.row, r.plane),
        *chunk_planes(schedule, x.blocks, lanes),
        *sections,
    ]
    return dims, blob


def _of_blocks(
    planes: Array, pointers: Sequence[int] | np.ndarray, channels: np.ndarray, block: int, unroll: int
) -> Iterator[Array]:
    """Weights of each filter block [planes, channels, block], only those of its kept channels."""
    count, filters, inputs = planes.shape
    blocks = len(pointers) - 1
    padded = np.zeros((count, blocks * block, inputs + -inputs % unroll), np.float32)
    padded[:, :filters, :inputs] = planes
    for index in range(blocks):
        first = channels[pointers[index] : pointers[index + 1]]
        wanted = (first[:, None] + np.arange(unroll)).ravel()
        yield padded[:, index * block : (index + 1) * block, wanted].transpose(0, 2, 1)


def _grouped(parts: list[Array], group: int) -> Array:
    """Weights by group of blocks, plane, block, channel and filter."""
    flat = [part.reshape(len(part), -1) for part in parts]
    groups = [flat[first : first + group] for first in range(0, len(flat), group)]
    return np.concatenate([np.concatenate(some, axis=1).ravel() for some in groups])


def tile_count(spec: KernelSpec) -> tuple[int, int]:
    height, width = spec.out_size
    across = -(-width // TILE)
    return -(-height // TILE) * across, across


def chunk_planes(schedule: Schedule, channel_blocks: int, lanes: int) -> tuple[int, int]:
    """Floats from plane to plane of U and of M, one vector more than needed lest planes alias in the cache."""
    u_vectors = channel_blocks * schedule.chunk + schedule.cols + 1
    return u_vectors * lanes, (schedule.group * schedule.chunk * schedule.vectors + 1) * lanes


def tile_bytes(spec: KernelSpec, vectors: int, target: Target) -> int:
    """Bytes of one tile in U, and in M for so many vectors of filters."""
    return 4 * PLANES * (spec.in_channels + vectors * target.vector)


def overlap(products: float, reading: float) -> float:
    """Cycles of products whose weights are fetched ahead of them."""
    return max(products, reading) + UNHIDDEN * min(products, reading)


def block_chunk(spec: KernelSpec, target: Target, vectors: int, cols: int, tiles: int) -> int:
    """Tiles a chunk where filter blocks are taken one by one."""
    return _chunk(tile_bytes(spec, vectors, target), cols, tiles, CACHE_BYTES)


def _chunk(bytes_a_tile: int, cols: int, tiles: int, most: int) -> int:
    return split(-(-tiles // cols), max(1, most // (bytes_a_tile * cols)))[0] * cols


TRANSFORM_IN = f"""\
    for (long b = 0; b < cblocks; b++) for (long t = 0; t < some; t++) {{
      const long top = (first + t) / across * {TILE}, left = (first + t) % across * {TILE};
      const float *xp = x + x0 + b * xplane + top * xrow + left * VL;
      float *up = U + (b * chunk + t) * VL;
      const long rows = there_y - top, columns = there_x - left;
      if (rows >= 6 && columns >= 6) npas_wino_in(xp, xrow, up, uplane);
      else npas_wino_in_edge(xp, xrow, up, uplane, rows, columns);
    }}
"""
"""C statements that transform the chunk of `some` tiles from `first` on."""


def transform_out(name: str, vectors: int) -> str:
    """C statements that transform the tiles of filter block `b`, in the group that begins with `g`, back."""
    return f"""\
        for (long v = 0; v < {vectors}; v++) for (long t = 0; t < some; t++) {{
          const long top = (first + t) / across * {TILE}, left = (first + t) % across * {TILE};
          const long fb = b * {vectors} + v;
          const long rows = height - top, columns = width - left;
          const float *mp = M + (((b - g) * chunk + t) * {vectors} + v) * VL, *bp = bias + fb * VL;
          float *yp = y + y0 + fb * yplane + top * yrow + left * VL;
          const float *rp = r + r0 + fb * rplane + top * rrow + left * VL;
          if (rows >= {TILE} && columns >= {TILE}) {name}_out(mp, mplane, bp, yp, yrow, rp, rrow, {TILE}, {TILE});
          else {name}_out_edge(mp, mplane, bp, yp, yrow, rp, rrow, rows, columns);
        }}
"""


TRANSFORMS = """
#define NPAS_IN(d0, d1, d2, d3, d4, d5, o) { \\
  const vf t0 = d4 - 4.0f * d2, t1 = d3 - 4.0f * d1, t2 = d4 - d2, t3 = 2.0f * (d3 - d1); \\
  o(0) = 4.0f * d0 - 5.0f * d2 + d4; o(1) = t0 + t1; o(2) = t0 - t1; o(3) = t2 + t3; o(4) = t2 - t3; \\
  o(5) = 4.0f * d1 - 5.0f * d3 + d5; }

INLINE void npas_wino_in(const float *x, long xrow, float *u, long uplane)
{
  vf a[6][6];
#define X(i, j) (*(const vf *)(x + (i) * xrow + (j) * VL))
#define COLUMN(j) { const vf d0 = X(0, j), d1 = X(1, j), d2 = X(2, j), d3 = X(3, j), d4 = X(4, j), d5 = X(5, j); \\
  NPAS_IN(d0, d1, d2, d3, d4, d5, A##j) }
#define A0(i) a[i][0]
#define A1(i) a[i][1]
#define A2(i) a[i][2]
#define A3(i) a[i][3]
#define A4(i) a[i][4]
#define A5(i) a[i][5]
  COLUMN(0) COLUMN(1) COLUMN(2) COLUMN(3) COLUMN(4) COLUMN(5)
#undef X
#undef COLUMN
#undef A0
#undef A1
#undef A2
#undef A3
#undef A4
#undef A5
#define ROW(i) { vf o[6]; NPAS_IN(a[i][0], a[i][1], a[i][2], a[i][3], a[i][4], a[i][5], O) \\
  for (int j = 0; j < 6; j++) *(vf *)(u + (i * 6 + j) * uplane) = o[j]; }
#define O(j) o[j]
  ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5)
#undef O
#undef ROW
}

static __attribute__((noinline)) void
npas_wino_in_edge(const float *x, long xrow, float *u, long uplane, long rows, long columns)
{
  float patch[36 * VL] __attribute__((aligned(64)));
  for (long i = 0; i < 6; i++) for (long j = 0; j < 6; j++)
    *(vf *)(patch + (i * 6 + j) * VL) =
      i < rows && j < columns ? *(const vf *)(x + i * xrow + j * VL) : npas_splat(0.0f);
  npas_wino_in(patch, 6 * VL, u, uplane);
}
"""


def output_functions(name: str, epilogue: Sequence[str]) -> str:
    value = apply(epilogue, "o[i][j]", "r + i * rrow + j * VL")
    return f"""
INLINE void {name}_out(const float *m, long mplane, const float *bias, float *y, long yrow, const float *r, long rrow,
  long rows, long columns)
{{
  vf a[4][6], o[4][4];
  const vf b = *(const vf *)bias;
#define M(i, j) (*(const vf *)(m + ((i) * 6 + (j)) * mplane))
#pragma GCC unroll 6
  for (int j = 0; j < 6; j++) {{
    const vf s = M(1, j) + M(2, j), t = M(1, j) - M(2, j), p = M(3, j) + M(4, j), q = M(3, j) - M(4, j);
    a[0][j] = M(0, j) + s + p; a[1][j] = t + 2.0f * q; a[2][j] = s + 4.0f * p; a[3][j] = t + 8.0f * q + M(5, j);
  }}
#undef M
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {{
    const vf s = a[i][1] + a[i][2], t = a[i][1] - a[i][2], p = a[i][3] + a[i][4], q = a[i][3] - a[i][4];
    o[i][0] = a[i][0] + s + p + b; o[i][1] = t + 2.0f * q + b;
    o[i][2] = s + 4.0f * p + b; o[i][3] = t + 8.0f * q + a[i][5] + b;
  }}
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) if (i < rows && j < columns) *(vf *)(y + i * yrow + j * VL) = {value};
}}

static __attribute__((noinline)) void {name}_out_edge(const float *m, long mplane, const float *bias, float *y,
  long yrow, const float *r, long rrow, long rows, long columns)
{{
  {name}_out(m, mplane, bias, y, yrow, r, rrow, rows, columns);
}}
"""


register("winograd", Winograd(), "conv")
