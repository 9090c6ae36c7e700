"""Filter-vector kernels: vectors of filters x a tile of pixels, driven by a list of kept entries.

One form serves dense, filter- and channel-pruned, block-punched and linear layers: the mask is data. For every kept
(channel, position) of a filter block, the weights of the block are loaded as vectors and each pixel of the tile is
broadcast against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

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
    split,
)
from compiler.kernels.epilogue import apply
from compiler.spec import KernelSpec
from compiler.structure import block_shape
from compiler.target import Target
from pruning import Sparsity

FMA_LATENCY = 4
"""Cycles until a sum can be added to again, on the processors at hand."""
OUTSIDE_BYTES = 400_000
"""Weights beyond this are streamed once, filter blocks outermost (kernel study, section 3)."""

DIMS = (
    *("blocks", "ny", "my", "nx", "mx", "x0", "xrow", "y0", "yrow", "yplane", "r0", "rrow", "rplane"),
    *("outside", "bias_at", "ptr_at", "ix_at", "w_at"),
)


class FilterVector(Family):
    """Direct convolution and matrix-vector product."""

    def schedule(self, spec: KernelSpec, target: Target) -> Schedule:
        dense = replace(spec, sparsity=Sparsity())
        best_dense = min(self._candidates(dense, target, "dense"), key=lambda s: s.cycles)
        if spec.sparsity.rate == 1:
            return best_dense
        best = min(self._candidates(spec, target, "sparse"), key=lambda s: s.cycles)
        if best.cycles < best_dense.cycles:
            return replace(best, why=f"skips zeros: {best_dense.cycles / best.cycles:.2f}x fewer cycles than dense")
        return replace(best_dense, why=f"{spec.sparsity.scheme} zeros do not line up with {target.vector} filters")

    def _candidates(self, spec: KernelSpec, target: Target, form: str) -> Iterator[Schedule]:
        height, width = spec.out_size
        filter_blocks = -(-spec.out_channels // target.vector)
        planar = spec.in_channels <= PLANAR_CHANNELS
        touched = activation_bytes(spec)
        for vectors in range(1, 9):
            most = min(target.accumulators // vectors, (target.registers - 1) // vectors - 1)
            if filter_blocks % vectors or most < 1:
                continue
            for unroll in (1,) if planar else (1, 2, 4):
                share = kept_share(spec, vectors * target.vector, unroll)
                channels = spec.in_channels if unroll == 1 else -(-spec.in_channels // unroll)
                entries = max(share * channels * spec.kernel[0] * spec.kernel[1], 1.0)
                weight_bytes = 4.0 * entries * unroll * target.vector * filter_blocks
                for rows, cols in tiles(height, width, most):
                    yield Schedule(
                        form,
                        vectors,
                        rows,
                        cols,
                        unroll,
                        blocks_outside=weight_bytes > OUTSIDE_BYTES,
                        entries=entries,
                        cycles=_cycles(spec, vectors, rows, cols, unroll, entries) * filter_blocks / vectors,
                        bytes=touched + weight_bytes,
                    )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        height, width = spec.out_size
        rows, cols = split(height, schedule.rows), split(width, schedule.cols)
        tails = ("t" if rows[2] else "") + ("l" if cols[2] else "")
        step = spec.stride[1] * use.x.lanes
        words = [
            f"fv{schedule.vectors}_{schedule.rows}x{schedule.cols}{tails}_s{step}_u{schedule.unroll}",
            *spec.epilogue,
        ]
        name = "_".join(words)
        variants = [(schedule.rows, schedule.cols, "nx")]
        if cols[2]:
            variants.append((schedule.rows, schedule.cols - 1, "mx"))
        body = _row_of_tiles(variants, schedule, spec, step)
        if rows[2]:
            shorter = [(rows_ - 1, cols_, count) for rows_, cols_, count in variants]
            body = f"    if (ty < ny) {{\n{body}    }} else {{\n{_row_of_tiles(shorter, schedule, spec, step)}    }}\n"
        source = f"""
