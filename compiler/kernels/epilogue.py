"""Elementwise functions that are fused behind a kernel's sums."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.target import Target

ACTIVATIONS = {
    "relu": "npas_relu",
    "relu6": "npas_relu6",
    "hard_swish": "npas_hard_swish",
    "hard_sigmoid": "npas_hard_sigmoid",
}

_HEADER = """\
#include <stdint.h>
#include <string.h>
#include <time.h>

#define VL {vector}
typedef float vf __attribute__((vector_size(4 * VL), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * VL), may_alias));
typedef float vfu __attribute__((vector_size(4 * VL), may_alias, aligned(4)));
#define KEEP(v) __asm__("" : "+{keep}"(v))
#define UNTIL_HERE(v) {until_here}
#define INLINE static inline __attribute__((always_inline))

INLINE vf npas_splat(float a) {{ return a - (vf){{0}}; }}
INLINE vf npas_select(vi m, vf a, vf b) {{ return (vf)((m & (vi)a) | (~m & (vi)b)); }}
INLINE vf npas_relu(vf a) {{ return (vf)(~(a < npas_splat(0.0f)) & (vi)a); }}
INLINE vf npas_relu6(vf a) {{ return npas_select(a > npas_splat(6.0f), npas_splat(6.0f), npas_relu(a)); }}
INLINE vf npas_hard_sigmoid(vf a) {{ return npas_relu6(a + 3.0f) * (1.0f / 6.0f); }}
INLINE vf npas_hard_swish(vf a) {{ return a * npas_hard_sigmoid(a); }}
"""

FEW_REGISTERS = 16
"""With no more than these, an operand of a product must not give up its register to the sum: what the compiler then
moves about costs a tenth of the time. With more of them operands come from memory for nothing."""


def header(target: Target) -> str:
    """What every generated function needs: the vector types and the activations. NaN passes through all of them."""
    until_here = f'__asm__("" : : "{target.keep}"(v))' if target.registers <= FEW_REGISTERS else ""
    return _HEADER.format(vector=target.vector, keep=target.keep, until_here=until_here)


def apply(epilogue: Sequence[str], value: str, residual: str, vector: str = "vf") -> str:
    """C expression of the epilogue on `value`, reading the residual as a `vector` from the address `residual`."""
    for part in epilogue:
        value = f"({value} + *(const {vector} *)({residual}))" if part == "add" else f"{ACTIVATIONS[part]}({value})"
    return value
