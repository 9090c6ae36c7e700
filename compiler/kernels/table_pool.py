"""Pooling over windows of any position and size: adaptive pooling, `ceil_mode`, dilation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.graph import TablePool
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
    *("blocks", "height", "width", "blocks_shared", "x0", "xrow", "xplane", "y0", "yrow", "yplane"),
    *("rows_at", "cols_at", "row_counts_at", "col_counts_at"),
)

_STEPS = {
    "max": ("npas_splat(-__builtin_inff())", "a = npas_select((v > a) | (v != v), v, a)", "a"),
    "avg": ("npas_splat(0.0f)", "a += v", "a / (row_counts[i] * col_counts[j])"),
}


class Windows(Family):
    """Windows as lists of (first, pixels, step)."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        blocks = -(-spec.in_channels // target.vector)
        pixels = spec.height * spec.width + 8 * spec.out_size[0] * spec.out_size[1]
        blocks_shared = few_rows(spec.out_size[0], spec.threads)
        pieces = spec.out_size[0] * (blocks if blocks_shared else 1)
        yield Schedule(
            "table_pool",
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=share(2.0 * blocks * pixels, pieces, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        kind = spec.op.removeprefix("table_")
        start, step, result = _STEPS[kind]
        name = f"table_pool_{kind}"
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)s;
  const int32_t *rows = (const int32_t *)(c + rows_at), *cols = (const int32_t *)(c + cols_at);
  const float *row_counts = (const float *)(c + row_counts_at), *col_counts = (const float *)(c + col_counts_at);
  (void)row_counts; (void)col_counts;
  const npas_bands mine = npas_share(blocks, height, blocks_shared, part, parts);
  for (long b = mine.all.from / height; b * height < mine.all.to; b++)
  for (long i = npas_rows(mine, b).from; i < npas_rows(mine, b).to; i++) for (long j = 0; j < width; j++) {{
    const int32_t *u = rows + 3 * i, *w = cols + 3 * j;
    vf a = {start};
    for (long p = 0; p < u[1]; p++) for (long q = 0; q < w[1]; q++) {{
      const vf v = *(const vf *)(x + x0 + b * xplane + (u[0] + p * u[2]) * xrow + (w[0] + q * w[2]) * VL);
      {step};
    }}
    *(vf *)(y + y0 + b * yplane + i * yrow + j * VL) = {result};
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y, op = use.x, use.y, use.op
        assert isinstance(op, TablePool)
        windows = [np.array(part, np.int32) for part in (op.rows, op.cols)]
        counts = [np.array(part, np.float32) for part in (op.row_counts, op.col_counts)]
        sections, blob = pack_sections(*windows, *counts)
        places = (x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane)
        return [x.blocks, y.height, y.width, int(schedule.blocks_shared), *places, *sections], blob


register("table_pool", Windows(), "table_max", "table_avg")
