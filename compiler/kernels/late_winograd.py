"""Winograd F(4x4, 3x3) whose weights stay 3x3 kernels, and are transformed when they are used.

Transformed weights are four times as many. Where they would come from beyond the second-level cache, reading them takes
longer than reading the kernels and transforming them again in every run; and what is stored is a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.graph import Array
from compiler.kernels.base import Code, Operands, Schedule, activation_bytes, prelude, register, signature
from compiler.kernels.epilogue import suffix
from compiler.kernels.products import accumulate
from compiler.kernels.winograd import (
    DIMS,
    PLANES,
    TRANSFORM_IN,
    TRANSFORMS,
    Winograd,
    block_chunk,
    constants,
    output_functions,
    overlap,
    products,
    transform_out,
)
from compiler.spec import KernelSpec
from compiler.target import Target

MORE_DIMS = ("piece", "wplane")
TAPS = 9
PIECE_BYTES = 450_000
"""What the transformed weights of one filter block may take at a time, beside the chunk of tiles."""
WEIGHT_CYCLES = 100.0
"""Transforming one vector of kernels."""


class LateWinograd(Winograd):
    """3x3 convolutions of stride 1 with more weights than the cache keeps.

    A filter block has its kept channels transformed a piece at a time; the products of a piece are added to those of
    the pieces before, and fetch the next one.
    """

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        for one in products(spec, target):
            chunk = block_chunk(spec, target, one.vectors, one.cols, one.near)
            pieces = -(-one.entries // _piece_entries(one.vectors, one.unroll, target.vector))
            added = (pieces - 1) * PLANES * one.tiles * one.filter_blocks
            weight_bytes = 4.0 * TAPS * one.weight_vectors * target.vector
            times = -(-one.near // chunk)
            transformed = times * one.weight_vectors * WEIGHT_CYCLES
            overlapped = overlap(one.product_cycles(chunk), times * one.memory_cycles(weight_bytes))
            cycles = one.cycles(one.output_cycles + added + overlapped, transformed)
            yield one.schedule("late_winograd", chunk, cycles, activation_bytes(spec) + weight_bytes)

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        vectors, cols, unroll = schedule.vectors, schedule.cols, schedule.unroll
        function = f"latewino{vectors}_{cols}_u{unroll}{suffix(spec.epilogue)}"
        lines = accumulate(vectors, 1, cols, unroll, target.vector, None)
        places = {
            f"a{v}_0_{q}": f"*(vf *)(mp + ({q} * {vectors} + {v}) * VL)" for q in range(cols) for v in range(vectors)
        }
        lines += ["if (done) {", *(f"  {name} += {place};" for name, place in places.items()), "}"]
        lines += [f"{place} = {name};" for name, place in places.items()]
        body = "".join(f"            {line}\n" for line in lines)
        source = f"""
{output_functions(function, spec.epilogue)}
{signature(function)}
{{
{prelude((*DIMS, *MORE_DIMS))}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  const int32_t *ptr = (const int32_t *)(c + ptr_at), *index = (const int32_t *)(c + ix_at);
  float *U = (float *)s, *M = U + {PLANES} * uplane, *W = M + {PLANES} * mplane;
  const long products = (tiles + {cols - 1}) / {cols};
  const npas_range filters = blocks_shared ? npas_part(blocks, part, parts) : (npas_range){{ 0, blocks }};
  const npas_range some_tiles = blocks_shared ? (npas_range){{ 0, products }} : npas_part(products, part, parts);
  const long last = some_tiles.to * {cols} < tiles ? some_tiles.to * {cols} : tiles;
  (void)group;
  for (long first = some_tiles.from * {cols}; first < last; first += chunk) {{
    const long some = last - first < chunk ? last - first : chunk;
{TRANSFORM_IN}    for (long b = filters.from; b < filters.to; b++) {{
      const long g = b, kept = ptr[b + 1] - ptr[b];
      long done = 0;
      do {{
        const long n = kept - done < piece ? kept - done : piece;
        const int32_t *ix = index + ptr[b] + done;
        const long count = n * {unroll * vectors}, lines = count * {TAPS} / {PLANES};
        const float *kernels = weights + (ptr[b] + done) * {unroll * vectors * TAPS} * VL;
        const float *next = kernels + count * {TAPS} * VL;
        for (long k = 0; k < count; k++) npas_wino_weight(kernels + k * {TAPS} * VL, W + k * VL, wplane);
        for (long p = 0; p < {PLANES}; p++) {{
          const float *w0 = W + p * wplane;
          for (long line = p * lines; line < (p + 1) * lines; line++) __builtin_prefetch(next + line * VL, 0, 2);
          for (long t = 0; t < some; t += {cols}) {{
            const float *xp = U + p * uplane + t * VL;
            float *mp = M + p * mplane + t * {vectors} * VL;
{body}          }}
        }}
        done += n;
      }} while (done < kept);
{transform_out(function, vectors)}    }}
  }}
}}
"""
        return Code(function, source, TRANSFORMS + _WEIGHT_TRANSFORM)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        kernels = use.weight.reshape(*use.weight.shape[:2], TAPS).transpose(2, 0, 1)
        dims, blob = constants(spec, schedule, use, kernels, lambda parts: _kernel_by_kernel(parts, use.y.lanes))
        lanes = use.y.lanes
        return [*dims, _piece_entries(schedule.vectors, schedule.unroll, lanes), _weight_plane(schedule, lanes)], blob

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        return super().scratch(spec, schedule, use) + 4 * PLANES * _weight_plane(schedule, use.y.lanes)

    def order_of_sums(self, schedule: Schedule) -> tuple[object, ...]:
        return *super().order_of_sums(schedule), schedule.vectors  # which decide how large a piece is


def _kernel_by_kernel(parts: list[Array], lanes: int) -> Array:
    """Weights by block, channel, vector of filters and tap: read in one stream."""
    vectors = [part.reshape(TAPS, -1, lanes) for part in parts]
    return np.concatenate([kernels.transpose(1, 0, 2).ravel() for kernels in vectors])


def _piece_entries(vectors: int, unroll: int, lanes: int) -> int:
    """Entries whose weights are transformed together."""
    return max(1, PIECE_BYTES // (4 * PLANES * vectors * unroll * lanes))


def _weight_plane(schedule: Schedule, lanes: int) -> int:
    """Floats from plane to plane of transformed weights, one vector more than needed lest planes alias in the cache."""
    return (_piece_entries(schedule.vectors, schedule.unroll, lanes) * schedule.unroll * schedule.vectors + 1) * lanes


_WEIGHT_TRANSFORM = """
#define NPAS_KERNEL(g0, g1, g2, o) { \\
  const vf s = (g0 + g2) * (-1.0f / 6), t = g1 * (1.0f / 6), u = g0 * (1.0f / 24) + g2 * (1.0f / 6), \\
    v = g1 * (1.0f / 12); \\
  o(0) = g0 * 0.25f; o(1) = s - t; o(2) = s + t; o(3) = u + v; o(4) = u - v; o(5) = g2; }

INLINE void npas_wino_weight(const float *g, float *w, long wplane)
{
  vf a[6][3];
#define G(i, j) (*(const vf *)(g + ((i) * 3 + (j)) * VL))
#define A0(i) a[i][0]
#define A1(i) a[i][1]
#define A2(i) a[i][2]
  NPAS_KERNEL(G(0, 0), G(1, 0), G(2, 0), A0)
  NPAS_KERNEL(G(0, 1), G(1, 1), G(2, 1), A1)
  NPAS_KERNEL(G(0, 2), G(1, 2), G(2, 2), A2)
#undef G
#undef A0
#undef A1
#undef A2
#pragma GCC unroll 6
  for (int i = 0; i < 6; i++) {
#define W(j) *(vf *)(w + (i * 6 + (j)) * wplane)
    NPAS_KERNEL(a[i][0], a[i][1], a[i][2], W)
#undef W
  }
}
"""


register("late_winograd", LateWinograd(), "conv")
