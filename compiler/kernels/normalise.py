"""Normalisation by statistics of the input itself: over a pixel's channels, or over groups of channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.graph import Normalise
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
)
from compiler.kernels.functions import identifier, number
from compiler.layout import PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

PIXEL_DIMS = (
    *("blocks", "channels", "height", "width", "x0", "xrow", "xplane", "y0", "yrow", "yplane"),
    *("scale_at", "shift_at", "live_at"),
)
GROUP_DIMS = (
    *("groups", "channels", "height", "width", "x0", "xrow", "xplane", "y0", "yrow", "yplane"),
    *("scale_at", "shift_at"),
)


class OverChannels(Family):
    """Layer norm: mean and variance of every pixel; lanes that are no channels do not count, whatever is in them."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        pixels = spec.height * spec.width
        cycles = pixels * (4.0 * -(-spec.in_channels // target.vector) + 4 * target.vector)
        cycles = share(cycles, pixels, spec.threads)
        yield Schedule("over_channels", pieces=pixels, cycles=cycles, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        op = use.op
        assert isinstance(op, Normalise)
        name = f"over_channels_{'mean' if op.centred else 'rms'}_{identifier(repr(op.eps))}"
        mean = """\
    vf m = npas_splat(0.0f);
    for (long b = 0; b < blocks; b++) m += (vf)(*(const vi *)(xp + b * xplane) & live[b]);
    float mean = 0.0f;
    for (long l = 0; l < VL; l++) mean += m[l];
    mean /= (float)channels;
"""
        source = f"""
{signature(name)}
{{
{prelude(PIXEL_DIMS)}  (void)r; (void)s;
  const vf *scale = (const vf *)(c + scale_at), *shift = (const vf *)(c + shift_at);
  const vi *live = (const vi *)(c + live_at);
  const npas_range all = npas_part(height * width, part, parts);
  for (long at = all.from; at < all.to; at++) {{
    const long i = at / width, j = at % width;
    const float *xp = x + x0 + i * xrow + j * VL;
    float *yp = y + y0 + i * yrow + j * VL;
{mean if op.centred else "    const float mean = 0.0f;"}
    vf n = npas_splat(0.0f);
    for (long b = 0; b < blocks; b++) {{
      const vf v = (vf)((vi)(*(const vf *)(xp + b * xplane) - mean) & live[b]);
      n += v * v;
    }}
    float variance = 0.0f;
    for (long l = 0; l < VL; l++) variance += n[l];
    const float factor = 1.0f / __builtin_sqrtf(variance / (float)channels + {number(op.eps)});
    for (long b = 0; b < blocks; b++)
      *(vf *)(yp + b * yplane) = (*(const vf *)(xp + b * xplane) - mean) * factor * scale[b] + shift[b];
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y = use.x, use.y
        padded = x.blocks * x.lanes
        rows = np.zeros((3, padded), np.float32)
        rows[:2, : x.channels] = use.arrays
        rows.view(np.int32)[2, : x.channels] = -1
        sections, blob = pack_sections(*rows)
        places = (x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane)
        return [x.blocks, x.channels, x.height, x.width, *places, *sections], blob


class OverGroups(Family):
    """Group and instance norm, on planes."""

    layouts = frozenset({(PLANAR, PLANAR)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        rows = spec.in_channels * spec.height
        cycles = rows * (4.0 * spec.width / target.vector + 4 * target.vector)
        yield Schedule("over_groups", cycles=cycles, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        op = use.op
        assert isinstance(op, Normalise)
        name = f"over_groups_{identifier(repr(op.eps))}"
        loop = "for (long k = g * own; k < (g + 1) * own; k++) for (long i = 0; i < height; i++)"
        source = f"""
{signature(name)}
{{
{prelude(GROUP_DIMS)}  (void)r; (void)s;
  const float *scale = (const float *)(c + scale_at), *shift = (const float *)(c + shift_at);
  const long own = channels / groups;
  for (long g = 0; g < groups; g++) {{
    double sum = 0.0, squares = 0.0;
    {loop} {{
      const float *p = x + x0 + k * xplane + i * xrow;
      float a = 0.0f;
      for (long j = 0; j < width; j++) a += p[j];
      sum += a;
    }}
    const float mean = (float)(sum / (double)(own * height * width));
    {loop} {{
      const float *p = x + x0 + k * xplane + i * xrow;
      float a = 0.0f;
      for (long j = 0; j < width; j++) a += (p[j] - mean) * (p[j] - mean);
      squares += a;
    }}
    const float factor = 1.0f / __builtin_sqrtf((float)(squares / (double)(own * height * width)) + {number(op.eps)});
    {loop} {{
      const float *p = x + x0 + k * xplane + i * xrow;
      float *q = y + y0 + k * yplane + i * yrow;
      for (long j = 0; j < width; j++) q[j] = (p[j] - mean) * factor * scale[k] + shift[k];
    }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y, op = use.x, use.y, use.op
        assert isinstance(op, Normalise)
        sections, blob = pack_sections(*use.arrays)
        places = (x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane)
        return [op.groups, x.channels, x.height, x.width, *places, *sections], blob


register("over_channels", OverChannels(), "layer_norm")
register("over_groups", OverGroups(), "group_norm")
