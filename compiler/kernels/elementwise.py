"""Sums, products and activations that could not be fused into a producer."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    few_rows,
    prelude,
    register,
    share,
    signature,
)
from compiler.kernels.epilogue import apply, suffix
from compiler.kernels.functions import PARTIAL
from compiler.layout import BLOCKED, PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = (
    *("blocks", "height", "width", "blocks_shared"),
    *("x0", "xrow", "xplane", "y0", "yrow", "yplane", "r0", "rrow", "rplane", "live"),
)

OPERATORS = {
    "mul": "u * v",
    "sub": "u - v",
    "div": "u / v",
    "max": "npas_select((u > v) | (u != u), u, v)",
    "min": "npas_select((u < v) | (u != u), u, v)",
    "pow": "npas_power(u, v)",
    "atan2": "npas_atan2(u, v)",
    "fmod": "npas_fmod(u, v)",
    "remainder": "npas_remainder(u, v)",
    "floor_div": "npas_floor_div(u, v)",
    "less": "npas_truth(u < v)",
    "less_equal": "npas_truth(u <= v)",
    "equal": "npas_truth(u == v)",
    "unequal": "npas_truth(u != v)",
    "keep_if": "(vf)((v != 0.0f) & (vi)u)",
    "keep_unless": "(vf)((v == 0.0f) & (vi)u)",
}
"""C expressions of two vectors u and v."""


class Elementwise(Family):
    """y = epilogue(x), or of x and r; `scale` multiplies by one value a channel first.

    A vector is a pixel of several channels, or several pixels of a row of planes. What a vector of the latter has
    beyond the row is computed and thrown away.
    """

    layouts = frozenset({(BLOCKED, BLOCKED), (PLANAR, PLANAR)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        if spec.op == "scale" and spec.reads == PLANAR:
            return
        if spec.reads == PLANAR:
            blocks, vectors = spec.in_channels, spec.width / target.vector + 1
        else:
            blocks, vectors = -(-spec.in_channels // target.vector), float(spec.width)
        blocks_shared = few_rows(spec.height, spec.threads)
        pieces = spec.height * (blocks if blocks_shared else 1)
        yield Schedule(
            "elementwise",
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=share(3.0 * blocks * spec.height * vectors + 10, pieces, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        kind = "".join(spec.epilogue[:1]) if spec.op == "arithmetic" else ""
        rest = spec.epilogue[1:] if spec.op == "arithmetic" else spec.epilogue
        planar = spec.reads == PLANAR
        words = {"scale": "scaled", "arithmetic": f"arithmetic_{kind}"}.get(spec.op, "pixelwise")
        name = f"{'rows_' if planar else ''}{words}{suffix(rest)}"
        step, kept = ("VL", "vfu") if planar else ("1", "vf")
        at = "b * {0}plane + i * {0}row + " + ("j" if planar else "j * VL")
        value = f"(*(const {kept} *)(x + x0 + {at.format('x')}))"
        second = f"(*(const {kept} *)(r + r0 + {at.format('r')}))"
        if spec.op == "scale":
            value = f"({value} * *(const vf *)(r + r0 + b * rplane))"
        if kind:
            value = f"({OPERATORS[kind]})"
        value = apply(rest, value, f"r + r0 + {at.format('r')}", kept)
        given = f"const vf u = (*(const {kept} *)(x + x0 + {at.format('x')})), v = {second};" if kind else ""
        store = f"const vf z = {value};\n    float *q = y + y0 + {at.format('y')};\n    "
        if planar:
            store += "if (width - j >= VL) *(vfu *)q = z; else memcpy(q, &z, sizeof(float) * (width - j));"
        elif PARTIAL.intersection(function.partition("(")[0] for function in (kind, *rest)):
            store += "*(vf *)q = b + 1 < blocks ? z : (vf)((vi)z & channels);"
        else:
            store += "*(vf *)q = z;"
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)c; (void)s; (void)r0; (void)rrow; (void)rplane;
  vi channels;
  for (long l = 0; l < VL; l++) channels[l] = l < live ? -1 : 0;
  (void)channels;
  const npas_bands mine = npas_share(blocks, height, blocks_shared, part, parts);
  for (long b = mine.all.from / height; b * height < mine.all.to; b++) {{
    const npas_range rows = npas_rows(mine, b);
    for (long i = rows.from; i < rows.to; i++) for (long j = 0; j < width; j += {step}) {{
      {given}
      {store}
    }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        dims = [use.x.blocks, use.x.height, use.x.width, int(schedule.blocks_shared)]
        for buffer in (use.x, use.y, use.r or use.y):
            dims += [buffer.offset(0, 0, 0), buffer.row, buffer.plane]
        return [*dims, use.x.channels - (use.x.blocks - 1) * use.x.lanes], b""


register("elementwise", Elementwise(), "add", "activation", "scale", "arithmetic")
