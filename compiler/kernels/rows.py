"""Functions of whole rows of planes: reductions and the softmax."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    prelude,
    register,
    share,
    signature,
)
from compiler.layout import PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = ("planes", "height", "width", "x0", "xrow", "xplane", "y0", "yrow", "yplane")


def _loop(neutral: str, vector_step: str, step: str) -> str:
    """C loop that collects a row at `p` in `a`: whole vectors in `m` first, then its lanes, then what is left."""
    return f"""\
      long j = 0;
      vf m = npas_splat({neutral});
      for (; j + VL <= width; j += VL) {{ const vf v = *(const vfu *)(p + j); {vector_step}; }}
      for (long l = 0; l < VL; l++) {{ const float v = m[l]; {step}; }}
      for (; j < width; j++) {{ const float v = p[j]; {step}; }}
"""


def _extreme(neutral: str, sign: str) -> str:
    return _loop(neutral, f"m = npas_select((v {sign} m) | (v != v), v, m)", f"a = v {sign} a || v != v ? v : a")


_LOWEST, _HIGHEST = "-__builtin_inff()", "__builtin_inff()"
_MAX = _extreme(_LOWEST, ">")
_SUM = _loop("0.0f", "m += v", "a += v")
_REDUCTIONS = {
    "max": (_LOWEST, _MAX, "a"),
    "min": (_HIGHEST, _extreme(_HIGHEST, "<"), "a"),
    "sum": ("0.0f", _SUM, "a"),
    "mean": ("0.0f", _SUM, "a / (float)width"),
}

_SOFTMAX = """\
      float *q = y + y0 + b * yplane + i * yrow, a = -__builtin_inff();
      {{
{max}      }}
      const float top = {top};
      vf total = npas_splat(0.0f);
      long j = 0;
      for (; j + VL <= width; j += VL) {{
        const vf v = npas_exp(*(const vfu *)(p + j) - top);
        total += v;
        *(vfu *)(q + j) = v;
      }}
      if (j < width) {{
        vf v = npas_splat(-__builtin_inff());
        memcpy(&v, p + j, sizeof(float) * (width - j));
        v = npas_exp(v - top);
        total += v;
        memcpy(q + j, &v, sizeof(float) * (width - j));
      }}
      float sum = 0.0f;
      for (long l = 0; l < VL; l++) sum += total[l];
      {finish}
"""


class Rows(Family):
    """One row after another; what a vector has beyond a row is never read."""

    layouts = frozenset({(PLANAR, PLANAR)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        rows = spec.in_channels * spec.height
        factor = 8.0 if "softmax" in spec.op else 1.0
        cycles = rows * (factor * spec.width / target.vector + 3 * target.vector + 10)
        yield Schedule(
            "rows",
            pieces=rows,
            blocks_shared=True,
            cycles=share(cycles, rows, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        body = _softmax(spec.op) if "softmax" in spec.op else _reduction(spec.op)
        name = f"rows_{spec.op}"
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)c; (void)s;
  const npas_range all = npas_part(planes * height, part, parts);
  for (long b = all.from / height; b * height < all.to; b++) {{
    const npas_range mine = npas_within(all, b, height);
    for (long i = mine.from; i < mine.to; i++) {{
      const float *p = x + x0 + b * xplane + i * xrow;
{body}    }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y = use.x, use.y
        places = (x.offset(0, 0, 0), x.row, x.plane, y.offset(0, 0, 0), y.row, y.plane)
        return [x.channels, x.height, x.width, *places], b""


def _reduction(op: str) -> str:
    start, loop, result = _REDUCTIONS[op.removeprefix("reduce_")]
    return f"      float a = {start};\n{loop}      y[y0 + b * yplane + i * yrow] = {result};\n"


def _softmax(op: str) -> str:
    """exp(x - max) / sum, or x - max - log(sum); zeros for a row that is masked everywhere."""
    top, scaled = "a", "for (j = 0; j < width; j++) q[j] *= share;"
    if op == "log_softmax":
        finish = "const float shift = top + logf(sum);\n      for (j = 0; j < width; j++) q[j] = p[j] - shift;"
    elif op == "masked_softmax":
        top = f"a == {_LOWEST} ? 0.0f : a"
        finish = f"const float share = sum == 0.0f ? 0.0f : 1.0f / sum;\n      {scaled}"
    else:
        finish = f"const float share = 1.0f / sum;\n      {scaled}"
    return _SOFTMAX.format(max=_MAX, top=top, finish=finish)


register("rows", Rows(), "softmax", "log_softmax", "masked_softmax", *(f"reduce_{kind}" for kind in _REDUCTIONS))
