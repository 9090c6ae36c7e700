"""Operations that only move elements: the units are moved by the operation itself."""

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.graph import describe
from pruning.dependency.record import Result
from pruning.dependency.values import Value

aten = torch.ops.aten


@rule(
    aten.permute.default,
    aten.transpose.int,
    aten.t.default,
    aten.mT.default,
    aten.numpy_T.default,
    aten.movedim.int,
    aten.movedim.intlist,
    aten.swapaxes.default,
    aten.unsqueeze.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    view=True,
)
@rule(aten.flip.default, aten.repeat.default)
def move(call: Call) -> Value:
    return _first(call).moved(lambda tensor: call.node.target(tensor, *call.node.args[1:], **call.node.kwargs))  # type: ignore[operator]


@rule(
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.view_as.default,
    aten.reshape_as.default,
    view=True,
)
def reshape(call: Call) -> Value:
    x = _first(call)
    sizes = call.arguments.get("size") or call.arguments.get("shape") or call.arguments.get("sizes") or ()
    free = list(sizes).index(-1) if -1 in sizes and len(sizes) == len(call.shape) else None
    for before, after in _blocks(x.shape, call.shape):
        _lay_out(call, x, before, after, free)
    return x.moved(lambda tensor: tensor.reshape(call.shape))


@rule(aten.expand.default, aten.expand_as.default, view=True)
def expand(call: Call) -> Value:
    """What is repeated along an axis takes any size there; it is no longer of fixed sizes."""
    x = _first(call)
    ones = (1,) * (len(call.shape) - x.rank)
    if x.shape == call.shape:
        return x
    ids, constant = (tensor.reshape(ones + tuple(tensor.shape)) for tensor in (x.ids, x.constant))
    if call.record.is_rigid(x):
        ids = call.record.fresh(1).reshape(ids.shape)
    return Value(call.shape, ids, constant)


@rule(aten.cat.default, aten.concat.default)
def cat(call: Call) -> Value:
    return _joined(call, [call.value_of(part) for part in call["tensors"]], call["dim"] % len(call.shape))


@rule(aten.stack.default)
def stack(call: Call) -> Value:
    axis = call["dim"] % len(call.shape)
    parts = [call.value_of(part).moved(lambda tensor: tensor.unsqueeze(axis)) for part in call["tensors"]]
    result = _joined(call, parts, axis)
    call.record.fix(result, axis)
    return result


@rule(aten.chunk.default, aten.unsafe_chunk.default, aten.tensor_split.sections, view=True)
def chunk(call: Call) -> Result:
    return _cut(call, last_is_free=False)


@rule(
    aten.split.Tensor,
    aten.split.sizes,
    aten.split_with_sizes.default,
    aten.unsafe_split.Tensor,
    aten.tensor_split.indices,
    view=True,
)
def split(call: Call) -> Result:
    return _cut(call, last_is_free=True)


@rule(aten.unbind.int, view=True)
def unbind(call: Call) -> Result:
    x, axis = _first(call), call["dim"]
    _pick(call, x, axis % x.rank)
    return tuple(x.moved(lambda tensor, i=i: tensor.select(axis, i)) for i in range(x.shape[axis]))  # type: ignore[misc]


@rule(aten.select.int, view=True)
def select(call: Call) -> Value:
    x = _first(call)
    _pick(call, x, call["dim"] % x.rank)
    return x.moved(lambda tensor: tensor.select(call["dim"], call["index"]))


@rule(aten.slice.Tensor, aten.narrow.default, view=True)
def slice_(call: Call) -> Value:
    """Numbers that count from either end stay true as long as what they count stays."""
    x, axis = _first(call), call["dim"] % _first(call).rank
    size = x.shape[axis]
    start = call["start"] or 0
    end = start + call["length"] if "length" in call.arguments else call["end"]
    end = sys.maxsize if end is None else end
    step = call.arguments.get("step", 1)
    low, high, _ = slice(start, end).indices(size)
    if x.varies(axis) and (low, high, step) != (0, size, 1):
        call.record.counting.append(call.node)
        if step != 1:
            raise CannotFollow("it takes every so many channels")
        ids, _ = call.record.line(x, axis)
        parts = [part for part in (ids[:low], ids[low:high], ids[high:]) if len(part)]
        if len({len(part) for part in parts}) == 1:
            call.record.balances.append(torch.stack(parts))
        else:
            _stay(call, ids[: max(low if start >= 0 else 0, high if 0 <= end < size else 0)])
            _stay(call, ids[min(low if start < 0 else size, high if end < 0 else size) :])
    return x.moved(
        lambda tensor: tensor.narrow(axis, low, high - low)[(slice(None),) * axis + (slice(None, None, step),)]
    )


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(call: Call) -> Value:
    x = _first(call)
    amounts = list(call["pad"])
    mode = call.arguments.get("mode", "constant")
    ids, constant = x.ids, x.constant
    for position in range(0, len(amounts), 2):
        axis, (before, after) = x.rank - 1 - position // 2, amounts[position : position + 2]
        if x.varies(axis) and (before or after):
            if mode != "constant" or before < 0 or after < 0:
                raise CannotFollow("it repeats or drops channels")
            ids, constant = _padded(call, Value(x.shape, ids, constant), axis, before, after)
    fill = call["value"] or 0.0
    if mode == "constant" and any(amounts):
        constant = torch.where(constant == fill, constant, torch.nan)
    return Value(call.shape, ids, constant)


