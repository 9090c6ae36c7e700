"""The driver: one C function that runs the kernels of a plan in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compiler import guards, sanitizer
from compiler.kernels.base import ALIGNMENT, FAMILIES, Code, signature
from compiler.layout import Buffer
from compiler.plan import Plan, Step, scratch_name
from compiler.runtime import aligned
from compiler.team import team

_PRELUDE = """
static uint64_t npas_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void npas_halo(float *start, long blocks, long height, long row, long top, long side,
  long blocks_shared, long part, long parts)
{
  const npas_range whole = blocks_shared ? npas_part(blocks, part, parts) : (npas_range){ 0, blocks };
  const npas_range rows = blocks_shared ? (npas_range){ 0, height } : npas_part(height, part, parts);
  for (long b = whole.from; b < whole.to; b++) {
    float *x = start + b * (height + 2 * top) * row;
    if (rows.from == 0) memset(x, 0, sizeof(float) * (top * row + side));
    for (long i = rows.from; i < rows.to && i + 1 < height; i++)
      memset(x + (top + i + 1) * row - side, 0, sizeof(float) * 2 * side);
    if (rows.to == height) memset(x + (top + height) * row - side, 0, sizeof(float) * (top * row + side));
  }
}

static void npas_halo_of_planes(float *start, long planes, long plane, long height, long width, long row, long top,
  long side, long columns, long blocks_shared, long part, long parts)
{
  const npas_range whole = blocks_shared ? npas_part(planes, part, parts) : (npas_range){ 0, planes };
  const npas_range rows = blocks_shared ? (npas_range){ 0, height } : npas_part(height, part, parts);
  for (long p = whole.from; p < whole.to; p++) {
    float *x = start + p * plane;
    const long first = top * row + side, last = first + (height - 1) * row + width;
    if (rows.from == 0) memset(x, 0, sizeof(float) * first);
    if (columns) for (long i = rows.from; i < rows.to && i + 1 < height; i++)
      for (long j = width; j < row; j++) x[first + i * row + j] = 0.0f;
    if (rows.to == height) memset(x + last, 0, sizeof(float) * (top * row + row - width));
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
    """Byte offset of each step's constants in one block, equal ones at the same place, and the size of the block."""
    places: dict[bytes, int] = {}
    size = 0
    for step in plan.steps:
        if step.constants not in places:
            places[step.constants] = size
            size += -(-len(step.constants) // ALIGNMENT) * ALIGNMENT
    return [*(places[step.constants] for step in plan.steps), size]


def constants(plan: Plan) -> npt.NDArray[np.uint8]:
    """All constants in one aligned block."""
    *offsets, size = constant_offsets(plan)
    block = aligned(size)
    for step, at in zip(plan.steps, offsets, strict=True):
        block[at : at + len(step.constants)] = np.frombuffer(step.constants, np.uint8)
    return block


def driver(plan: Plan) -> str:
    """C text of `npas_run(in, out, arena, constants, stamps)`, which runs on the thread that calls it.

    `stamps` receives the time in nanoseconds before the first and after every kernel, unless it is null. Where kernels
    are shared, there is also `npas_run_shared(in, out, arena, constants, stamps, team)`; see `compiler.team`.
    """
    offsets = constant_offsets(plan)
    declared = "".join(f"{signature(code.name)};\n" for code in kernel_codes(plan))
    guarded = sanitizer.enabled() and not plan.target.is_foreign and plan.threads == 1
    tables, calls = guards.DECLARATIONS if guarded else "", ""
    clearing = _clearing(plan)
    for index, (step, at) in enumerate(zip(plan.steps, offsets[:-1], strict=True)):
        tables += f"static const int32_t d{index}[] = {{{', '.join(map(str, step.dims))}}};\n"
        calls += guards.open_only(plan, index, offsets) if guarded else ""
        calls += _call(plan, step, index, at, [plan.steps[writer] for writer in clearing.get(index, ())])
    calls += guards.open_all(plan, offsets) if guarded else ""
    calls = f"  if (stamps) stamps[0] = npas_now();\n{calls}"
    if plan.threads > 1:
        meetings = sum(_meets(plan, index) for index in range(len(plan.steps)))
        return f"{declared}{_PRELUDE}{tables}{team(plan.threads, meetings)}{_SHARED.format(calls=calls)}"
    return f"{declared}{_PRELUDE}{tables}{_ALONE.format(calls=calls)}"


_RUN = """
__attribute__((visibility("default")))
void npas_run(const float *const *in, float *const *out, char *arena, const char *constants, uint64_t *stamps)
"""
_ALONE = f"""{_RUN}{{{{
{{calls}}}}}}
"""
_SHARED = f"""
static void npas_work(const npas_job *job, npas_team *team, long me, uint64_t met)
{{{{
  const float *const *in = job->in;
  float *const *out = job->out;
  char *arena = job->arena;
  const char *constants = job->constants;
  uint64_t *stamps = me ? 0 : job->stamps;
  const long all = team ? npas_threads : 1;
{{calls}}}}}}
{_RUN}{{{{
  const npas_job job = {{{{ in, out, arena, constants, stamps, 0 }}}};
  npas_work(&job, 0, 0, 0);
}}}}
"""


def _meets(plan: Plan, index: int) -> bool:
    """Whether threads meet after a step: it was shared, or the next one is."""
    return any(step.spec.threads > 1 for step in plan.steps[index : index + 2])


def _clearing(plan: Plan) -> dict[int, list[int]]:
    """Before which steps halos are made zero: those of the tensors that the given steps are the first to write.

    A halo is there for who reads it, so that it is cleared before the first step that reads the tensor, or a tensor
    that it shares memory with: that step's time then follows from its spec. Where several threads work, the writer
    clears it, since threads must meet between clearing and reading.
    """
    begun: set[str] = set()
    due: dict[str, int] = {}
    clearing: dict[int, list[int]] = {}
    for index, step in enumerate(plan.steps):
        read = [_extent(plan, name) for name in step.reads if name in plan.offsets]
        for name in [name for name in due if any(_overlap(_extent(plan, name), extent) for extent in read)]:
            clearing.setdefault(index, []).append(due.pop(name))
        if step.writes in plan.buffers and plan.buffers[step.writes].halo != (0, 0) and step.writes not in begun:
            if plan.threads > 1:
                clearing[index] = [index]
            else:
                due[step.writes] = index
        begun.add(step.writes)
    return clearing


def _extent(plan: Plan, tensor: str) -> tuple[int, int]:
    """First byte of a tensor in the arena, and the one behind it."""
    return plan.offsets[tensor], plan.offsets[tensor] + 4 * plan.buffers[tensor].size


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _call(plan: Plan, step: Step, index: int, constants_at: int, clear_for: Sequence[Step]) -> str:
    """The statements of one step: those who share it run the kernel, each its part.

    Before it, the halos of what the steps `clear_for` have written, or will write, are made zero.
    """

    def address(name: str) -> str:
        return f"(float *)(arena + {plan.offsets[name]})" if name in plan.offsets else name

    threads = step.spec.threads
    part, parts = ("me", f"(all < {threads} ? all : {threads})") if threads > 1 else ("0", "1")
    lines = [
        _clear_halo(plan.buffers[writer.writes], writer, address(writer.writes), f"{part}, {parts}")
        for writer in clear_for
    ]
    residual = address(step.reads[1]) if len(step.reads) > 1 else "0"
    scratch = "0"
    if step.scratch:
        scratch = f"arena + {plan.offsets[scratch_name(index, plan.threads)]} + {part} * {plan.private}"
    source = address(step.reads[0]) if step.reads else "0"
    pointers = f"{source}, {address(step.writes)}, {residual}"
    data = f"constants + {constants_at}, d{index}, {scratch}"
    lines.append(f"{step.code.name}({pointers}, {data}, {part}, {parts});  /* {step.layer} */")
    if threads < plan.threads:
        lines = [f"if (me < {threads}) {{", *(f"  {line}" for line in lines), "}"]
    if _meets(plan, index):
        lines.append("npas_meet(team, &met);")
    lines.append(f"if (stamps) stamps[{index + 1}] = npas_now();")
    return "".join(f"  {line}\n" for line in lines)


def _clear_halo(buffer: Buffer, step: Step, address: str, part: str) -> str:
    """The call that makes the halo of a step's output zero, but for what the step itself clears.

    Threads that share the step share it likewise, so that each clears what lies beside what it writes.
    """
    part = f"{int(step.schedule.blocks_shared or step.schedule.blocks_outside)}, {part}"
    top, side = buffer.halo[0], buffer.halo[1] * buffer.lanes
    if not buffer.planar:
        return f"npas_halo({address}, {buffer.blocks}, {buffer.height}, {buffer.row}, {top}, {side}, {part});"
    columns = int(not FAMILIES[step.schedule.family].clears_columns)
    size = f"{buffer.height}, {buffer.width}, {buffer.row}"
    return f"npas_halo_of_planes({address}, {buffer.blocks}, {buffer.plane}, {size}, {top}, {side}, {columns}, {part});"
