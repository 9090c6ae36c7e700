"""Layout changes: between planes, as the user hands them over or as a kernel wants them, and channel blocks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

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
from compiler.layout import LAYOUTS, PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = ("channels", "height", "width", "blocks_shared", "x0", "xrow", "xplane", "y0", "yrow", "yplane")

CALL_CYCLES = 200.0
FLOATS_A_CYCLE = 2.0
"""Speed of a transposition, and of a copy, from and to the second-level cache."""
SINGLE_CYCLES = 4.0
"""Moving a float of a square that is not full."""


class Convert(Family):
    """`pack` reads NCHW, `unpack` writes it, and `convert` changes the layout of a tensor inside the network.

    Planes differ from planes by the distance of rows only, and are copied. Between planes and channel blocks squares of
    VL channels x VL pixels are transposed in registers.
    """

    layouts = frozenset(product(LAYOUTS, LAYOUTS))

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        if spec.op == "convert" and spec.reads == spec.writes:
            return
        floats = spec.in_channels * spec.height * spec.width
        cycles = CALL_CYCLES + floats * _float_cycles(spec, target)
        if _copies(spec):
            pieces, blocks_shared = spec.in_channels, True
        else:
            blocks_shared = few_rows(spec.height, spec.threads)
            squares = -(-spec.height * spec.width // target.vector)
            pieces = squares * (-(-spec.in_channels // target.vector) if blocks_shared else 1)
        yield Schedule(
            "convert",
            pieces=pieces,
            blocks_shared=blocks_shared,
            cycles=share(cycles, pieces, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        name, body = _MOVES[use.x.lanes > 1, use.y.lanes > 1]
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)c; (void)s;
{body}}}
"""
        return Code(name, source, _transposition(target.vector) if use.x.lanes != use.y.lanes else "")

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        height, width = spec.height, spec.width
        if all(buffer.row == width * buffer.lanes for buffer in (use.x, use.y)):
            height, width = 1, height * width
        dims = [spec.in_channels, height, width, int(schedule.blocks_shared)]
        for buffer in (use.x, use.y):
            dims += [buffer.offset(0, 0, 0), buffer.row, buffer.plane]
        return dims, b""


def _copies(spec: KernelSpec) -> bool:
    """Whether planes become planes."""
    source = PLANAR if spec.op == "pack" else spec.reads
    return source == (PLANAR if spec.op == "unpack" else spec.writes)


