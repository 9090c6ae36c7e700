"""Layout changes: NCHW as the user hands it over, to and from blocked buffers."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.kernels.base import Code, Family, Operands, Schedule, activation_bytes, prelude, register, signature
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = ("channels", "height", "width", "inner0", "irow", "iplane", "ilanes")

_BODIES = {
    "pack": "y[inner0 + ch / ilanes * iplane + i * irow + j * ilanes + ch % ilanes] = "
    "ch < channels ? x[(ch * height + i) * width + j] : 0.0f;",
    "unpack": "y[(ch * height + i) * width + j] = "
    "x[inner0 + ch / ilanes * iplane + i * irow + j * ilanes + ch % ilanes];",
}
_ROWS = {
    "pack": "memcpy(y + inner0 + ch * iplane + i * irow, x + (ch * height + i) * width, sizeof(float) * width);",
    "unpack": "memcpy(y + (ch * height + i) * width, x + inner0 + ch * iplane + i * irow, sizeof(float) * width);",
}
_LAST = {"pack": "(channels + ilanes - 1) / ilanes * ilanes", "unpack": "channels"}


class Convert(Family):
    """`pack` writes a blocked buffer from NCHW, `unpack` does the reverse."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        elements = spec.in_channels * spec.height * spec.width
        yield Schedule("convert", cycles=1.0 * elements + 10, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        source = f"""
{signature(spec.op)}
{{
{prelude(DIMS)}  (void)r; (void)c; (void)s;
  const long last = {_LAST[spec.op]};
  if (ilanes == 1) {{
    for (long ch = 0; ch < channels; ch++) for (long i = 0; i < height; i++)
      {_ROWS[spec.op]}
    return;
  }}
  for (long ch = 0; ch < last; ch++) for (long i = 0; i < height; i++) for (long j = 0; j < width; j++)
    {_BODIES[spec.op]}
}}
"""
        return Code(spec.op, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        inner = use.y if spec.op == "pack" else use.x
        dims = [spec.in_channels, spec.height, spec.width]
        return [*dims, inner.offset(0, 0, 0), inner.row, inner.plane, inner.lanes], b""


RESAMPLE_DIMS = (
    *("from", "to", "before", "height", "width", "sh", "sw"),
    *("x0", "xrow", "xplane", "y0", "yrow", "yplane", "lanes"),
)


class Resampling(Family):
    """Every n-th pixel, with channels moved up between zeros."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        height, width = spec.out_size
        yield Schedule("resample", cycles=1.5 * spec.out_channels * height * width, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        source = f"""
{signature("resample")}
{{
{prelude(RESAMPLE_DIMS)}  (void)r; (void)c; (void)s;
  for (long ch = 0; ch < to; ch++) {{
    const long k = ch - before, live = k >= 0 && k < from;
    const float *xp = x + x0 + (live ? k / lanes * xplane + k % lanes : 0);
    float *yp = y + y0 + ch / lanes * yplane + ch % lanes;
    for (long i = 0; i < height; i++) for (long j = 0; j < width; j++)
      yp[i * yrow + j * lanes] = live ? xp[i * sh * xrow + j * sw * lanes] : 0.0f;
  }}
}}
"""
        return Code("resample", source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y = use.x, use.y
        dims = [
            *(spec.in_channels, y.blocks * y.lanes, use.first_channel, y.height, y.width, *spec.stride),
            *(x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane, y.lanes),
        ]
        return dims, b""


register("resample", Resampling(), "resample")
register("convert", Convert(), "pack", "unpack")
