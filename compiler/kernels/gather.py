"""Movement of data between any layouts: one kernel for reshapes, permutations, slices, concatenations and paddings.

Where the elements come from is data. If they form a box whose offsets are sums of one number a channel, a row and a
column, these three lists are all that is stored; otherwise it is a pair of offsets an element.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from compiler.graph import Gather
from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    pack_sections,
    prelude,
    register,
    signature,
)
from compiler.kernels.functions import number
from compiler.layout import BLOCKED, LAYOUTS, Buffer, Positions
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = (
    *("n0", "n1", "n2", "whole", "fills", "fill_at", "from0", "from1", "from2", "to0", "to1", "to2"),
    *("ends_at", "kept_at", "lanes_at", "masks_at"),
)
ELEMENT_CYCLES = 1.5
MOST_MERGED = 4
"""Vectors of the source, on average, up to which it pays to merge a vector of the target from them."""
CALL_CYCLES = 50.0


class Movement(Family):
    """Writes the elements of one source; the first source of several also writes what comes from none.

    A `concat` of whole channel blocks costs nothing, as it is not done: see `sharing`.
    """

    layouts = frozenset(product(LAYOUTS, LAYOUTS))

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        height, width = spec.out_size
        elements = min(spec.out_channels * height * width, spec.in_channels * spec.height * spec.width)
        shared = spec.op == "concat" and spec.reads == spec.writes == BLOCKED and spec.in_channels % target.vector == 0
        cycles = 0.0 if shared else CALL_CYCLES + ELEMENT_CYCLES * elements
        yield Schedule("gather", cycles=cycles, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        moves = _moves(use)
        fill = _fill(use)
        name = f"gather_{moves.form}{'_into_zeros' if _clears(use) else ''}"
        body = _BODIES[moves.form]
        if fill is not None:
            name += f"_{np.float32(fill).view(np.uint32):08x}"
            body = (
                f"  for (long i = 0; i < fills; i++) y[((const int32_t *)(c + fill_at))[i]] = {number(fill)};\n{body}"
            )
        if _clears(use):
            body = f"  memset(y, 0, sizeof(float) * whole);\n{body}"
        source = f"""
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)s; (void)x; (void)whole; (void)fills; (void)fill_at; (void)n1; (void)n2;
  const int32_t *a0 = (const int32_t *)(c + from0), *a1 = (const int32_t *)(c + from1);
  const int32_t *a2 = (const int32_t *)(c + from2), *b0 = (const int32_t *)(c + to0);
  const int32_t *b1 = (const int32_t *)(c + to1), *b2 = (const int32_t *)(c + to2);
  const int32_t *ends = (const int32_t *)(c + ends_at), *kept = (const int32_t *)(c + kept_at);
  const vi *lanes = (const vi *)(c + lanes_at), *masks = (const vi *)(c + masks_at);
  (void)a1; (void)a2; (void)b1; (void)b2; (void)ends; (void)kept; (void)lanes; (void)masks;
{body}}}
"""
        return Code(name, source, _PERMUTE if moves.form == "merged" else "")

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        moves = _moves(use)
        fills = use.y.offsets(np.flatnonzero(use.index < 0)) if _fill(use) is not None else np.empty(0, np.int64)
        lists = (fills, *moves.sources, *moves.targets, *moves.merging)
        sections, blob = pack_sections(*(part.astype(np.int32) for part in lists))
        return [*(len(part) for part in moves.targets), use.y.size, len(fills), *sections], blob


_NONE: Positions = np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Moves:
    """Positions in the source and in the target: the sum of one of each list. Only the first is used for pairs.

    To merge lanes of several vectors into one, the sources of each target end at an entry of a first further list; a
    second says whether the target keeps its other lanes; then come the source's lane for each target's lane, and which
    of these are to be taken.
    """

    form: str
    sources: tuple[Positions, Positions, Positions]
    targets: tuple[Positions, Positions, Positions]
    merging: tuple[Positions, Positions, Positions, Positions] = (_NONE, _NONE, _NONE, _NONE)


def _moves(use: Operands) -> _Moves:
    x, y = use.x, use.y
    index = use.index.astype(np.int64) - use.first
    mine = (use.index >= 0) & (index >= 0) & (index < x.channels * x.height * x.width)
    lines = [np.flatnonzero(mine.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    sources, targets = x.offsets(index), y.offsets(np.arange(index.size).reshape(index.shape))
    box = np.ix_(*lines)
    if mine.any() and bool(mine[box].all()):
        split = [_separated(part[box]) for part in (sources, targets)]
        if split[0] is not None and split[1] is not None:
            return _by_vectors(x, y, split[0], split[1])
    zero = np.zeros(1, np.int64)
    return _Moves("pairs", (sources[mine], zero, zero), (targets[mine], zero, zero))


def _by_vectors(
    x: Buffer,
    y: Buffer,
    sources: tuple[Positions, Positions, Positions],
    targets: tuple[Positions, Positions, Positions],
) -> _Moves:
    """Whole vectors or rows, or vectors merged from a few, where the lists allow it."""
    lanes = x.lanes
    whole = lanes == y.lanes > 1 and not any((part % lanes).any() for part in (*sources[1:], *targets[1:]))
    if whole and len(sources[0]) % lanes == 0:
        blocks = [part[0].reshape(-1, lanes) for part in (sources, targets)]
        if all(
            bool((block == block[:, :1] + np.arange(lanes)).all() and (block[:, 0] % lanes == 0).all())
            for block in blocks
        ):
            starts = [block[:, 0] for block in blocks]
            return _Moves("vectors", (starts[0], *sources[1:]), (starts[1], *targets[1:]))
    steps = [np.diff(part[2]) for part in (sources, targets)]
    if x.lanes == y.lanes == 1 and all(bool((step == 1).all()) for step in steps):
        return _Moves("rows", sources, targets)
    if whole:
        merged = _merged(sources, targets, lanes)
        if len(merged.sources[0]) <= MOST_MERGED * len(merged.targets[0]):
            return merged
    return _Moves("box", sources, targets)


def _merged(
    sources: tuple[Positions, Positions, Positions],
    targets: tuple[Positions, Positions, Positions],
    lanes: int,
) -> _Moves:
    """Every vector of the target from the vectors of the source that hold some of its lanes."""
    from_lane, to_lane = sources[0] % lanes, targets[0] % lanes
    pairs = np.stack([targets[0] - to_lane, sources[0] - from_lane], 1)
    entries, member = np.unique(pairs, axis=0, return_inverse=True)
    blocks, counts = np.unique(entries[:, 0], return_counts=True)
    lane, mask = np.zeros((len(entries), lanes), np.int64), np.zeros((len(entries), lanes), np.int64)
    lane[member.reshape(-1), to_lane] = from_lane
    mask[member.reshape(-1), to_lane] = -1
    covered = np.array([len(np.unique(to_lane[pairs[:, 0] == block])) for block in blocks])
    kept = (covered < lanes).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)])
    merging = (ends, kept, lane.reshape(-1), mask.reshape(-1))
    return _Moves("merged", (entries[:, 1], *sources[1:]), (blocks, *targets[1:]), merging)


def _separated(offsets: Positions) -> tuple[Positions, Positions, Positions] | None:
    """Three lists of which all offsets [a, b, c] are sums, if there are such."""
    first = offsets[:, 0, 0], offsets[0, :, 0] - offsets[0, 0, 0], offsets[0, 0, :] - offsets[0, 0, 0]
    sums = first[0][:, None, None] + first[1][:, None] + first[2]
    return first if bool((sums == offsets).all()) else None


def _clears(use: Operands) -> bool:
    """Whether elements are zero, or lanes of the last channel block have to be."""
    return use.first == 0 and (bool((use.index < 0).any()) or use.y.channels % use.y.lanes > 0)


def _fill(use: Operands) -> float | None:
    """What elements are that come from nowhere, unless that is zero."""
    assert isinstance(use.op, Gather)
    return use.op.fill if use.first == 0 and use.op.fill != 0 and bool((use.index < 0).any()) else None


_PAIRS = "  for (long i = 0; i < n0; i++) y[b0[i]] = x[a0[i]];\n"
_BOX = """\
  for (long i = 0; i < n0; i++) for (long j = 0; j < n1; j++) {
    const float *xp = x + a0[i] + a1[j];
    float *yp = y + b0[i] + b1[j];
    for (long k = 0; k < n2; k++) yp[b2[k]] = xp[a2[k]];
  }