void {name}(const float *x, float *y, const float *r, const char *c, const int32_t *d)
{{
{prelude(DIMS)}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  const int32_t *ptr = (const int32_t *)(c + ptr_at), *index = (const int32_t *)(c + ix_at);
  const long outer = outside ? blocks : ny + my, inner = outside ? ny + my : blocks;
  (void)my; (void)mx; (void)r; (void)r0; (void)rrow; (void)rplane;
  for (long o = 0; o < outer; o++) for (long i = 0; i < inner; i++) {{
    const long b = outside ? o : i, ty = outside ? i : o;
    const long top = ty < ny ? ty * {schedule.rows} : ny * {schedule.rows} + (ty - ny) * {schedule.rows - 1};
    const int32_t *ix = index + ptr[b];
    const long n = ptr[b + 1] - ptr[b];
    const float *w0 = weights + (long)ptr[b] * {schedule.unroll * schedule.vectors} * VL;
    const float *bs = bias + b * {schedule.vectors} * VL;
    const float *xt = x + x0 + top * xrow;
    float *yt = y + y0 + b * {schedule.vectors} * yplane + top * yrow;
    const float *rt = r + r0 + b * {schedule.vectors} * rplane + top * rrow;
{body}  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        lanes = use.y.lanes
        block = schedule.vectors * lanes
        pointers, offsets, packed = pack_entries(spec, schedule, use, block)
        bias = np.zeros(-(-spec.out_channels // block) * block, np.float32)
        bias[: spec.out_channels] = use.bias
        sections, blob = pack_sections(bias, pointers, offsets, packed)
        height, width = spec.out_size
        _, ny, my = split(height, schedule.rows)
        _, nx, mx = split(width, schedule.cols)
        r = use.r or use.y
        dims = [
            *(len(pointers) - 1, ny, my, nx, mx),
            *(use.x.offset(0, -spec.padding[0], -spec.padding[1]), spec.stride[0] * use.x.row),
            *(use.y.offset(0, 0, 0), use.y.row, use.y.plane),
            *(r.offset(0, 0, 0), r.row, r.plane),
            int(schedule.blocks_outside),
            *sections,
        ]
        return dims, blob


PLANAR_CHANNELS = 4
"""Inputs of the network with at most so many channels stay in NCHW."""


def kept_share(spec: KernelSpec, filters: int, channels: int) -> float:
    """Expected share of entries of `filters` x `channels` weights that hold a kept group."""
    if spec.sparsity.rate == 1:
        return 1.0
    rows, cols = block_shape(spec.sparsity.scheme, spec.weight_shape)
    merged = max(1.0, filters / rows) * max(1.0, channels / cols)
    return float(1.0 - (1.0 - 1.0 / spec.sparsity.rate) ** merged)


def tiles(height: int, width: int, most: int) -> Iterator[tuple[int, int]]:
    """Balanced tile sizes of at most `most` pixels."""
    seen = set()
    for longest in range(1, min(width, most) + 1):
        cols = split(width, longest)[0]
        for tallest in range(1, min(height, most // cols, 7) + 1):
            tile = split(height, tallest)[0], cols
            if tile not in seen:
                seen.add(tile)
                yield tile


def _cycles(spec: KernelSpec, vectors: int, rows: int, cols: int, unroll: int, entries: float) -> float:
    height, width = spec.out_size
    total = 0.0
    row_length, row_count, row_shorter = split(height, rows)
    col_length, col_count, col_shorter = split(width, cols)
    for r, r_count in ((row_length, row_count), (row_length - 1, row_shorter)):
        for c, c_count in ((col_length, col_count), (col_length - 1, col_shorter)):
            pixels = r * c
            issue = max(vectors * pixels / 2, (pixels + vectors) / 2, FMA_LATENCY)
            tile = entries * (unroll * issue + 1.5) + 12 + 1.5 * vectors * pixels
            total += r_count * c_count * tile
    return total


def _row_of_tiles(variants: list[tuple[int, int, str]], schedule: Schedule, spec: KernelSpec, step: int) -> str:
    """Loops over the tiles of one row of tiles, the longer ones first."""
    text = "      const float *xp = xt; float *yp = yt; const float *rp = rt;\n"
    for rows, cols, count in variants:
        text += f"      for (long t = 0; t < {count}; t++) {{\n"
        text += _tile(rows, cols, schedule, spec, step)
        text += f"        xp += {cols * step}; yp += {cols} * VL; rp += {cols} * VL;\n      }}\n"
    return "    {\n" + text + "    }\n"


def _tile(rows: int, cols: int, schedule: Schedule, spec: KernelSpec, step: int) -> str:
    vectors = schedule.vectors
    sums = [(v, p, q) for v in range(vectors) for p in range(rows) for q in range(cols)]
    lines = [f"vf b{v} = *(const vf *)(bs + {v} * VL);" for v in range(vectors)]
    lines += [f"vf a{v}_{p}_{q} = b{v};" for v, p, q in sums]
    lines += ["const float *w = w0;", "for (long e = 0; e < n; e++) {", "  const float *x_0 = xp + ix[e];"]
    lines += [f"  const float *x_{p} = x_{p - 1} + xrow;" for p in range(1, rows)]
    for u in range(schedule.unroll):
        for v in range(vectors):
            lines += [f"  vf w{u}_{v} = *(const vf *)(w + {u * vectors + v} * VL); KEEP(w{u}_{v});"]
        for p in range(rows):
            for q in range(cols):
                lines.append(f"  {{ const float s = x_{p}[{u + q * step}];")
                lines += [f"    a{v}_{p}_{q} += w{u}_{v} * s;" for v in range(vectors)]
                lines.append("  }")
    lines += [f"  w += {schedule.unroll * vectors} * VL;", "}"]
    for v, p, q in sums:
        at = f"{v} * yplane + {p} * yrow + {q} * VL"
        residual = f"rp + {v} * rplane + {p} * rrow + {q} * VL"
        lines.append(f"*(vf *)(yp + {at}) = {apply(spec.epilogue, f'a{v}_{p}_{q}', residual)};")
    return "".join(f"        {line}\n" for line in lines)


def pack_entries(
    spec: KernelSpec, schedule: Schedule, use: Operands, block: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int32]], np.ndarray[tuple[int, ...], np.dtype[np.int32]], Array]:
    """The kept entries of each block of `block` filters.

    Returns:
        pointers [blocks + 1] into the entries, input offset of each entry in floats, and the weights
        [entries, unroll, block].
    """
    weight = use.weight.reshape(spec.out_channels, -1, *spec.kernel)
    filters, channels, height, width = weight.shape
    unroll = schedule.unroll
    blocks, deep = -(-filters // block), -(-channels // unroll)
    padded = np.zeros((blocks * block, deep * unroll, height, width), np.float32)
    padded[:filters, :channels] = weight
    # [blocks, block, deep, unroll, kh, kw] -> [blocks, deep, kh, kw, unroll, block]
    grouped = padded.reshape(blocks, block, deep, unroll, height, width).transpose(0, 2, 4, 5, 3, 1)
    kept = (grouped != 0).any(axis=(4, 5)) | (schedule.form == "dense")
    counts = kept.reshape(blocks, -1).sum(1)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    _, deep_at, row_at, col_at = np.nonzero(kept)
    channel = deep_at * unroll
    offsets = (
        channel // use.x.lanes * use.x.plane
        + channel % use.x.lanes
        + row_at * spec.dilation[0] * use.x.row
        + col_at * spec.dilation[1] * use.x.lanes
    )
    return pointers, offsets.astype(np.int32), grouped[kept]


register(FilterVector(), "conv", "linear")
