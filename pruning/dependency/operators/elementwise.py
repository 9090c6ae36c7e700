"""Operations on every element by itself, and those that combine several tensors element by element."""

import torch
from torch import Tensor

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.values import Value, broadcast, only_zeros, unknown

aten = torch.ops.aten
_NAMES = (
    "abs neg exp expm1 log1p sqrt rsqrt reciprocal square sin cos erf floor ceil round sign relu relu_ relu6 hardtanh "
    "hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ leaky_relu leaky_relu_ elu elu_ selu celu gelu silu silu_ "
    "mish mish_ sigmoid sigmoid_ tanh tanh_ softplus log_sigmoid clamp clamp_ clamp_min clamp_max relu6_"
)
_UNARY = [getattr(aten, name).default for name in _NAMES.split()]
_BINARY = [
    aten.add.Tensor,
    aten.add_.Tensor,
    aten.sub.Tensor,
    aten.sub_.Tensor,
    aten.rsub.Tensor,
    aten.div.Tensor,
    aten.div_.Tensor,
    aten.maximum.default,
    aten.minimum.default,
]


@rule(*_UNARY)
def unary(call: Call) -> Value:
    x = call.value_of(call.node.args[0])
    return Value(x.shape, x.ids, _evaluated(call, [x.constant]))


@rule(aten.add.Scalar, aten.sub.Scalar, aten.rsub.Scalar, aten.mul.Scalar, aten.div.Scalar)
@rule(aten.pow.Tensor_Scalar, aten.mul_.Scalar, aten.add_.Scalar)
def with_number(call: Call) -> Value:
    return unary(call)


@rule(*(getattr(aten, name).Scalar for name in ("eq", "ne", "lt", "le", "gt", "ge")))
def comparison(call: Call) -> Value:
    return unary(call)


@rule(aten.zeros_like.default, aten.ones_like.default)
def alike(call: Call) -> Value:
    x = call.value("self")
    return Value(x.shape, x.ids, torch.full_like(x.constant, float(call.node.target is aten.ones_like.default)))


@rule(aten.where.self)
def where(call: Call) -> Value:
    main, (_, left, right) = combine(call, [call.value(name) for name in ("condition", "self", "other")])
    same = torch.where(left.constant == right.constant, left.constant, torch.nan)
    return Value(call.shape, main.ids, same)


@rule(aten.masked_fill.Scalar)
def masked_fill(call: Call) -> Value:
    main, (x, _) = combine(call, [call.value("self"), call.value("mask")])
    return Value(call.shape, main.ids, torch.where(x.constant == call["value"], x.constant, torch.nan))


@rule(aten.prelu.default)
def prelu(call: Call) -> Value:
    x, slope = call.value("self"), call.tensor("weight")
    weight = call.read(slope)
    assert slope is not None
    assert weight is not None
    if weight.numel() == 1:
        call.record.use(slope)
        return Value(x.shape, x.ids, only_zeros(x.constant))
    ids, constant = call.record.line(x, 1)
    call.record.use(slope, ids[None])
    return call.record.along(x.shape, 1, ids, only_zeros(constant))


@rule(*_BINARY)
def binary(call: Call) -> Value:
    return _combined(call)


@rule(aten.mul.Tensor, aten.mul_.Tensor)
def product(call: Call) -> Value:
    """Zero times anything is zero: the other side need not be."""
    return _combined(call, zero_wins=True)


@rule(aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default, aten.alpha_dropout.default, view=True)
def dropout(call: Call) -> Value:
    if call["train"]:
        raise CannotFollow("it is active in evaluation mode")
    return call.value("input" if "input" in call.arguments else "self")


@rule(aten.clone.default, aten.contiguous.default, aten.detach.default, aten.alias.default, view=True)
def unchanged(call: Call) -> Value:
    return call.value("self")


@rule(aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten._to_copy.default, aten.type_as.default, view=True)
def converted(call: Call) -> Value:
    x = call.value("self")
    return Value(x.shape, x.ids, only_zeros(x.constant))


def combine(call: Call, operands: list[Value]) -> tuple[Value, list[Value]]:
    """Couples what is broadcast to the result's shape and combined element by element.

    Returns the operand whose units the result has, and all operands, with the rank of the result.
    """
    record = call.record
    operands = [_of_rank(value, len(call.shape)) for value in operands]
    main = max(operands, key=lambda value: len(value.varying))
    for value in operands:
        if not set(value.varying) <= set(main.varying):
            raise CannotFollow("it combines units along different axes")
    for value in operands:
        missing = [axis for axis in main.varying if value.shape[axis] == 1]
        loose = missing or (not value.varying and main.varying and not record.is_rigid(value))
        if value is main:
            continue
        if not loose:
            record.couple(value.ids, main.ids)
        elif value.varying:
            record.opaque(call.node, "which repeats these units along another axis of units", value)
        else:
            record.need(value)
    return main, operands


def _combined(call: Call, zero_wins: bool = False) -> Value:
    numbers = [call.node.args[0], call.node.args[1]]
    operands = [call.value_of(argument) for argument in numbers if not isinstance(argument, (int, float, bool))]
    main, operands = combine(call, operands)
    constant = _evaluated(call, [value.constant for value in operands])
    if zero_wins:
        for value in operands:
            constant = torch.where(value.constant == 0, 0.0, constant)
    return Value(call.shape, main.ids, constant)


def _of_rank(value: Value, rank: int) -> Value:
    ones = [1] * (rank - value.rank)
    return Value(
        (*ones, *value.shape),
        value.ids.reshape(*ones, *value.ids.shape),
        value.constant.reshape(*ones, *value.constant.shape),
    )


def _evaluated(call: Call, constants: list[Tensor]) -> Tensor:
    """The operation on the constants of its tensors; unknown where any of them is."""
    given = iter(broadcast(*constants))
    is_tensor = [isinstance(argument, torch.fx.Node) for argument in call.node.args]
    if sum(is_tensor) != len(constants):
        return unknown(call.shape)
    arguments = [
        next(given).clone() if tensor else argument for tensor, argument in zip(is_tensor, call.node.args, strict=True)
    ]
    result: Tensor = call.node.target(*arguments, **call.node.kwargs)  # type: ignore[operator]
    for constant in constants:
        result = torch.where(constant.isnan(), torch.nan, result)
    return result.double()
