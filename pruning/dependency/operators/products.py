"""Products of two computed matrices, and attention."""

import torch

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.graph import describe
from pruning.dependency.values import Value, broadcast, only_zeros

aten = torch.ops.aten


@rule(aten.matmul.default, aten.bmm.default, aten.mm.default)
def matmul(call: Call) -> Value:
    left, right = (call.value_of(argument) for argument in call.node.args[:2])
    if min(left.rank, right.rank) < 2:
        raise CannotFollow("one of its operands is a vector")
    _contract(call, left, right)
    return _outer(call, left, right)


@rule(aten.scaled_dot_product_attention.default)
def attention(call: Call) -> Value:
    query, key, value = (call.value(name) for name in ("query", "key", "value"))
    if value.varies(value.rank - 2):
        raise CannotFollow("it sums over channels")
    if query.varies(query.rank - 1) and call["scale"] is None:
        call.record.opaque(call.node, "whose scale depends on the width of a head", query, key)
    else:
        _contract(call, query, key.moved(lambda tensor: tensor.transpose(-1, -2)))
    if call["attn_mask"] is not None:
        call.record.need(call.value("attn_mask"))
    return Value(call.shape, value.ids, only_zeros(value.constant))


def _contract(call: Call, left: Value, right: Value) -> None:
    """What is multiplied and summed goes together; products with zero add nothing."""
    width = (left.rank - 1, right.rank - 2)
    if not (left.varies(width[0]) or right.varies(width[1])):
        call.record.need(left)
        call.record.need(right)
        return
    if left.varies(left.rank - 2) or right.varies(right.rank - 1):
        raise CannotFollow("it sums over one axis of channels and keeps another")
    a, b = left.ids, right.ids.transpose(-1, -2)
    call.record.couple(a, b)
    a, b, one, other = broadcast(a, b, left.constant, right.constant.transpose(-1, -2))
    zero = (one == 0) | (other == 0)
    constant = torch.where(zero, 0.0, torch.nan)
    call.record.need(Value(tuple(a.shape), a, constant))
    call.record.need(Value(tuple(b.shape), b, constant))


def _outer(call: Call, left: Value, right: Value) -> Value:
    """Units along the rows come from the left, along the columns from the right, never both."""
    rows, columns = left.varies(left.rank - 2), right.varies(right.rank - 1)
    if rows and columns:
        raise CannotFollow("its result has units along two axes")
    if not (rows or columns):
        return call.record.rigid(call.shape, describe(call.node))
    source, factor = (left, right) if rows else (right, left)
    if any(factor.varies(axis) for axis in range(factor.rank - 2)):
        raise CannotFollow("both operands have units along the same axis")
    ones = [1] * (len(call.shape) - source.rank)
    ids = source.ids.reshape(*ones, *source.ids.shape)
    constant = only_zeros(source.constant)
    axis = constant.dim() - (1 if rows else 2)
    summed_up = constant.sum(axis, keepdim=True)
    return Value(call.shape, ids, summed_up.reshape(*ones, *summed_up.shape))
