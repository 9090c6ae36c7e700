"""Static memory plan: where every tensor lies in one arena."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.kernels.base import ALIGNMENT


@dataclass(frozen=True)
class Lifetime:
    """A tensor of `bytes`, needed from step `first` to step `last` inclusive."""

    bytes: int
    first: int
    last: int


def plan_memory(tensors: Mapping[str, Lifetime]) -> tuple[dict[str, int], int]:
    """Offsets such that tensors alive at the same step never overlap, largest tensors first.

    Returns:
        byte offset of each tensor, and the bytes of the arena.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[str, int] = {}
    for name, life in sorted(tensors.items(), key=lambda item: (-item[1].bytes, item[1].first, item[0])):
        size = -(-life.bytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end, other in sorted(placed, key=lambda item: item[0]):
            if other.last < life.first or life.last < other.first:
                continue
            if offset + size <= start:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, life))
        offsets[name] = offset
    return offsets, max((end for _, end, _ in placed), default=0)


def largest_live_set(tensors: Mapping[str, Lifetime]) -> int:
    """Bytes that are alive together at the worst step: no plan can need less."""
    steps = range(max((life.last for life in tensors.values()), default=-1) + 1)
    return max(
        (sum(life.bytes for life in tensors.values() if life.first <= step <= life.last) for step in steps), default=0
    )
