"""Pooling: windows are cut at the border, so that no halo is read."""

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
from compiler.spec import KernelSpec
from compiler.target import Target

WINDOW_DIMS = (
    *("blocks", "height", "width", "blocks_shared", "in_height", "in_width", "ph", "pw"),
    *("x0", "xrow", "xplane", "y0", "yrow", "yplane"),
)
MOST_UNROLLED = 4
"""Rows, and columns, of a window that are written out."""
GLOBAL_DIMS = ("blocks", "in_height", "in_width", "x0", "xrow", "xplane", "y0", "yplane")

_STEPS = {
    "max_pool": ("npas_splat(-__builtin_inff())", "a = npas_select((v > a) | (v != v), v, a)", "a"),
    "avg_pool": ("npas_splat(0.0f)", "a += v", "a / (float)(kh * kw)"),
    "avg_pool_valid": ("npas_splat(0.0f)", "a += v", "a / (float)((bottom - top) * (right - left))"),
}


class WindowPool(Family):
    """Maximum or average over windows; `avg_pool` counts padding, `avg_pool_valid` does not."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        blocks = -(-spec.in_channels // target.vector)
        height, width = spec.out_size
        cycles = blocks * height * width * (spec.kernel[0] * spec.kernel[1] + 8.0)
        blocks_shared = few_rows(height, spec.threads)
        pieces = height * (blocks if blocks_shared else 1)
        yield Schedule(
            "window_pool",
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=share(cycles, pieces, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        start, step, result = _STEPS[spec.op]
        (kh, kw), (sh, sw) = spec.kernel, spec.stride
        name = f"{spec.op}{kh}x{kw}_s{sh}x{sw}"
        source = f"""
{signature(name)}
{{
{prelude(WINDOW_DIMS)}  (void)r; (void)c; (void)s;
  enum {{ kh = {kh}, kw = {kw} }};
  const npas_bands mine = npas_share(blocks, height, blocks_shared, part, parts);
  for (long b = mine.all.from / height; b * height < mine.all.to; b++) {{
  const npas_range rows = npas_rows(mine, b);
  for (long i = rows.from; i < rows.to; i++) for (long j = 0; j < width; j++) {{
    long top = i * {sh} - ph, left = j * {sw} - pw, bottom = top + kh, right = left + kw;
    const float *xp = x + x0 + b * xplane + top * xrow + left * VL;
    vf a = {start};
    if (top >= 0 && left >= 0 && bottom <= in_height && right <= in_width) {{
#pragma GCC unroll {MOST_UNROLLED}
      for (long p = 0; p < kh; p++)
#pragma GCC unroll {MOST_UNROLLED}
        for (long q = 0; q < kw; q++) {{
          const vf v = *(const vf *)(xp + p * xrow + q * VL);
          {step};
        }}
    }} else {{
      top = top < 0 ? 0 : top; left = left < 0 ? 0 : left;
      bottom = bottom > in_height ? in_height : bottom; right = right > in_width ? in_width : right;
      for (long p = top; p < bottom; p++) for (long q = left; q < right; q++) {{
        const vf v = *(const vf *)(x + x0 + b * xplane + p * xrow + q * VL);
        {step};
      }}
    }}
    *(vf *)(y + y0 + b * yplane + i * yrow + j * VL) = {result};
  }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y = use.x, use.y
        dims = [
            *(x.blocks, *spec.out_size, int(schedule.blocks_shared), x.height, x.width, *spec.padding),
            *(x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane),
        ]
        return dims, b""


class GlobalPool(Family):
    """Average over all pixels."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        blocks = -(-spec.in_channels // target.vector)
        cycles = share(blocks * (spec.height * spec.width * 1.0 + 10), blocks, spec.threads)
        yield Schedule("global_pool", pieces=blocks, cycles=cycles, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        source = f"""
{signature("global_pool")}
{{
{prelude(GLOBAL_DIMS)}  (void)r; (void)c; (void)s;
  const npas_range all = npas_part(blocks, part, parts);
  for (long b = all.from; b < all.to; b++) {{
    vf even = npas_splat(0.0f), odd = npas_splat(0.0f);
    for (long p = 0; p < in_height; p++) {{
      const float *xr = x + x0 + b * xplane + p * xrow;
      long q = 0;
      for (; q + 1 < in_width; q += 2) {{
        even += *(const vf *)(xr + q * VL);
        odd += *(const vf *)(xr + (q + 1) * VL);
      }}
      if (q < in_width) even += *(const vf *)(xr + q * VL);
    }}
    *(vf *)(y + y0 + b * yplane) = (even + odd) / (float)(in_height * in_width);
  }}
}}
"""
        return Code("global_pool", source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y = use.x, use.y
        return [x.blocks, x.height, x.width, x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.plane], b""


register("window_pool", WindowPool(), *_STEPS)
register("global_pool", GlobalPool(), "global_pool")
