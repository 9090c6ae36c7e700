"""Products of two matrices that are both computed: attention.

A tile of rows of the first x vectors of columns of the second stays in registers. A transposed second matrix is turned
first, a batch entry at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.graph import MatMul
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
from compiler.kernels.functions import identifier, number
from compiler.layout import PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = ("batch", "m", "n", "k", "x0", "xrow", "xplane", "r0", "rrow", "rplane", "y0", "yrow", "yplane")
ROWS = 4


class Product(Family):
    """(B, M, K) x (B, K, N), or (B, N, K) if transposed, on planes."""

    layouts = frozenset({(PLANAR, PLANAR)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        rows, columns = spec.out_size
        macs = spec.in_channels * rows * columns * spec.width
        vectors = max(1, (target.accumulators - 2) // ROWS)
        pieces = spec.in_channels * -(-rows // ROWS)
        yield Schedule(
            "matmul",
            vectors=vectors,
            rows=ROWS,
            pieces=pieces,
            blocks_shared=True,
            cycles=share(0.7 * macs / target.vector, pieces, spec.threads),
            bytes=activation_bytes(spec),
        )

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        op = use.op
        assert isinstance(op, MatMul)
        vectors, rows = schedule.vectors, schedule.rows
        name = f"matmul{rows}x{vectors}{'t' if op.transposed else ''}_{identifier(repr(op.factor))}"
        turn = """
    for (long j = 0; j < n; j++) for (long l = 0; l < k; l++) turned[l * pitch + j] = rb[j * rrow + l];
    rb = turned;
"""
        tiles = "".join(
            f"      {'else ' if height < rows else ''}if (left >= {height}) {{\n"
            f"{_tile(height, vectors, op.factor)}      i += {height};\n      }}\n"
            for height in range(rows, 0, -1)
        )
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)c; (void)s;
  const long pitch = {"(n + VL - 1) / VL * VL" if op.transposed else "rrow"};
  float *turned = (float *)s;
  (void)turned;
  const long tiles = (m + {rows - 1}) / {rows};
  const npas_range all = npas_part(batch * tiles, part, parts);
  for (long b = all.from / tiles; b * tiles < all.to; b++) {{
    const npas_range mine = npas_within(all, b, tiles);
    const long end = mine.to * {rows} < m ? mine.to * {rows} : m;
    const float *rb = r + r0 + b * rplane;
{turn if op.transposed else ""}
    for (long i = mine.from * {rows}; i < end;) {{
      const long left = end - i;
      const float *xp = x + x0 + b * xplane + i * xrow;
      float *yp = y + y0 + b * yplane + i * yrow;
{tiles}    }}
  }}
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, r, y = use.x, use.r, use.y
        assert r is not None
        places = [number for buffer in (x, r, y) for number in (buffer.offset(0, 0, 0), buffer.row, buffer.plane)]
        return [x.channels, x.height, y.width, x.width, *places], b""

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        op = use.op
        assert isinstance(op, MatMul)
        spare = 16 * schedule.vectors
        return 4 * (use.x.width * (use.y.width + spare) + spare) if op.transposed else 0


def _tile(rows: int, vectors: int, factor: float) -> str:
    """Columns in strips of `vectors`, then of one vector; what a vector has beyond the last column is thrown away."""
    return "        long j = 0;\n" + "".join(_strip(rows, count, factor) for count in dict.fromkeys((vectors, 1)))


def _strip(rows: int, vectors: int, factor: float) -> str:
    sums = [(p, v) for p in range(rows) for v in range(vectors)]
    lines = [f"vf a{p}_{v} = npas_splat(0.0f);" for p, v in sums]
    lines += ["for (long l = 0; l < k; l++) {", "  const float *q = rb + l * pitch + j;"]
    lines += [f"  const vf w{v} = *(const vfu *)(q + {v} * VL);" for v in range(vectors)]
    for p in range(rows):
        lines.append(
            f"  {{ const float t = xp[{p} * xrow + l]; "
            + " ".join(f"a{p}_{v} += w{v} * t;" for v in range(vectors))
            + " }"
        )
    lines.append("}")
    for p, v in sums:
        lines.append(
            f"{{ const vf z = a{p}_{v} * {number(factor)}; const long some = n - j - {v} * VL; "
            f"float *q = yp + {p} * yrow + j + {v} * VL; "
            "if (some >= VL) *(vfu *)q = z; else if (some > 0) memcpy(q, &z, sizeof(float) * some); }"
        )
    condition = f"j + {vectors - 1} * VL < n" if vectors > 1 else "j < n"
    body = "".join(f"          {line}\n" for line in lines)
    return f"        for (; {condition}; j += {vectors} * VL) {{\n{body}        }}\n"


register("matmul", Product(), "matmul")