def _float_cycles(spec: KernelSpec, target: Target) -> float:
    """Mean cycles of a float: whole squares are transposed, what is left of channels and rows moves one by one."""
    if _copies(spec):
        return 1 / FLOATS_A_CYCLE
    vector = target.vector
    whole = (spec.in_channels // vector * vector / spec.in_channels) * (spec.width // vector * vector / spec.width)
    return whole / FLOATS_A_CYCLE + (1 - whole) * SINGLE_CYCLES


_COPY = """\
  const npas_bands mine = npas_share(channels, height, blocks_shared, part, parts);
  for (long ch = mine.all.from / height; ch * height < mine.all.to; ch++)
    for (long i = npas_rows(mine, ch).from, end = npas_rows(mine, ch).to; i < end; i++)
    memcpy(y + y0 + ch * yplane + i * yrow, x + x0 + ch * xplane + i * xrow, sizeof(float) * width);
"""
_TO_BLOCKS = """\
  const long across = (width + VL - 1) / VL, blocks = (channels + VL - 1) / VL;
  const npas_bands mine = npas_share(blocks, height * across, blocks_shared, part, parts);
  if (height * width == 1) {
    for (long ch = mine.all.from * VL; ch < mine.all.to * VL; ch++)
      y[y0 + ch / VL * yplane + ch % VL] = ch < channels ? x[x0 + ch * xplane] : 0.0f;
    return;
  }
  for (long b = mine.all.from / mine.height; b * mine.height < mine.all.to; b++) {
    const long some = channels - b * VL < VL ? channels - b * VL : VL;
    const npas_range squares = npas_rows(mine, b);
    for (long i = squares.from / across; i * across < squares.to; i++) {
      const npas_range row = npas_within(squares, i, across);
      const float *xp = x + x0 + b * VL * xplane + i * xrow;
      float *yp = y + y0 + b * yplane + i * yrow, square[VL * VL] __attribute__((aligned(64)));
      for (long j = row.from * VL; j < width && j < row.to * VL; j += VL) {
        const long left = width - j < VL ? width - j : VL;
        if (some == VL && left == VL) {
          npas_transpose(xp + j, xplane, yp + j * VL, VL);
          continue;
        }
        memset(square, 0, sizeof square);
        for (long k = 0; k < some; k++) for (long l = 0; l < left; l++) square[k * VL + l] = xp[k * xplane + j + l];
        npas_transpose(square, VL, square, VL);
        memcpy(yp + j * VL, square, sizeof(float) * left * VL);
      }
    }
  }
"""
_TO_PLANES = """\
  const long across = (width + VL - 1) / VL, blocks = (channels + VL - 1) / VL;
  const npas_bands mine = npas_share(blocks, height * across, blocks_shared, part, parts);
  if (height * width == 1) {
    const long end = mine.all.to * VL < channels ? mine.all.to * VL : channels;
    for (long ch = mine.all.from * VL; ch < end; ch++) y[y0 + ch * yplane] = x[x0 + ch / VL * xplane + ch % VL];
    return;
  }
  for (long b = mine.all.from / mine.height; b * mine.height < mine.all.to; b++) {
    const long some = channels - b * VL < VL ? channels - b * VL : VL;
    const npas_range squares = npas_rows(mine, b);
    for (long i = squares.from / across; i * across < squares.to; i++) {
      const npas_range row = npas_within(squares, i, across);
      const float *xp = x + x0 + b * xplane + i * xrow;
      float *yp = y + y0 + b * VL * yplane + i * yrow, square[VL * VL] __attribute__((aligned(64)));
      for (long j = row.from * VL; j < width && j < row.to * VL; j += VL) {
        const long left = width - j < VL ? width - j : VL;
        if (some == VL && left == VL) {
          npas_transpose(xp + j * VL, VL, yp + j, yplane);
          continue;
        }
        memcpy(square, xp + j * VL, sizeof(float) * left * VL);
        npas_transpose(square, VL, square, VL);
        for (long k = 0; k < some; k++) for (long l = 0; l < left; l++) yp[k * yplane + j + l] = square[k * VL + l];
      }
    }
  }
"""
_MOVES = {
    (False, False): ("copy_planes", _COPY),
    (False, True): ("planes_to_blocks", _TO_BLOCKS),
    (True, False): ("blocks_to_planes", _TO_PLANES),
}
"""Name and body, by whether input and output are in blocks."""


def _transposition(lanes: int) -> str:
    """C function that transposes a square: its rows are interleaved with those half the square away, log2 times."""
    low = ", ".join(f"{k // 2 + lanes * (k % 2)}" for k in range(lanes))
    high = ", ".join(f"{lanes // 2 + k // 2 + lanes * (k % 2)}" for k in range(lanes))
    lines = [f"vf a0_{k} = *(const vfu *)(x + {k} * xstep);" for k in range(lanes)]
    rounds = lanes.bit_length() - 1
    for turn in range(rounds):
        for k in range(lanes // 2):
            pair = f"a{turn}_{k}, a{turn}_{k + lanes // 2}"
            lines.append(f"const vf a{turn + 1}_{2 * k} = NPAS_SHUFFLE({pair}, {low});")
            lines.append(f"const vf a{turn + 1}_{2 * k + 1} = NPAS_SHUFFLE({pair}, {high});")
    lines += [f"*(vfu *)(y + {k} * ystep) = a{rounds}_{k};" for k in range(lanes)]
    body = "".join(f"  {line}\n" for line in lines)
    return f"""
#ifdef __clang__
#define NPAS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define NPAS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){{__VA_ARGS__}})
#endif

INLINE void npas_transpose(const float *x, long xstep, float *y, long ystep)
{{
{body}}}
"""


register("convert", Convert(), "pack", "unpack", "convert")
