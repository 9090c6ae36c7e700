"""The driver: one C function that runs the kernels of a plan in order."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import numpy.typing as npt

from compiler import guards, sanitizer
from compiler.kernels.base import ALIGNMENT, FAMILIES, Code, signature
from compiler.layout import Buffer
from compiler.plan import Plan, Step, scratch_name
from compiler.runtime import aligned

_PRELUDE = """
static uint64_t npas_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void npas_halo(float *x, long blocks, long height, long row, long top, long side)
{
  for (long b = 0; b < blocks; b++, x += (height + 2 * top) * row) {
    memset(x, 0, sizeof(float) * (top * row + side));
    for (long i = 0; i + 1 < height; i++)
      memset(x + (top + i + 1) * row - side, 0, sizeof(float) * 2 * side);
    memset(x + (top + height) * row - side, 0, sizeof(float) * (top * row + side));
  }
}

static void npas_halo_of_planes(float *x, long planes, long plane, long height, long width, long row, long top,
  long side, long columns)
{
  for (long p = 0; p < planes; p++, x += plane) {
    const long first = top * row + side, last = first + (height - 1) * row + width;
    memset(x, 0, sizeof(float) * first);
    if (columns) for (long i = 0; i + 1 < height; i++)
      for (long j = width; j < row; j++) x[first + i * row + j] = 0.0f;
    memset(x + last, 0, sizeof(float) * (top * row + row - width));
  }
}
"""


def kernel_codes(plan: Plan) -> list[Code]:
    """The distinct functions of a plan, in order of first use."""
    codes: dict[str, Code] = {}
    for step in plan.steps:
        known = codes.setdefault(step.code.name, step.code)
        assert known == step.code, f"two kernels are called {step.code.name}"
    return list(codes.values())


def constant_offsets(plan: Plan) -> list[int]:
    """Byte offset of each step's constants in one block, and the size of the block."""
    sizes = (-(-len(step.constants) // ALIGNMENT) * ALIGNMENT for step in plan.steps)
    return [0, *accumulate(sizes)]


def constants(plan: Plan) -> npt.NDArray[np.uint8]:
    """All constants in one aligned block."""
    *offsets, size = constant_offsets(plan)
    block = aligned(size)
    for step, at in zip(plan.steps, offsets, strict=True):
        block[at : at + len(step.constants)] = np.frombuffer(step.constants, np.uint8)
    return block


def driver(plan: Plan) -> str:
    """C text of `npas_run(in, out, arena, constants, stamps)`.

    `stamps` receives the time in nanoseconds before the first and after every kernel, unless it is null.
    """
    offsets = constant_offsets(plan)
    declared = "".join(f"{signature(code.name)};\n" for code in kernel_codes(plan))
    guarded = sanitizer.enabled() and not plan.target.is_foreign
    tables, calls = guards.DECLARATIONS if guarded else "", ""
    begun: set[str] = set()
    for index, (step, at) in enumerate(zip(plan.steps, offsets[:-1], strict=True)):
        tables += f"static const int32_t d{index}[] = {{{', '.join(map(str, step.dims))}}};\n"
        calls += guards.open_only(plan, index, offsets) if guarded else ""
        calls += _call(plan, step, index, at, first=step.writes not in begun)
        begun.add(step.writes)
    calls += guards.open_all(plan, offsets) if guarded else ""
    return f"""{declared}{_PRELUDE}
{tables}
__attribute__((visibility("default")))
void npas_run(const float *const *in, float *const *out, char *arena, const char *constants, uint64_t *stamps)
{{
  if (stamps) stamps[0] = npas_now();
{calls}}}
"""


def _call(plan: Plan, step: Step, index: int, constants_at: int, *, first: bool) -> str:
    """The call of a step; the first that writes a tensor is preceded by what makes the tensor's halo zero."""

    def address(name: str) -> str:
        return f"(float *)(arena + {plan.offsets[name]})" if name in plan.offsets else name

    text = ""
    buffer = plan.buffers.get(step.writes)
    if buffer is not None and buffer.halo != (0, 0) and first:
        text += f"  {_clear_halo(buffer, step, address(step.writes))}\n"
    residual = address(step.reads[1]) if len(step.reads) > 1 else "0"
    scratch = f"arena + {plan.offsets[scratch_name(index)]}" if step.scratch else "0"
    source = address(step.reads[0]) if step.reads else "0"
    pointers = f"{source}, {address(step.writes)}, {residual}"
    text += f"  {step.code.name}({pointers}, constants + {constants_at}, d{index}, {scratch});  /* {step.layer} */\n"
    return f"{text}  if (stamps) stamps[{index + 1}] = npas_now();\n"


def _clear_halo(buffer: Buffer, step: Step, address: str) -> str:
    """The call that makes the halo of a step's output zero, but for what the step itself clears."""
    top, side = buffer.halo[0], buffer.halo[1] * buffer.lanes
    if not buffer.planar:
        return f"npas_halo({address}, {buffer.blocks}, {buffer.height}, {buffer.row}, {top}, {side});"
    columns = int(not FAMILIES[step.schedule.family].clears_columns)
    size = f"{buffer.height}, {buffer.width}, {buffer.row}"
    return f"npas_halo_of_planes({address}, {buffer.blocks}, {buffer.plane}, {size}, {top}, {side}, {columns});"