"""
_ROWS = """\
  for (long i = 0; i < n0; i++) for (long j = 0; j < n1; j++)
    memcpy(y + b0[i] + b1[j] + b2[0], x + a0[i] + a1[j] + a2[0], sizeof(float) * n2);
"""
_VECTORS = """\
  for (long i = 0; i < n0; i++) for (long j = 0; j < n1; j++) {
    const float *xp = x + a0[i] + a1[j];
    float *yp = y + b0[i] + b1[j];
    for (long k = 0; k < n2; k++) *(vf *)(yp + b2[k]) = *(const vf *)(xp + a2[k]);
  }
"""
_MERGED = """\
  for (long i = 0; i < n0; i++) for (long j = 0; j < n1; j++) for (long k = 0; k < n2; k++) {
    const float *xp = x + a1[j] + a2[k];
    float *yp = y + b0[i] + b1[j] + b2[k];
    vf a = kept[i] ? *(const vf *)yp : npas_splat(0.0f);
    for (long e = ends[i]; e < ends[i + 1]; e++)
      a = npas_select(masks[e], NPAS_PERMUTE(*(const vf *)(xp + a0[e]), lanes[e]), a);
    *(vf *)yp = a;
  }
"""
_BODIES = {"pairs": _PAIRS, "box": _BOX, "rows": _ROWS, "vectors": _VECTORS, "merged": _MERGED}
_PERMUTE = """
#ifdef __clang__
#define NPAS_PERMUTE(a, lanes) __builtin_shufflevector(a, lanes)
#else
#define NPAS_PERMUTE(a, lanes) __builtin_shuffle(a, lanes)
#endif
"""


register("gather", Movement(), "gather", "concat")
