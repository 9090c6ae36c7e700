"""Filter-vector kernels: vectors of filters x a tile of pixels, driven by a list of kept entries.

One form serves dense, filter- and channel-pruned, block-punched and linear layers: the mask is data. For every kept
(channel, position) of a filter block, the weights of the block are loaded as vectors and each pixel of the tile is
broadcast against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

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
    accumulate,
    bytes_of_weights,
    channels_an_index,
    fetch_ahead,
    kept_share,
    pack_entries,
    streaming_cycles,
    tile_cycles,
    tiles,
    vector_counts,
)
from compiler.layout import BLOCKED, PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

INPUT_SPEED = 25.0
"""Bytes a cycle of an input that comes from beyond the second-level cache for every filter block; most of it hides."""

DIMS = (
    *("blocks", "ny", "my", "nx", "mx", "x0", "xrow", "y0", "yrow", "yplane", "r0", "rrow", "rplane"),
    *("outside", "bias_at", "ptr_at", "ix_at", "w_at"),
)


class FilterVector(Family):
    """Direct convolution and matrix-vector product; single pixels are read, which may lie in planes or blocks."""

    layouts = frozenset({(BLOCKED, BLOCKED), (PLANAR, BLOCKED)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        for form in ("dense", "sparse") if spec.sparsity.rate > 1 else ("dense",):
            for vectors, most in vector_counts(spec, target):
                for unroll in (1,) if spec.reads == PLANAR else channels_an_index(spec, form, target):
                    yield from self._tiled(spec, target, form, vectors, most, unroll)

    def _tiled(
        self, spec: KernelSpec, target: Target, form: str, vectors: int, most: int, unroll: int
    ) -> Iterator[Schedule]:
        filter_blocks = -(-spec.out_channels // target.vector)
        kept = kept_share(spec, vectors * target.vector, unroll) if form == "sparse" else 1.0
        entries = max(kept * -(-spec.in_channels // unroll) * spec.kernel[0] * spec.kernel[1], 1.0)
        weight_bytes = bytes_of_weights(spec, entries, unroll, target)
        bytes_ = activation_bytes(spec) + weight_bytes
        for rows, cols in tiles(*spec.out_size, most):
            product = _cycles(spec, vectors, rows, cols, unroll, entries, target.vector) * filter_blocks / vectors
            again = streaming_cycles(weight_bytes, -(-spec.out_size[0] // rows))
            once = streaming_cycles(weight_bytes, 1) + _reading_again(spec, filter_blocks / vectors)
            pieces = filter_blocks // vectors * -(-spec.out_size[0] // rows)
            yield Schedule(
                "filter_vector",
                form,
                vectors,
                rows,
                cols,
                unroll=unroll,
                blocks_outside=once < again,
                entries=entries,
                pieces=pieces,
                cycles=share(product + min(once, again), pieces, spec.threads),
                bytes=bytes_,
            )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        height, width = spec.out_size
        rows, cols = split(height, schedule.rows), split(width, schedule.cols)
        tails = ("t" if rows[2] else "") + ("l" if cols[2] else "")
        step = spec.stride[1] * use.x.lanes
        tile = f"fv{schedule.vectors}_{schedule.rows}x{schedule.cols}{tails}_s{step}_u{schedule.unroll}"
        weight_bytes = bytes_of_weights(spec, schedule.entries, schedule.unroll, target)
        before = fetch_ahead(schedule.vectors, schedule.unroll, target, weight_bytes)
        name = tile + ("f" if before else "") + suffix(spec.epilogue)
        variants = [(schedule.rows, schedule.cols, "nx")]
        if cols[2]:
            variants.append((schedule.rows, schedule.cols - 1, "mx"))
        body = _row_of_tiles(variants, schedule, spec, step, before)
        if rows[2]:
            shorter = [(rows_ - 1, cols_, count) for rows_, cols_, count in variants]
            last = _row_of_tiles(shorter, schedule, spec, step, before)
            body = f"    if (ty < ny) {{\n{body}    }} else {{\n{last}    }}\n"
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  const int32_t *ptr = (const int32_t *)(c + ptr_at), *index = (const int32_t *)(c + ix_at);
  const long outer = outside ? blocks : ny + my, inner = outside ? ny + my : blocks;
  (void)my; (void)mx; (void)s; (void)r; (void)r0; (void)rrow; (void)rplane;
  const npas_range all = npas_part(outer * inner, part, parts);
  for (long o = all.from / inner; o * inner < all.to; o++) {{
  const npas_range some = npas_within(all, o, inner);
  for (long i = some.from; i < some.to; i++) {{
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
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        block = schedule.vectors * use.y.lanes
        weight = use.weight.reshape(spec.out_channels, -1, *spec.kernel)
        pointers, where, packed = pack_entries(weight, block, schedule.unroll, schedule.form == "dense")
        steps = np.array([[0], [spec.dilation[0] * use.x.row], [spec.dilation[1] * use.x.lanes]])
        channel = where[:, 0] // use.x.lanes * use.x.plane + where[:, 0] % use.x.lanes
        offsets = (channel + (where @ steps)[:, 0]).astype(np.int32)
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


def _reading_again(spec: KernelSpec, filter_blocks: float) -> float:
    """Cycles lost on the input when filter blocks are the outer loop."""
    rows = min(1.0, spec.kernel[0] / spec.stride[0])
    read = 4.0 * spec.in_channels * spec.height * spec.width * rows
    return filter_blocks * read / INPUT_SPEED if read > SECOND_CACHE else 0.0


def _cycles(spec: KernelSpec, vectors: int, rows: int, cols: int, unroll: int, entries: float, lanes: int) -> float:
    height, width = spec.out_size
    total = 0.0
    row_length, row_count, row_shorter = split(height, rows)
    col_length, col_count, col_shorter = split(width, cols)
    for r, r_count in ((row_length, row_count), (row_length - 1, row_shorter)):
        for c, c_count in ((col_length, col_count), (col_length - 1, col_shorter)):
            if count := r_count * c_count:
                total += count * tile_cycles(vectors, r, c, unroll, entries, lanes)
    return total


def _row_of_tiles(
    variants: list[tuple[int, int, str]], schedule: Schedule, spec: KernelSpec, step: int, before: Sequence[str]
) -> str:
    """Loops over the tiles of one row of tiles, the longer ones first."""
    text = "      const float *xp = xt; float *yp = yt; const float *rp = rt;\n"
    for rows, cols, count in variants:
        text += f"      for (long t = 0; t < {count}; t++) {{\n"
        text += _tile(rows, cols, schedule, spec, step, before)
        text += f"        xp += {cols * step}; yp += {cols} * VL; rp += {cols} * VL;\n      }}\n"
    return "    {\n" + text + "    }\n"


def _tile(rows: int, cols: int, schedule: Schedule, spec: KernelSpec, step: int, before: Sequence[str]) -> str:
    lines = accumulate(schedule.vectors, rows, cols, schedule.unroll, step, "bs", before)
    for v in range(schedule.vectors):
        for p in range(rows):
            for q in range(cols):
                at = f"{v} * yplane + {p} * yrow + {q} * VL"
                residual = f"rp + {v} * rplane + {p} * rrow + {q} * VL"
                lines.append(f"*(vf *)(yp + {at}) = {apply(spec.epilogue, f'a{v}_{p}_{q}', residual)};")
    return "".join(f"        {line}\n" for line in lines)


register("filter_vector", FilterVector(), "conv", "linear")
