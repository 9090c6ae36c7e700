"""What the driver tells the address sanitizer: while a step runs, only its own bytes of arena and constants are open.

Tensors are neighbours in one arena, and constants in one block, so that an access beyond the end of one would find
another. All that a step does not read, write or work in is poisoned while it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.plan import Plan, scratch_name

DECLARATIONS = """
void __asan_poison_memory_region(const volatile void *start, size_t size);
void __asan_unpoison_memory_region(const volatile void *start, size_t size);
"""


def open_only(plan: Plan, index: int, constant_offsets: Sequence[int]) -> str:
    """Statements before step `index`, whose constants start at the offset of that index; the last offset is the end."""
    step = plan.steps[index]
    tensors = dict.fromkeys(name for name in (*step.reads, step.writes) if name in plan.offsets)
    regions = [("arena", plan.offsets[name], 4 * plan.buffers[name].size) for name in tensors]
    if step.scratch:
        regions.append(("arena", plan.offsets[scratch_name(index, plan.threads)], step.scratch))
    regions.append(("constants", constant_offsets[index], len(step.constants)))
    closed = [("arena", 0, plan.arena), ("constants", 0, constant_offsets[-1])]
    return _calls("poison", closed) + _calls("unpoison", regions)


def open_all(plan: Plan, constant_offsets: Sequence[int]) -> str:
    """Statements after the last step."""
    return _calls("unpoison", [("arena", 0, plan.arena), ("constants", 0, constant_offsets[-1])])


def _calls(what: str, regions: Sequence[tuple[str, int, int]]) -> str:
    return "".join(f"  __asan_{what}_memory_region({base} + {at}, {size});\n" for base, at, size in regions)
