"""Pooling, resizing, sums, softmax: what looks at several positions of one channel, never at several channels."""

import torch

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.record import Result
from pruning.dependency.values import Value, only_zeros, unknown

aten = torch.ops.aten
_POOLS = {
    **{getattr(aten, f"{kind}_pool{n}d").default: n for n in (1, 2, 3) for kind in ("max", "avg", "adaptive_avg")},
    **{getattr(aten, f"upsample_nearest{n}d").vec: n for n in (1, 2, 3)},
    aten.upsample_linear1d.vec: 1,
    aten.upsample_bilinear2d.vec: 2,
    aten.upsample_bicubic2d.vec: 2,
    aten.upsample_trilinear3d.vec: 3,
}


@rule(*_POOLS)
def pool(call: Call) -> Value:
    """Of constants only zero is sure to stay what it is: padding counts in averages, and averages round."""
    x, spatial = call.value_of(call.node.args[0]), _POOLS[call.node.target]
    axis = x.rank - spatial - 1
    ids, constant = call.record.line(x, axis)
    return call.record.along(call.shape, axis, ids, only_zeros(constant))


@rule(aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default, aten.mean.default, aten.sum.default)
def reduce(call: Call) -> Value:
    x = call.value("self")
    axes = sorted({axis % x.rank for axis in call.arguments.get("dim") or range(x.rank)}, reverse=True)
    if any(x.varies(axis) for axis in axes):
        raise CannotFollow("it runs over the channels")
    ids, constant = x.ids, only_zeros(x.constant)
    for axis in axes:
        constant = constant.sum(axis, keepdim=True)
        if not call.arguments.get("keepdim"):
            ids, constant = ids.squeeze(axis), constant.squeeze(axis)
    return Value(call.shape, ids, constant)


@rule(aten.softmax.int, aten.log_softmax.int, aten._softmax.default)
def softmax(call: Call) -> Value:
    x = call.value("self")
    if x.varies(call["dim"] % x.rank):
        raise CannotFollow("it runs over the channels")
    return Value(x.shape, x.ids, unknown(x.shape))


@rule(aten.glu.default)
def glu(call: Call) -> Result:
    """The second half gates the first: the two go together."""
    x = call.value("self")
    axis = call["dim"] % x.rank
    width = x.shape[axis] // 2
    signal, gate = (
        x.moved(lambda tensor, start=start: tensor.narrow(axis, start, width))  # type: ignore[misc]
        for start in (0, width)
    )
    call.record.couple(signal.ids, gate.ids)
    constant = torch.where(signal.constant == 0, 0.0, signal.constant * gate.constant.sigmoid())
    return Value(call.shape, signal.ids, constant)
