"""Depthwise kernels: one vector is a channel block, its weights stay in registers for a whole row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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
    split,
)
from compiler.kernels.epilogue import apply, suffix
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = (
    *("blocks", "height", "blocks_shared", "nx", "mx", "x0", "xrow", "xplane", "xdown", "y0", "yrow", "yplane"),
    *("r0", "rrow", "rplane", "bias_at", "w_at"),
)


class Depthwise(Family):
    """One filter a channel, any kernel and stride."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        height, width = spec.out_size
        taps = spec.kernel[0] * spec.kernel[1]
        held = taps if taps <= target.registers // 2 else 0
        longest = min(14, target.registers - held - spec.kernel[1] - 1)
        cols, count, shorter = split(width, longest)
        blocks = -(-spec.out_channels // target.vector)
        loads = spec.kernel[0] * ((cols - 1) * spec.stride[1] + spec.kernel[1])
        tile = max(taps * cols / 2, loads / 2) + 2.0 * cols + 6
        blocks_shared = few_rows(height, spec.threads)
        pieces = height * (blocks if blocks_shared else 1)
        yield Schedule(
            "depthwise",
            rows=1,
            cols=cols,
            entries=taps,
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=share(blocks * height * (count + shorter) * tile, pieces, spec.threads),
            bytes=activation_bytes(spec) + 4.0 * taps * spec.out_channels,
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        kh, kw = spec.kernel
        cols = split(spec.out_size[1], schedule.cols)
        tile = f"dw{kh}x{kw}_{schedule.cols}{'l' if cols[2] else ''}_s{spec.stride[1]}_d{spec.dilation[1]}"
        name = tile + suffix(spec.epilogue)
        taps = kh * kw
        held = taps <= target.registers // 2
        load = "".join(f"    {_weight(i)}\n" for i in range(taps)) if held else ""
        loops = _loop(spec, schedule.cols, "nx", held)
        if cols[2]:
            loops += _loop(spec, schedule.cols - 1, "mx", held)
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  const float *bias = (const float *)(c + bias_at), *weights = (const float *)(c + w_at);
  (void)mx; (void)s; (void)r; (void)r0; (void)rrow; (void)rplane;
  const npas_bands mine = npas_share(blocks, height, blocks_shared, part, parts);
  for (long b = mine.all.from / height; b * height < mine.all.to; b++) {{
    const npas_range rows = npas_rows(mine, b);
    const vf b0 = *(const vf *)(bias + b * VL);
    const float *w = weights + b * {taps} * VL;
{load}    for (long row = rows.from; row < rows.to; row++) {{
      const float *xp = x + x0 + b * xplane + row * xdown;
      float *yp = y + y0 + b * yplane + row * yrow;
      const float *rp = r + r0 + b * rplane + row * rrow;
{loops}    }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        lanes, taps = use.y.lanes, spec.kernel[0] * spec.kernel[1]
        blocks = use.y.blocks
        weight = np.zeros((blocks * lanes, taps), np.float32)
        weight[: spec.out_channels] = use.weight.reshape(spec.out_channels, taps)
        bias = np.zeros(blocks * lanes, np.float32)
        bias[: spec.out_channels] = use.bias
        sections, blob = pack_sections(bias, weight.reshape(blocks, lanes, taps).transpose(0, 2, 1))
        height, width = spec.out_size
        _, nx, mx = split(width, schedule.cols)
        r = use.r or use.y
        dims = [
            *(blocks, height, int(schedule.blocks_shared), nx, mx, use.x.offset(0, -spec.padding[0], -spec.padding[1])),
            *(spec.dilation[0] * use.x.row, use.x.plane, spec.stride[0] * use.x.row),
            *(use.y.offset(0, 0, 0), use.y.row, use.y.plane, r.offset(0, 0, 0), r.row, r.plane),
            *sections,
        ]
        return dims, blob


def _weight(tap: int) -> str:
    return f"vf w{tap} = *(const vf *)(w + {tap} * VL); KEEP(w{tap});"


def _loop(spec: KernelSpec, cols: int, count: str, held: bool) -> str:
    """A loop over tiles of one row. Weights that cannot be held for all of it are loaded for one kernel row each."""
    kh, kw = spec.kernel
    stride, dilation = spec.stride[1], spec.dilation[1]
    lines = [f"vf a{q} = b0;" for q in range(cols)]
    for i in range(kh):
        used = sorted({q * stride + j * dilation for q in range(cols) for j in range(kw)})
        lines.append(f"{{ const float *xr = xp + {i} * xrow;")
        lines += [] if held else [f"  {_weight(i * kw + j)}" for j in range(kw)]
        for position in used:
            lines.append(f"  {{ vf v = *(const vf *)(xr + {position} * VL); KEEP(v);")
            for j in range(kw):
                q, rest = divmod(position - j * dilation, stride)
                if rest == 0 and 0 <= q < cols:
                    lines.append(f"    a{q} += w{i * kw + j} * v;")
            lines.append("    UNTIL_HERE(v); }")
        lines += [] if held else [f"  UNTIL_HERE(w{i * kw + j});" for j in range(kw)]
        lines.append("}")
    lines += [f"*(vf *)(yp + {q} * VL) = {apply(spec.epilogue, f'a{q}', f'rp + {q} * VL')};" for q in range(cols)]
    body = "".join(f"        {line}\n" for line in lines)
    return (
        f"      for (long t = 0; t < {count}; t++) {{\n{body}"
        f"        xp += {cols * stride} * VL; yp += {cols} * VL; rp += {cols} * VL;\n      }}\n"
    )


register("depthwise", Depthwise(), "depthwise")
