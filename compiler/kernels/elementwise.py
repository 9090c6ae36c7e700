"""Sums, products a channel and activations that could not be fused into a producer."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.kernels.base import Code, Family, Operands, Schedule, activation_bytes, prelude, register, signature
from compiler.kernels.epilogue import apply
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = ("blocks", "height", "width", "x0", "xrow", "xplane", "y0", "yrow", "yplane", "r0", "rrow", "rplane")


class Elementwise(Family):
    """y = epilogue(x), pixel by pixel; `scale` multiplies by one value a channel first."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        vectors = -(-spec.in_channels // target.vector) * spec.height * spec.width
        yield Schedule("elementwise", cycles=3.0 * vectors + 10, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        name = "_".join(("scaled" if spec.op == "scale" else "pixelwise", *spec.epilogue))
        at = "b * {0}plane + i * {0}row + j * VL"
        value = f"(*(const vf *)(x + x0 + {at.format('x')}))"
        if spec.op == "scale":
            value = f"({value} * *(const vf *)(r + r0 + b * rplane))"
        value = apply(spec.epilogue, value, f"r + r0 + {at.format('r')}")
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)c; (void)s; (void)r0; (void)rrow; (void)rplane;
  for (long b = 0; b < blocks; b++) for (long i = 0; i < height; i++) for (long j = 0; j < width; j++)
    *(vf *)(y + y0 + {at.format("y")}) = {value};
}}
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        dims = [use.x.blocks, use.x.height, use.x.width]
        for buffer in (use.x, use.y, use.r or use.y):
            dims += [buffer.offset(0, 0, 0), buffer.row, buffer.plane]
        return dims, b""


register("elementwise", Elementwise(), "add", "activation", "scale")
