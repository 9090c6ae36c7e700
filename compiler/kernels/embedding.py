"""Rows of a table, by number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.kernels.base import Code, Family, Operands, Schedule, activation_bytes, prelude, register, signature
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = ("count", "blocks", "entries", "x0", "xplane", "y0", "yplane")


class Lookup(Family):
    """Copies a row of the table to each pixel. A number that names no row, or is none, gives NaN."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        vectors = -(-spec.out_channels // target.vector) * spec.in_channels
        yield Schedule("embedding", cycles=4.0 * vectors, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        source = f"""
{signature("embedding")}
{{
{prelude(DIMS)}  (void)r; (void)s;
  for (long t = 0; t < count; t++) {{
    const float number = x[x0 + t / VL * xplane + t % VL];
    const int found = number >= 0.0f && number < (float)entries;
    const float *row = (const float *)c + (found ? (long)number : 0) * blocks * VL;
    for (long b = 0; b < blocks; b++)
      *(vf *)(y + y0 + b * yplane + t * VL) = found ? *(const vf *)(row + b * VL) : npas_splat(__builtin_nanf(""));
  }}
}}
"""
        return Code("embedding", source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y, (table,) = use.x, use.y, use.arrays
        padded = np.zeros((len(table), y.blocks * y.lanes), np.float32)
        padded[:, : table.shape[1]] = table
        dims = [x.channels, y.blocks, len(table), x.offset(0, 0, 0), x.plane, y.offset(0, 0, 0), y.plane]
        return dims, padded.tobytes()


register("embedding", Lookup(), "embedding")
