"""Interpolation: every output row is a weighted sum of a few input rows, and likewise every column."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.graph import Array, Indices
from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    few_rows,
    pack_sections,
    prelude,
    register,
    share,
    signature,
)
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = (
    *("blocks", "height", "width", "blocks_shared", "in_width", "taps", "across"),
    *("x0", "xrow", "xplane", "y0", "yrow", "yplane"),
    *("rows_at", "row_weights_at", "cols_at", "col_weights_at"),
)


class Interpolation(Family):
    """A row of the input's width is mixed from its rows, then interpolated along itself."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        blocks, height = -(-spec.out_channels // target.vector), spec.out_size[0]
        cycles = blocks * height * (3.0 * spec.width + 4.0 * spec.out_size[1])
        blocks_shared = few_rows(height, spec.threads)
        pieces = height * (blocks if blocks_shared else 1)
        yield Schedule(
            "resize",
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=share(cycles, pieces, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        source = f"""
{signature("resize")}
{{
{prelude(DIMS)}  (void)r;
  const int32_t *rows = (const int32_t *)(c + rows_at), *cols = (const int32_t *)(c + cols_at);
  const float *row_weights = (const float *)(c + row_weights_at), *col_weights = (const float *)(c + col_weights_at);
  vf *mixed = (vf *)s;
  const npas_bands mine = npas_share(blocks, height, blocks_shared, part, parts);
  for (long b = mine.all.from / height; b * height < mine.all.to; b++)
  for (long i = npas_rows(mine, b).from; i < npas_rows(mine, b).to; i++) {{
    const float *xp = x + x0 + b * xplane;
    for (long j = 0; j < in_width; j++) {{
      vf a = npas_splat(0.0f);
      for (long t = 0; t < taps; t++)
        a += row_weights[i * taps + t] * *(const vf *)(xp + rows[i * taps + t] * xrow + j * VL);
      mixed[j] = a;
    }}
    for (long j = 0; j < width; j++) {{
      vf a = npas_splat(0.0f);
      for (long t = 0; t < across; t++) a += col_weights[j * across + t] * mixed[cols[j * across + t]];
      *(vf *)(y + y0 + b * yplane + i * yrow + j * VL) = a;
    }}
  }}
}}
"""
        return Code("resize", source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y = use.x, use.y
        (rows, row_weights), (cols, col_weights) = (_taps(matrix) for matrix in use.arrays)
        sections, blob = pack_sections(rows, row_weights, cols, col_weights)
        places = (x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane)
        return [
            x.blocks,
            y.height,
            y.width,
            int(schedule.blocks_shared),
            x.width,
            rows.shape[1],
            cols.shape[1],
            *places,
            *sections,
        ], blob

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        return 4 * use.x.width * use.x.lanes


def _taps(matrix: Array) -> tuple[Indices, Array]:
    """Columns and values of the non-zeros of each row, padded with zeros to the same number."""
    count = max(int((matrix != 0).sum(1).max()), 1)
    order = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count].astype(np.int32)
    return order, np.ascontiguousarray(np.take_along_axis(matrix, order, 1), np.float32)


register("resize", Interpolation(), "resize")
