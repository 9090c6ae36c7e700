"""How channels pass through each operation that is understood. A further operation is one more function here."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import Node

from pruning.dependency.channels import Channels, Norm, Trace

Handler = Callable[[Trace, Node], Channels | None]
HANDLERS: dict[Any, Handler] = {}
"""Each gives the channels of a node's result, or None for a use of the operation that cannot be followed."""

M = TypeVar("M", bound=nn.Module)
aten = torch.ops.aten


def handles(*operators: Any) -> Callable[[Handler], Handler]:
    """Decorator that files a handler under the operations it is for."""

    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(operators, handler))
        return handler

    return add


@handles(aten.conv2d.default, aten.conv2d.padding)
def convolution(trace: Trace, node: Node) -> Channels | None:
    x, owner = _value(trace, node, 0), _owner(trace, node, (nn.Conv2d,))
    return None if x is None or owner is None or len(_shape(node)) != 4 else trace.add_layer(*owner, x)


@handles(aten.linear.default)
def linear(trace: Trace, node: Node) -> Channels | None:
    x, owner = _value(trace, node, 0), _owner(trace, node, (nn.Linear,))
    return None if x is None or owner is None or len(_shape(node)) != 2 else trace.add_layer(*owner, x)


@handles(aten.batch_norm.default)
def batch_norm(trace: Trace, node: Node) -> Channels | None:
    x = _value(trace, node, 0)
    owner = _owner(trace, node, (nn.BatchNorm1d, nn.BatchNorm2d))
    if x is None or owner is None:
        return None
    name, module = owner
    trace.norms.append(Norm(name, x.ids))
    gamma, beta, mean, variance = map(_double, (module.weight, module.bias, module.running_mean, module.running_var))
    if mean is None or variance is None:  # a constant channel is its own mean
        normal = x.constant - x.constant
    else:
        normal = (x.constant - mean) / (variance + module.eps).sqrt()
    if gamma is None or beta is None:
        return Channels(x.ids, normal)
    return Channels(x.ids, torch.where(gamma == 0, beta, gamma * normal + beta))


@handles(
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.hardsigmoid.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.elu.default,
    aten.gelu.default,
    aten.silu.default,
    aten.silu_.default,
    aten.sigmoid.default,
    aten.tanh.default,
)
def elementwise(trace: Trace, node: Node) -> Channels | None:
    x = _value(trace, node, 0)
    if x is None:
        return None
    after = node.target(x.constant.clone(), *node.args[1:], **node.kwargs)  # type: ignore[operator]
    return Channels(x.ids, torch.where(x.constant.isnan(), torch.nan, after))


@handles(aten.dropout.default, aten.feature_dropout.default, aten.clone.default, aten.contiguous.default)
def unchanged(trace: Trace, node: Node) -> Channels | None:
    active = len(node.args) > 2 and bool(node.args[2])
    return None if active else _value(trace, node, 0)


@handles(aten.add.Tensor, aten.add_.Tensor)
def add(trace: Trace, node: Node) -> Channels | None:
    left, right = _value(trace, node, 0), _value(trace, node, 1)
    if left is None or right is None or len(_shape(node.args[0])) != len(_shape(node.args[1])):
        return None
    if len(left.ids) != len(right.ids):
        return None
    trace.couple(left.ids, right.ids)
    return Channels(left.ids, left.constant + float(node.kwargs.get("alpha", 1)) * right.constant)  # type: ignore[arg-type]


@handles(aten.max_pool2d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default)
def pool(trace: Trace, node: Node) -> Channels | None:
    x = _value(trace, node, 0)
    return None if x is None or len(_shape(node)) != 4 else _only_zeros(x)


@handles(aten.mean.dim)
def mean(trace: Trace, node: Node) -> Channels | None:
    x, dims = _value(trace, node, 0), node.args[1]
    rank = len(_shape(node.args[0]))
    spatial = isinstance(dims, list) and all(isinstance(dim, int) and dim % rank >= 2 for dim in dims)
    return _only_zeros(x) if x is not None and spatial else None


@handles(aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten.squeeze.dim, aten.squeeze.dims)
def reshape(trace: Trace, node: Node) -> Channels | None:
    x = _value(trace, node, 0)
    if x is None:
        return None
    before, after = _shape(node.args[0]), _shape(node)
    if after[:2] == before[:2]:
        return x
    positions = math.prod(before[2:])
    if after != (before[0], before[1] * positions):
        return None
    return Channels(x.ids.repeat_interleave(positions), x.constant.repeat_interleave(positions))


def _value(trace: Trace, node: Node, position: int) -> Channels | None:
    """The channels of an argument, None if it has none."""
    argument = node.args[position]
    return trace.values.get(argument) if isinstance(argument, Node) else None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _only_zeros(x: Channels) -> Channels:
    """After pooling only zero is sure to be what it was: padding counts in averages, and averages round."""
    return Channels(x.ids, torch.where(x.constant == 0, 0.0, torch.nan))


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().cpu().double()


def _owner(trace: Trace, node: Node, kinds: tuple[type[M], ...]) -> tuple[str, M] | None:
    """The module of exactly this call's parameters and buffers, with its name; None if any is computed, missing,
    or shared with another module."""
    tensors = [argument for argument in node.args[1:] if isinstance(argument, Node)]
    owners = {trace.graph.owner(tensor) for tensor in tensors}
    if len(owners) != 1 or (name := owners.pop()) is None:
        return None
    module = trace.graph.model.get_submodule(name)
    own: list[Tensor] = [*module.parameters(False), *module.buffers(False)]
    counted = sum(tensor.dim() > 0 for tensor in own)
    return (name, module) if isinstance(module, kinds) and counted == len(tensors) else None
