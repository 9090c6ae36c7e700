"""The choice of a kernel: all forms that can compute a spec compete."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from compiler.errors import UnsupportedOperator, UnsupportedThreads
from compiler.kernels import FAMILIES, FAMILIES_OF, Schedule
from compiler.layout import BLOCKED
from compiler.spec import KernelSpec
from compiler.target import Target
from pruning import Sparsity

THREAD_CYCLES = 7_000.0
"""Work that is worth a thread: a kernel of less than two such shares, 4 microseconds, stays on one."""


@lru_cache(maxsize=65536)
def schedule(spec: KernelSpec, target: Target) -> Schedule:
    """The way to compute `spec` on `target` that costs the fewest cycles by analysis; depends on nothing else.

    On several threads sums are added up in the same order as on one.

    Raises:
        UnsupportedOperator: if no family computes the spec.
        UnsupportedThreads: if its work cannot be shared among so many threads.
    """
    offered = offers(spec, target)
    if spec.threads > 1:
        offered = _adding_alike(offered, schedule(replace(spec, threads=1), target))
        if not offered:
            raise UnsupportedThreads(f"the work of {spec} has fewer than {spec.threads} pieces; take fewer threads")
    return explained(spec, min(offered, key=lambda offer: offer.cycles), target)


def offers(spec: KernelSpec, target: Target) -> list[Schedule]:
    """Every schedule of every family that can compute `spec` and has work for all of its threads.

    Raises:
        UnsupportedOperator: if no family computes the spec.
        UnsupportedThreads: if its work cannot be shared among so many threads.
    """
    found = _candidates(spec, target)
    shared = [offer for offer in found if offer.pieces >= spec.threads]
    if not found:
        raise UnsupportedOperator(f"no kernel family computes {spec}")
    if not shared:
        raise UnsupportedThreads(f"the work of {spec} has fewer than {spec.threads} pieces; take fewer threads")
    return shared


@lru_cache(maxsize=65536)
def shared(spec: KernelSpec, threads: int, target: Target) -> KernelSpec:
    """`spec` on as many of `threads` as its work is worth, has pieces for, and is done no later by."""
    alone = schedule(replace(spec, threads=1), target)
    for worthwhile in range(min(threads, int(alone.cycles / THREAD_CYCLES)), 1, -1):
        offered = _adding_alike(_candidates(replace(spec, threads=worthwhile), target), alone)
        if any(offer.pieces >= worthwhile and offer.cycles <= alone.cycles for offer in offered):
            return replace(spec, threads=worthwhile)
    return replace(spec, threads=1)


def _candidates(spec: KernelSpec, target: Target) -> list[Schedule]:
    layouts = spec.reads, spec.writes
    families = [FAMILIES[name] for name in FAMILIES_OF[spec.op] if layouts in FAMILIES[name].layouts]
    return [offer for family in families for offer in family.candidates(spec, target)]


def _adding_alike(offered: list[Schedule], alone: Schedule) -> list[Schedule]:
    """Those that give the same bits as `alone`."""
    family = FAMILIES[alone.family]
    order = family.order_of_sums(alone)
    return [offer for offer in offered if offer.family == alone.family and family.order_of_sums(offer) == order]


def explained(spec: KernelSpec, chosen: Schedule, target: Target) -> Schedule:
    """`chosen` with the reason why zeros are skipped, or are not."""
    if spec.sparsity.rate == 1:
        return chosen
    if chosen.form == "sparse":
        dense_spec = replace(spec, sparsity=Sparsity(), reads=BLOCKED, writes=BLOCKED)
        dense = schedule(shared(dense_spec, spec.threads, target), target)
        gain = dense.cycles / chosen.cycles
        return replace(chosen, why=f"skips zeros: {gain:.2f}x fewer cycles than the best dense kernel ({dense.family})")
    zeros = f"{spec.sparsity.scheme} at {spec.sparsity.rate:.3g}x"
    return replace(chosen, why=f"skipping the zeros of {zeros} would cost more than computing them")


def contenders(spec: KernelSpec, target: Target, count: int) -> list[Schedule]:
    """The `count` most promising schedules, the analytic choice first, each of another family, form or tile.

    Schedules that differ only in how many channels share an index, or in the columns of a tile of the same number of
    sums, are too much alike to time both before each kind has had its turn.
    """
    ranked = sorted(offers(spec, target), key=lambda offer: offer.cycles)
    kinds: dict[tuple[object, ...], Schedule] = {}
    for offer in ranked:
        chunked = (offer.unroll, offer.chunk) if offer.filters else ()
        kinds.setdefault((offer.family, offer.form, offer.filters, chunked, offer.vectors, offer.rows == 1), offer)
    chosen = [offer for offer in kinds.values() if offer.cycles < 2 * ranked[0].cycles][:count]
    best = ranked[0]
    if best.family in LOOP_ORDERED and best.entries * best.unroll * target.vector * best.vectors > SMALL_WEIGHTS:
        chosen.append(replace(best, blocks_outside=not best.blocks_outside))
    chosen += [offer for offer in ranked if offer not in chosen]
    return [explained(spec, offer, target) for offer in chosen[:count]]


LOOP_ORDERED = frozenset({"filter_vector"})
"""Families whose loops over tiles and filter blocks can be exchanged."""
SMALL_WEIGHTS = 4096
"""Floats of a filter block's weights below which the loop order cannot matter."""
