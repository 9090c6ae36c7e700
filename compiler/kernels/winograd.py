"""Winograd F(4x4, 3x3): 36 products instead of 144 a tile of 4x4 outputs (Lavin and Gray, 1509.09308).

A chunk of tiles is transformed into 36 planes U, a filter block's 36 products are taken on them, and their result M is
transformed back at once, so that both stay in the second-level cache. The products run over a list of kept channels
that all 36 planes share: whole kernels removed in blocks stay removed under the weight transform, so that the gains of
Winograd and of pruning multiply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    THIRD_CACHE_SPEED,
    accumulate,
    channels_an_index,
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
"""What U and M of a chunk may take of the third-level cache, where products are taken plane by plane."""
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


class Winograd(Family):
    """3x3 convolutions of stride 1."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        geometry = (spec.kernel, spec.stride, spec.dilation)
        if geometry != ((3, 3), (1, 1), (1, 1)) or spec.in_channels < target.vector or min(spec.out_size) < TILE - 1:
            return
        tiles = _tile_count(spec)[0]
        filter_blocks = -(-spec.out_channels // target.vector)
        channel_blocks = -(-spec.in_channels // target.vector)
        inputs, outputs = tiles * channel_blocks * INPUT_CYCLES, tiles * filter_blocks * OUTPUT_CYCLES
        for form in ("dense", "sparse") if spec.sparsity.rate > 1 else ("dense",):
            for vectors, most in vector_counts(spec, target):
                for unroll in channels_an_index(spec, form, target):
                    kept = kept_share(spec, vectors * target.vector, unroll, 9) if form == "sparse" else 1.0
                    entries = max(kept * -(-spec.in_channels // unroll), 1.0)
                    weight_bytes = 4.0 * PLANES * entries * unroll * target.vector * filter_blocks
                    widths = {split(tiles, longest)[0] for longest in range(1, min(tiles, most) + 1)}
                    for cols, blocks_shared in product(widths, (False, True) if spec.threads > 1 else (False,)):
                        pieces = filter_blocks // vectors if blocks_shared else -(-tiles // cols)
                        near = tiles if blocks_shared else min(tiles, -(-pieces // spec.threads) * cols)
                        for group, chunk in _passes(spec, target, vectors, cols, near):
                            groups = sum(-(-min(chunk, tiles - at) // cols) for at in range(0, tiles, chunk))
                            products = PLANES * groups * tile_cycles(vectors, 1, cols, unroll, entries, target.vector)
                            work = outputs + products * filter_blocks / vectors
                            streamed = streaming_cycles(weight_bytes, -(-near // chunk))
                            if group > 1:
                                work += 2 * _tile_bytes(spec, vectors * group, target) * tiles / THIRD_CACHE_SPEED
                            yield Schedule(
                                "winograd",
                                form,
                                vectors,
                                1,
                                cols,
                                chunk=chunk,
                                group=group,
                                unroll=unroll,
                                entries=entries,
                                pieces=pieces,
                                blocks_shared=blocks_shared,
                                cycles=inputs + share(work + streamed, pieces, spec.threads)
                                if blocks_shared
                                else streamed + share(inputs + work, pieces, spec.threads),
                                bytes=activation_bytes(spec) + weight_bytes,
                            )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        vectors, cols = schedule.vectors, schedule.cols
        name = f"wino{vectors}_{cols}_u{schedule.unroll}{suffix(spec.epilogue)}"
        lines = accumulate(vectors, 1, cols, schedule.unroll, target.vector, None)
        for v in range(vectors):
            lines += [f"*(vf *)(mp + ({q} * {vectors} + {v}) * VL) = a{v}_0_{q};" for q in range(cols)]
        sums = "".join(f"          {line}\n" for line in lines)
        source = f"""
{_output(name, spec.epilogue)}
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
    for (long b = 0; b < cblocks; b++) for (long t = 0; t < some; t++) {{
      const long top = (first + t) / across * {TILE}, left = (first + t) % across * {TILE};
      const float *xp = x + x0 + b * xplane + top * xrow + left * VL;
      float *up = U + (b * chunk + t) * VL;
      const long rows = there_y - top, columns = there_x - left;
      if (rows >= 6 && columns >= 6) npas_wino_in(xp, xrow, up, uplane);
      else npas_wino_in_edge(xp, xrow, up, uplane, rows, columns);
    }}
    for (long g = filters.from / group * group; g < filters.to; g += group) {{
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
      for (long b = start; b < end; b++) for (long v = 0; v < {vectors}; v++) for (long t = 0; t < some; t++) {{
        const long top = (first + t) / across * {TILE}, left = (first + t) % across * {TILE};
        const long fb = b * {vectors} + v;
        const long rows = height - top, columns = width - left;
        const float *mp = M + (((b - g) * chunk + t) * {vectors} + v) * VL, *bp = bias + fb * VL;
        float *yp = y + y0 + fb * yplane + top * yrow + left * VL;
        const float *rp = r + r0 + fb * rplane + top * rrow + left * VL;
        if (rows >= {TILE} && columns >= {TILE}) {name}_out(mp, mplane, bp, yp, yrow, rp, rrow, {TILE}, {TILE});
        else {name}_out_edge(mp, mplane, bp, yp, yrow, rp, rrow, rows, columns);
      }}
    }}
  }}
}}
"""
        return Code(name, source, _TRANSFORMS)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        lanes = use.y.lanes
        block = schedule.vectors * lanes
        kernels = (use.weight != 0).any(axis=(2, 3), keepdims=True)
        pointers, where, _ = pack_entries(kernels.astype(np.float32), block, schedule.unroll, schedule.form == "dense")
        offsets = (where[:, 0] // lanes * schedule.chunk * lanes + where[:, 0] % lanes).astype(np.int32)
        weights = _pack_planes(transform_weight(use.weight), pointers, where[:, 0], block, schedule)
        bias = np.zeros(-(-spec.out_channels // block) * block, np.float32)
        bias[: spec.out_channels] = use.bias
        sections, blob = pack_sections(bias, pointers, offsets, weights)
        tiles, across = _tile_count(spec)
        x, y, r = use.x, use.y, use.r or use.y
        dims = [
            *(x.blocks, len(pointers) - 1, schedule.group, tiles, across, schedule.chunk),
            *(int(schedule.blocks_shared), *spec.out_size),
            *(x.height + x.halo[0] + spec.padding[0], x.width + x.halo[1] + spec.padding[1]),
            *(x.offset(0, -spec.padding[0], -spec.padding[1]), x.row, x.plane),
            *(y.offset(0, 0, 0), y.row, y.plane, r.offset(0, 0, 0), r.row, r.plane),
            *_planes(schedule, x.blocks, lanes),
            *sections,
        ]
        return dims, blob

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        return 4 * PLANES * sum(_planes(schedule, use.x.blocks, use.y.lanes))


def transform_weight(weight: Array) -> Array:
    """G g G^T of each 3x3 kernel: [O, I, 3, 3] to [36, O, I]."""
    both = np.kron(WEIGHT_TRANSFORM, WEIGHT_TRANSFORM)  # [36, 9]
    kernels = weight.reshape(-1, both.shape[1]).T.astype(np.float64)
    return (both @ kernels).astype(np.float32).reshape(PLANES, *weight.shape[:2])


def _pack_planes(
    planes: Array, pointers: Sequence[int] | np.ndarray, channels: np.ndarray, block: int, schedule: Schedule
) -> Array:
    """Weights in the order in which they are read: group of blocks, plane, block, entry, channel, filter."""
    _, filters, inputs = planes.shape
    blocks, deep = len(pointers) - 1, -(-inputs // schedule.unroll) * schedule.unroll
    padded = np.zeros((PLANES, blocks * block, deep), np.float32)
    padded[:, :filters, :inputs] = planes
    parts: list[Array] = []
    for index in range(blocks):
        first = channels[pointers[index] : pointers[index + 1]]
        wanted = (first[:, None] + np.arange(schedule.unroll)).ravel()
        rows = padded[:, index * block : (index + 1) * block, wanted]
        parts.append(rows.transpose(0, 2, 1).reshape(PLANES, -1))
    groups = [parts[first : first + schedule.group] for first in range(0, blocks, schedule.group)]
    return np.concatenate([np.concatenate(group, axis=1).ravel() for group in groups])


def _tile_count(spec: KernelSpec) -> tuple[int, int]:
    height, width = spec.out_size
    across = -(-width // TILE)
    return -(-height // TILE) * across, across


def _planes(schedule: Schedule, channel_blocks: int, lanes: int) -> tuple[int, int]:
    """Floats from plane to plane of U and of M, one vector more than needed lest planes alias in the cache."""
    u_vectors = channel_blocks * schedule.chunk + schedule.cols + 1
    return u_vectors * lanes, (schedule.group * schedule.chunk * schedule.vectors + 1) * lanes


def _tile_bytes(spec: KernelSpec, vectors: int, target: Target) -> int:
    """Bytes of one tile in U, and in M for so many vectors of filters."""
    return 4 * PLANES * (spec.in_channels + vectors * target.vector)


def _passes(spec: KernelSpec, target: Target, vectors: int, cols: int, tiles: int) -> Iterator[tuple[int, int]]:
    """Filter blocks a group, and tiles a chunk.

    Block by block, a chunk has as many whole tiles of the product as the cache holds, in chunks of equal size. Weights
    that do not stay in the cache are then read once a chunk: plane by plane, chunks may be as large as the next cache,
    so that weights are read a few times or once.
    """
    products = -(-tiles // cols)
    all_blocks = -(-spec.out_channels // (vectors * target.vector))
    for group, most in ((1, CACHE_BYTES), (all_blocks, MOST_BYTES)):
        chunk = split(products, max(1, most // (_tile_bytes(spec, vectors * group, target) * cols)))[0] * cols
        yield group, chunk
        if chunk >= tiles:
            return


_TRANSFORMS = """
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


def _output(name: str, epilogue: Sequence[str]) -> str:
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
