"""Pixel-vector kernels: a tile of filters x vectors of pixels, for structures finer than a vector of filters.

Tensors lie in planes. A plane is one long row: the zero columns between its rows are computed like pixels, and made
zero again when they are stored. For every kept (channel, position) of a few filters, their weights are broadcast
against vectors of pixels, which start anywhere. The mask is data.
"""

from __future__ import annotations

from collections.abc import Iterator

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
from compiler.kernels.products import FMA_LATENCY, Indices, kept_share, pack_entries, streaming_cycles
from compiler.layout import LINE, PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

FILTERS = (8, 4, 2, 1)
"""Filters in a tile."""
NEAR_BYTES = 24_000
"""Input that a tile may read and still find in the first-level cache when the next filters read it."""
NEAR_LOAD, FAR_LOAD = 0.9, 1.7
"""Cycles of a vector load across two cache lines, from the first-level cache and from the second."""
OUTSIDE_BYTES = 400_000
"""Weights beyond this are streamed once, filters outermost."""
LIST_CYCLES = 20.0
"""A list of entries ends where the processor does not expect it."""
STORE_CYCLES, PART_CYCLES = 12.0, 6.0
"""Storing a vector of results; loading and storing a vector of sums between chunks of channels."""
PREFETCHING_FILTERS = 4
"""With so many filters there is time to fetch what the next entry reads into the first-level cache."""

DIMS = (
    *("blocks", "chunks", "nx", "mx", "x0", "xplane", "y0", "yplane", "r0", "rplane", "outside"),
    *("bias_at", "mask_at", "ptr_at", "ix_at", "w_at"),
)