@rule(aten.pixel_shuffle.default, aten.pixel_unshuffle.default)
def pixel_shuffle(call: Call) -> Value:
    result = move(call)
    for axis in (result.rank - 2, result.rank - 1):
        call.record.fix(result, axis)
    return result


@rule(aten.channel_shuffle.default, aten.native_channel_shuffle.default)
def channel_shuffle(call: Call) -> Value:
    x = _first(call)
    ids, constant = call.record.line(x, 1)
    call.record.split(ids.reshape(call["groups"], -1), free=1)
    shuffled = (tensor.reshape(call["groups"], -1).T.flatten() for tensor in (ids, constant))
    return call.record.along(call.shape, 1, *shuffled)


def _first(call: Call) -> Value:
    return call.value_of(call.node.args[0])


def _joined(call: Call, parts: list[Value], axis: int) -> Value:
    parts = [part for part in parts if part.rank == len(call.shape)]
    others = {other for part in parts for other in part.varying if other != axis}
    ids, constant = (
        torch.cat(
            [_spread(tensor, part.shape, axis, tensors) for tensor, part in zip(tensors, parts, strict=True)], axis
        )
        for tensors in ([part.ids for part in parts], [part.constant for part in parts])
    )
    result = Value(call.shape, ids, constant)
    if others:
        call.record.fix(result, axis)
    return result


def _spread(tensor: Tensor, shape: tuple[int, ...], axis: int, tensors: Sequence[Tensor]) -> Tensor:
    """A compact tensor at full size along `axis`, and along all axes where another of `tensors` is."""
    full = [shape[i] if i == axis or any(other.shape[i] > 1 for other in tensors) else 1 for i in range(tensor.dim())]
    return tensor.expand(full)


def _cut(call: Call, last_is_free: bool) -> Result:
    x, axis = _first(call), call["dim"] % _first(call).rank
    sizes = [value.shape[axis] for value in call.node.meta["val"]]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    if x.varies(axis) and len(sizes) > 1:
        call.record.counting.append(call.node)
        ids, _ = call.record.line(x, axis)
        if len(set(sizes)) == 1:
            call.record.balances.append(ids.reshape(len(sizes), -1))
        else:
            _stay(call, ids[: starts[-1]] if last_is_free else ids)
    return tuple(
        x.moved(lambda tensor, start=start, size=size: tensor.narrow(axis, start, size))  # type: ignore[misc]
        for start, size in zip(starts, sizes, strict=True)
    )


def _pick(call: Call, x: Value, axis: int) -> None:
    """Slices along the axis are taken by their number."""
    if x.varying == (axis,):
        _stay(call, call.record.line(x, axis)[0])
    else:
        call.record.fix(x, axis)


def _stay(call: Call, ids: Tensor) -> None:
    if len(ids):
        unknown = torch.full((len(ids),), torch.nan)
        call.record.keep(Value((len(ids),), ids, unknown), f"{describe(call.node)}, which counts on their number")


def _padded(call: Call, x: Value, axis: int, before: int, after: int) -> tuple[Tensor, Tensor]:
    ids, constant = call.record.line(x, axis)
    fixed = call.record.rigid((1,), f"{describe(call.node)}, which adds a fixed number of channels").ids
    fill = torch.full((1,), float(call["value"] or 0), dtype=torch.float64)
    padded = (
        torch.cat([extra.expand(before), line, extra.expand(after)]) for line, extra in ((ids, fixed), (constant, fill))
    )
    shape = list(x.shape)
    shape[axis] += before + after
    value = call.record.along(tuple(shape), axis, *padded)
    return value.ids, value.constant


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Axes of two shapes of equally many elements, cut into the smallest runs of equal products."""
    found, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        left, right = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(left), j + len(right)
        while (a := math.prod(before[k] for k in left)) != (b := math.prod(after[k] for k in right)):
            if (a < b and i < len(before)) or j == len(after):
                left, i = [*left, i], i + 1
            else:
                right, j = [*right, j], j + 1
        found.append((left, right))
    return found


def _lay_out(call: Call, x: Value, before: list[int], after: list[int], free: int | None) -> None:
    """Notes where an axis with units is laid out over several."""
    varying = [axis for axis in before if x.varies(axis)]
    wide, sources = [axis for axis in after if call.shape[axis] > 1], [axis for axis in before if x.shape[axis] > 1]
    if varying and call.node.target not in (aten.flatten.using_ints, aten.view_as.default, aten.reshape_as.default):
        call.record.counting.append(call.node)
    if not varying or len(wide) < 2 or [x.shape[axis] for axis in sources] == [call.shape[axis] for axis in wide]:
        return
    position = 0
    for axis in sources:
        factors: list[int] = []
        while math.prod(call.shape[k] for k in factors) < x.shape[axis] and position < len(wide):
            factors.append(wide[position])
            position += 1
        if math.prod(call.shape[k] for k in factors) != x.shape[axis]:
            raise CannotFollow("it mixes an axis of channels with others")
        if axis in varying and len(factors) > 1:
            ids, _ = call.record.line(x, axis)
            call.record.split(
                ids.reshape([call.shape[k] for k in factors]), factors.index(free) if free in factors else None
            )
