"""Elementwise functions that are fused behind a kernel's sums."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.kernels.functions import FUNCTIONS, SLOW, call, identifier
from compiler.target import Target

_HEADER = """\
#include <math.h>
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

"""

FEW_REGISTERS = 16
"""With no more than these, an operand of a product must not give up its register to the sum: what the compiler then
moves about costs a tenth of the time. With more of them operands come from memory for nothing."""


def header(target: Target) -> str:
    """What every generated function needs: the vector types and the activations. NaN passes through all of them."""
    until_here = f'__asm__("" : : "{target.keep}"(v))' if target.registers <= FEW_REGISTERS else ""
    return _HEADER.format(vector=target.vector, keep=target.keep, until_here=until_here) + FUNCTIONS + SLOW


def apply(epilogue: Sequence[str], value: str, residual: str, vector: str = "vf") -> str:
    """C expression of the epilogue on `value`, reading the residual as a `vector` from the address `residual`."""
    for part in epilogue:
        value = f"({value} + *(const {vector} *)({residual}))" if part == "add" else call(part, value)
    return value


def suffix(epilogue: Sequence[str]) -> str:
    """What an epilogue adds to the name of a function."""
    return "".join(f"_{identifier(part)}" for part in epilogue)