class PixelVector(Family):
    """Convolutions of stride 1 whose input and output lie in planes with the same distance between rows."""

    layouts = frozenset({(PLANAR, PLANAR)})
    clears_columns = True

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        if spec.stride != (1, 1):
            return
        depthwise = spec.op == "depthwise"
        for form in ("dense", "sparse") if spec.sparsity.rate > 1 else ("dense",):
            for filters in (1,) if depthwise else FILTERS:
                for unroll in (1,) if depthwise else (1, 2, 4):
                    if spec.in_channels % unroll == 0:
                        yield from self._tiled(spec, target, form, filters, unroll)

    def _tiled(self, spec: KernelSpec, target: Target, form: str, filters: int, unroll: int) -> Iterator[Schedule]:
        channels, pitch = spec.weight_shape[1], spec.width + spec.padding[1]
        height, width = spec.out_size
        total = -(-((height - 1) * pitch + width) // target.vector)
        blocks = -(-spec.out_channels // filters)
        kept = kept_share(spec, filters, unroll) if form == "sparse" else 1.0
        entries = max(kept * channels // unroll * spec.kernel[0] * spec.kernel[1], 1.0)
        weight_bytes = 4.0 * entries * blocks * (unroll * filters + 1)
        most = _most_vectors(target, filters)
        for vectors in sorted({split(total, longest)[0] for longest in range(1, min(total, most) + 1)}):
            near = max(unroll, NEAR_BYTES // _reach(spec, vectors, target.vector) // unroll * unroll)
            fetched = filters >= PREFETCHING_FILTERS
            for chunk in {channels, near} if near < channels / 2 and not fetched else {channels}:
                load = NEAR_LOAD if chunk <= near or fetched else FAR_LOAD
                per_entry = unroll * max(filters * vectors / 2, load * vectors + filters / 2, FMA_LATENCY) + 2.0
                chunks, sums = -(-channels // chunk), filters * vectors
                tile = entries * per_entry + chunks * LIST_CYCLES
                outside = chunks == 1 and weight_bytes > OUTSIDE_BYTES
                tiles = -(-total // vectors)
                streamed = streaming_cycles(weight_bytes, 1 if outside else tiles)
                tile += STORE_CYCLES * sums + PART_CYCLES * sums * (chunks - 1)
                yield Schedule(
                    "pixel_vector",
                    form,
                    vectors,
                    filters=filters,
                    cols=vectors * target.vector,
                    chunk=chunk if chunks > 1 else 0,
                    unroll=unroll,
                    blocks_outside=outside,
                    entries=entries,
                    pieces=blocks * tiles,
                    cycles=share(blocks * tile * total / vectors + streamed, blocks * tiles, spec.threads),
                    bytes=activation_bytes(spec) + weight_bytes,
                )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        filters, unroll = schedule.filters, schedule.unroll
        vectors, _, shorter = split(_vectors(use, target.vector), schedule.vectors)
        tail, pieces = "l" if shorter else "", "k" if schedule.chunk else ""
        read = spec.in_channels * _reach(spec, vectors, target.vector)
        fetch = filters >= PREFETCHING_FILTERS and read > NEAR_BYTES
        name = f"pv{filters}_{vectors}{tail}_u{unroll}{pieces}{'f' * fetch}{suffix(spec.epilogue)}"
        body = _tile(schedule, spec, vectors, fetch, f"t * {vectors} * VL")
        if shorter:
            rest = _tile(schedule, spec, vectors - 1, fetch, f"(t * {vectors - 1} + nx) * VL")
            body = f"    if (t < nx) {{\n{body}    }} else {{\n{rest}    }}\n"
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  const int32_t *ptr = (const int32_t *)(c + ptr_at), *index = (const int32_t *)(c + ix_at);
  const int32_t *mask = (const int32_t *)(c + mask_at);
  const long tiles = nx + mx, outer = outside ? blocks : tiles, inner = outside ? tiles : blocks;
  (void)s; (void)r; (void)r0; (void)rplane;
  const npas_range all = npas_part(outer * inner, part, parts);
  for (long o = all.from / inner; o * inner < all.to; o++) {{
  const npas_range some = npas_within(all, o, inner);
  for (long k = 0; k < chunks; k++) for (long i = some.from; i < some.to; i++) {{
    const long b = outside ? o : i, t = outside ? i : o;
    const int32_t *ends = ptr + k * blocks + b, *ix = index + ends[0];
    const long n = ends[1] - ends[0];
    const float *w = weights + (long)ends[0] * {unroll * filters}, *bs = bias + b * {filters};
{body}  }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        weight = use.weight.reshape(spec.out_channels, -1, *spec.kernel)
        chunk = schedule.chunk or spec.in_channels
        pointers, where, packed = pack_chunks(weight, schedule, chunk, spec.op == "depthwise")
        steps = np.array([[use.x.plane], [spec.dilation[0] * use.x.row], [spec.dilation[1]]])
        offsets = (where @ steps)[:, 0].astype(np.int32)
        blocks = -(-spec.out_channels // schedule.filters)
        bias = np.zeros(blocks * schedule.filters, np.float32)
        bias[: spec.out_channels] = use.bias
        lanes = schedule.cols // schedule.vectors
        _, nx, mx = split(_vectors(use, lanes), schedule.vectors)
        sections, blob = pack_sections(bias, pixel_mask(use, lanes), pointers, offsets, packed)
        r = use.r or use.y
        dims = [
            *(blocks, (len(pointers) - 1) // blocks, nx, mx),
            *(use.x.offset(0, -spec.padding[0], -spec.padding[1]), use.x.plane),
            *(use.y.offset(0, 0, 0), use.y.plane, r.offset(0, 0, 0), r.plane),
            int(schedule.blocks_outside),
            *sections,
        ]
        return dims, blob


def pixel_mask(use: Operands, lanes: int) -> Indices:
    """All ones for the pixels of an output plane, zeros for the columns between its rows, in whole vectors."""
    across = np.arange(_vectors(use, lanes) * lanes)
    inside = (across % use.y.row < use.y.width) & (across < use.y.stretch)
    return np.where(inside, -1, 0).astype(np.int32)


def _vectors(use: Operands, lanes: int) -> int:
    """Vectors of an output plane."""
    rows = {buffer.row for buffer in (use.x, use.y, use.r) if buffer is not None}
    assert len(rows) == 1, f"planes of one kernel have rows {rows} floats apart"
    return -(-use.y.stretch // lanes)


def _most_vectors(target: Target, filters: int) -> int:
    """Vectors of pixels in a tile: beside the sums, either the weights or the pixels of an entry stay in registers."""
    fits = (
        vectors
        for vectors in range(1, target.accumulators // filters + 1)
        if filters * vectors + min(filters, vectors) + 1 <= target.registers
    )
    return max(fits, default=1)


def pack_chunks(
    weight: Array, schedule: Schedule, chunk: int, depthwise: bool = False
) -> tuple[Indices, Indices, Array]:
    """The kept entries of each block of filters, chunk of channels by chunk; see `pack_entries`.

    One place more than there are entries is returned, for kernels that look ahead.
    """
    starts, wheres, weights = [np.zeros(1, np.int32)], [], []
    for first in range(0, weight.shape[1], chunk):
        part = weight[:, first : first + chunk]
        pointers, where, packed = pack_entries(part, schedule.filters, schedule.unroll, schedule.form == "dense")
        where[:, 0] += np.repeat(np.arange(len(weight)), np.diff(pointers)) if depthwise else first
        starts.append(pointers[1:] + starts[-1][-1])
        wheres.append(where)
        weights.append(packed.reshape(-1))
    wheres.append(np.zeros((1, 3), np.int32))
    return np.concatenate(starts), np.concatenate(wheres), np.concatenate(weights)


def _reach(spec: KernelSpec, vectors: int, lanes: int) -> int:
    """Bytes of one input plane that a tile reads, in whole cache lines."""
    pitch, rows = spec.width + spec.padding[1], (spec.kernel[0] - 1) * spec.dilation[0]
    apart = spec.kernel[0] * (vectors * lanes // LINE + 1)
    return 4 * LINE * min(apart, (vectors * lanes + rows * pitch) // LINE + 1)


def _tile(schedule: Schedule, spec: KernelSpec, vectors: int, fetch: bool, at: str) -> str:
    filters, unroll = schedule.filters, schedule.unroll
    sums = [(f, v) for f in range(filters) for v in range(vectors)]
    lines = [
        f"const long at = {at};",
        "const float *xp = x + x0 + at;",
        f"float *yp = y + y0 + b * {filters} * yplane + at;",
        f"const float *rp = r + r0 + b * {filters} * rplane + at;",
        "const int32_t *m = mask + at;",
    ]
    lines += [f"vf a{f}_{v} = npas_splat(bs[{f}]);" for f, v in sums]
    if schedule.chunk:
        lines += ["if (k) {", *(f"  a{f}_{v} = *(const vfu *)(yp + {f} * yplane + {v} * VL);" for f, v in sums), "}"]
    lines += ["for (long e = 0; e < n; e++) {", "  const float *p = xp + ix[e];"]
    lines += ["  const float *next = xp + ix[e + 1];"] if fetch else []
    for u in range(unroll):
        if fetch:
            lines += [f"  __builtin_prefetch(next + {u} * xplane + {v} * VL);" for v in range(vectors + 1)]
        lines += [f"  {line}" for line in _products(filters, vectors, f"w[{u * filters} + {{}}]")]
        lines += ["  p += xplane;"] if u + 1 < unroll else []
    lines += [f"  w += {unroll * filters};", "}"]
    if schedule.chunk:
        lines += ["if (k + 1 < chunks) {"]
        lines += [f"  *(vfu *)(yp + {f} * yplane + {v} * VL) = a{f}_{v};" for f, v in sums]
        lines += ["  continue;", "}"]
    for f, v in sums:
        value = apply(spec.epilogue, f"a{f}_{v}", f"rp + {f} * rplane + {v} * VL", "vfu")
        lines.append(f"*(vfu *)(yp + {f} * yplane + {v} * VL) = (vf)(*(const vi *)(m + {v} * VL) & (vi){value});")
    return "".join(f"      {line}\n" for line in lines)


def _products(filters: int, vectors: int, weight: str) -> list[str]:
    """Multiply the pixels at `p` by a weight for each filter. The fewer of weights and pixels stay in registers."""
    pixels = [
        f"vf x{v} = *(const vfu *)(p + {v} * VL);" + (f" KEEP(x{v});" if filters > 1 else "") for v in range(vectors)
    ]
    weights = [f"vf t{f} = npas_splat({weight.format(f)}); KEEP(t{f});" for f in range(filters)]
    if filters <= vectors:
        inner = [[pixels[v], *(f"a{f}_{v} += t{f} * x{v};" for f in range(filters))] for v in range(vectors)]
        outer = weights
    else:
        inner = [[weights[f], *(f"a{f}_{v} += t{f} * x{v};" for v in range(vectors))] for f in range(filters)]
        outer = pixels
    return ["{", *(f"  {line}" for line in outer), *(f"  {{ {' '.join(group)} }}" for group in inner), "}"]


register("pixel_vector", PixelVector(), "conv", "depthwise")
