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

typedef struct {{ long from, to; }} npas_range;

/* What part `part` of `parts` does of `pieces`. */
INLINE npas_range npas_part(long pieces, long part, long parts)
{{
  return (npas_range){{ pieces * part / parts, pieces * (part + 1) / parts }};
}}

/* What of `all` lies in the o-th run of `size` pieces, counted from the start of that run. */
INLINE npas_range npas_within(npas_range all, long o, long size)
{{
  const long from = all.from - o * size, to = all.to - o * size;
  return (npas_range){{ from > 0 ? from : 0, to < size ? to : size }};
}}

/* What part `part` of `parts` does of so many blocks of rows: a share of the rows of each, or of all rows in turn. */
typedef struct {{ npas_range all, rows; long height; }} npas_bands;

INLINE npas_bands npas_share(long blocks, long height, long blocks_shared, long part, long parts)
{{
  const npas_range every = {{ 0, blocks * height }};
  if (blocks_shared) return (npas_bands){{ npas_part(every.to, part, parts), every, height }};
  return (npas_bands){{ every, npas_part(height, part, parts), height }};
}}

/* Its rows in block b. */
INLINE npas_range npas_rows(npas_bands mine, long b)
{{
  const npas_range turn = npas_within(mine.all, b, mine.height);
  return (npas_range){{ turn.from > mine.rows.from ? turn.from : mine.rows.from,
    turn.to < mine.rows.to ? turn.to : mine.rows.to }};
}}

"""

FEW_REGISTERS = 16
"""With no more than these, an operand of a product must not give up its register to the sum: what the compiler then
moves about costs a tenth of the time. With more of them operands come from memory for nothing."""


def header(target: Target) -> str:
    """What every generated function needs: vectors, shares of work, and activations. NaN passes through all of them."""
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
