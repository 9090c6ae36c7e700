"""Tensors that depend on no input: they lie among the constants as their readers want them, and are copied."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.kernels.base import Code, Family, Operands, Schedule, activation_bytes, prelude, register, signature
from compiler.layout import BLOCKED, PLANAR
from compiler.spec import KernelSpec
from compiler.target import Target


class Stored(Family):
    """A copy of a constant."""

    layouts = frozenset({(BLOCKED, BLOCKED), (PLANAR, PLANAR)})

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        floats = spec.out_channels * spec.height * spec.width
        yield Schedule("constant", cycles=floats / 4.0 + 50, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        source = f"""
{signature("constant")}
{{
{prelude(("whole",))}  (void)r; (void)x; (void)s;
  memcpy(y, c, sizeof(float) * whole);
}}
"""
        return Code("constant", source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        y, (value,) = use.y, use.arrays
        placed = np.zeros(y.size, np.float32)
        placed[y.offsets(np.arange(value.size))] = value.reshape(-1)
        return [y.size], placed.tobytes()


register("constant", Stored(), "constant")
