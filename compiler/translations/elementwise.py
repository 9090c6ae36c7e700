"""Functions of one element, and of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.arrangement import arrange, positions
from compiler.graph import Activation, Add, Arithmetic, BatchNorm, Constant, Scale
from compiler.translation import Capture, argument, handles, shape_of

SIMPLE = {
    "abs": "abs",
    "acos": "acos",
    "acosh": "acosh",
    "asin": "asin",
    "asinh": "asinh",
    "atan": "atan",
    "atanh": "atanh",
    "ceil": "ceil",
    "cos": "cos",
    "cosh": "cosh",
    "erf": "erf",
    "erfc": "erfc",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "floor": "floor",
    "frac": "frac",
    "hardsigmoid": "hard_sigmoid",
    "hardswish": "hard_swish",
    "log": "log",
    "log10": "log10",
    "log1p": "log1p",
    "log2": "log2",
    "log_sigmoid": "log_sigmoid",
    "mish": "mish",
    "neg": "neg",
    "reciprocal": "reciprocal",
    "relu": "relu",
    "round": "round",
    "rsqrt": "rsqrt",
    "sigmoid": "sigmoid",
    "sign": "sign",
    "silu": "silu",
    "sin": "sin",
    "sinh": "sinh",
    "sqrt": "sqrt",
    "tan": "tan",
    "tanh": "tanh",
    "trunc": "trunc",
}
"""Functions without parameters, by torch's name."""


def spelled(name: str, *parameters: Any) -> str:
    """A function with its parameters, as the graph spells it."""
    return f"{name}({', '.join(repr(float(value)) for value in parameters)})"


@handles(*(f"aten.{name}.default" for name in SIMPLE))
def _simple(capture: Capture, node: FxNode) -> str:
    name = str(node.target).removeprefix("aten.").split(".")[0]
    return capture.add(node, Activation(SIMPLE[name]), capture.tensor(node, 0))


def _numbers(node: FxNode, first: int, count: int) -> list[float]:
    return [float(argument(node, index)) for index in range(first, first + count)]


def _clipped(low: float, high: float) -> str:
    known = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}
    return known.get((low, high)) or spelled("clip", low, high)


def _clamp(node: FxNode) -> str:
    low, high = argument(node, 1), argument(node, 2)
    return _clipped(-math.inf if low is None else float(low), math.inf if high is None else float(high))


def _gelu(node: FxNode) -> str:
    return "gelu" if argument(node, 1, "none") == "none" else "gelu_tanh"


def _elu(node: FxNode) -> str:
    return spelled("elu", *_numbers(node, 1, 3))


WITH_PARAMETERS: dict[str, Callable[[FxNode], str]] = {
    "aten.celu.default": lambda node: spelled("elu", argument(node, 1), 1, 1 / float(argument(node, 1))),
    "aten.clamp.default": _clamp,
    "aten.clamp_max.default": lambda node: _clipped(-math.inf, float(argument(node, 1))),
    "aten.clamp_min.default": lambda node: _clipped(float(argument(node, 1)), math.inf),
    "aten.elu.default": _elu,
    "aten.gelu.default": _gelu,
    "aten.hardshrink.default": lambda node: spelled("hard_shrink", argument(node, 1)),
    "aten.hardtanh.default": lambda node: _clipped(float(argument(node, 1)), float(argument(node, 2))),
    "aten.leaky_relu.default": lambda node: spelled("leaky_relu", argument(node, 1)),
    "aten.pow.Tensor_Scalar": lambda node: _power(float(argument(node, 1))),
    "aten.rrelu.default": lambda node: spelled("leaky_relu", sum(_numbers(node, 1, 2)) / 2),
    "aten.relu6.default": lambda node: "relu6",
    "aten.selu.default": lambda node: spelled("elu", 1.6732632423543772, 1.0507009873554805, 1),
    "aten.softplus.default": lambda node: spelled("softplus", *_numbers(node, 1, 2)),
    "aten.softshrink.default": lambda node: spelled("soft_shrink", argument(node, 1)),
    "aten.threshold.default": lambda node: spelled("threshold", *_numbers(node, 1, 2)),
}
"""Functions with numbers as parameters."""


def _power(exponent: float) -> str:
    known = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal", 2.0: "square"}
    return known.get(exponent) or spelled("pow", exponent)


@handles(*WITH_PARAMETERS)
def _with_parameters(capture: Capture, node: FxNode) -> str:
    kind = WITH_PARAMETERS[str(node.target)](node)
    return capture.add(node, Activation(kind), capture.tensor(node, 0))


@handles("aten.prelu.default")
def _prelu(capture: Capture, node: FxNode) -> str:
    """max(x, 0) + slope * min(x, 0), the slope being one number or one a channel."""
    x = capture.tensor(node, 0)
    slope = capture.constants[capture.required(node, 1)]
    if slope.size == 1:
        return capture.add(node, Activation(spelled("leaky_relu", float(slope.reshape(-1)[0]))), x)
    shape = shape_of(node)
    negative = capture.add(node, Activation(spelled("clip", -math.inf, 0)), x)
    slopes = torch.from_numpy(slope).reshape(1, -1, *[1] * (len(shape) - 2))
    scaled = affine(capture, node, negative, slopes, torch.zeros(()))
    return capture.add(node, Add(), capture.add(node, Activation("relu"), x), scaled)


@handles("aten.glu.default")
def _glu(capture: Capture, node: FxNode) -> str:
    source = argument(node, 0)
    value, gate = positions(source.meta["val"].shape).chunk(2, int(argument(node, 1)))
    name = capture.tensor(node, 0)
    moved_value, moved_gate = (capture.move(node, [name], arrange(half)) for half in (value, gate))
    return capture.add(node, Arithmetic("mul"), moved_value, capture.add(node, Activation("sigmoid"), moved_gate))


@handles("aten.add.Tensor", "aten.add.Scalar")
def _add(capture: Capture, node: FxNode) -> str:
    return _sum(capture, node, float(argument(node, 2, 1)))


@handles("aten.sub.Tensor", "aten.sub.Scalar")
def _sub(capture: Capture, node: FxNode) -> str:
    return _sum(capture, node, -float(argument(node, 2, 1)))


@handles("aten.rsub.Scalar", "aten.rsub.Tensor")
def _rsub(capture: Capture, node: FxNode) -> str:
    if not capture.is_known(argument(node, 1)):
        raise capture.refusal(node, "write a - b instead")
    shift = _number(capture, argument(node, 1))
    factor = -float(argument(node, 2, 1))
    return affine(capture, node, capture.tensor(node, 0), torch.tensor(factor), shift)


def _sum(capture: Capture, node: FxNode, factor: float) -> str:
    """First argument plus `factor` times the second; of truth values, whether one of them holds."""
    if node.meta["val"].dtype == torch.bool:
        return of_two(capture, node, "max")
    first, second = argument(node, 0), argument(node, 1)
    if capture.is_known(second):
        shift = factor * _number(capture, second)
        return affine(capture, node, expanded(capture, node, first), torch.ones(()), shift)
    if capture.is_known(first):
        moved_second = expanded(capture, node, second)
        return affine(capture, node, moved_second, torch.tensor(factor), _number(capture, first))
    names = expanded(capture, node, first), expanded(capture, node, second)
    if factor == 1:
        return capture.add(node, Add(), *names)
    if factor == -1:
        return capture.add(node, Arithmetic("sub"), *names)
    scaled = affine(capture, node, names[1], torch.tensor(factor), torch.zeros(()))
    return capture.add(node, Add(), names[0], scaled)


@handles("aten.mul.Tensor", "aten.mul.Scalar")
def _mul(capture: Capture, node: FxNode) -> str:
    first, second = argument(node, 0), argument(node, 1)
    if capture.is_known(first):
        first, second = second, first
    if capture.is_known(second):
        name = expanded(capture, node, first)
        return affine(capture, node, name, _number(capture, second), torch.zeros(()))
    for one, other in ((first, second), (second, first)):
        whole, each = one.meta["val"].shape, other.meta["val"].shape
        if len(whole) == len(each) == 4 and whole == shape_of(node) and tuple(each) == (*whole[:2], 1, 1):
            return capture.add(node, Scale(), capture.name_of(node, one), capture.name_of(node, other))
    return of_two(capture, node, "mul")


@handles("aten.div.Tensor", "aten.div.Scalar")
def _div(capture: Capture, node: FxNode) -> str:
    first, second = argument(node, 0), argument(node, 1)
    if capture.is_known(second):
        name = expanded(capture, node, first)
        return affine(capture, node, name, 1 / _number(capture, second), torch.zeros(()))
    if capture.is_known(first):
        inverse = capture.add(node, Activation("reciprocal"), expanded(capture, node, second))
        return affine(capture, node, inverse, _number(capture, first), torch.zeros(()))
    return of_two(capture, node, "div")


TWO = {
    "aten.atan2.default": "atan2",
    "aten.clamp_max.Tensor": "min",
    "aten.clamp_min.Tensor": "max",
    "aten.fmod.Scalar": "fmod",
    "aten.fmod.Tensor": "fmod",
    "aten.max.other": "max",
    "aten.maximum.default": "max",
    "aten.min.other": "min",
    "aten.minimum.default": "min",
    "aten.pow.Tensor_Tensor": "pow",
    "aten.remainder.Scalar": "remainder",
    "aten.remainder.Tensor": "remainder",
}
"""Functions of two tensors, or of a tensor and a number."""


@handles(*TWO)
def _of_two(capture: Capture, node: FxNode) -> str:
    return of_two(capture, node, TWO[str(node.target)])


@handles("aten.clamp.Tensor")
def _clamp_by_tensors(capture: Capture, node: FxNode) -> str:
    name = expanded(capture, node, argument(node, 0))
    for bound, kind in ((argument(node, 1), "max"), (argument(node, 2), "min")):
        if bound is not None:
            name = capture.add(node, Arithmetic(kind), name, expanded(capture, node, bound))
    return name


@handles("aten.div.Tensor_mode", "aten.div.Scalar_mode", "aten.floor_divide.default")
def _rounded_quotient(capture: Capture, node: FxNode) -> str:
    mode = "floor" if "floor" in str(node.target) else node.kwargs["rounding_mode"]
    if mode == "floor":
        return of_two(capture, node, "floor_div")
    quotient = of_two(capture, node, "div")
    return quotient if mode is None else capture.add(node, Activation("trunc"), quotient)


def of_two(capture: Capture, node: FxNode, kind: str, order: tuple[int, int] = (0, 1)) -> str:
    """`kind` of the arguments in that order, each with the shape of the result."""
    names = (expanded(capture, node, argument(node, index)) for index in order)
    return capture.add(node, Arithmetic(kind), *names)


def _number(capture: Capture, value: Any) -> Tensor:
    known = capture.known[value] if isinstance(value, FxNode) else value
    return torch.as_tensor(known, dtype=torch.float32).detach()


def expanded(capture: Capture, node: FxNode, value: Any) -> str:
    """The tensor `value`, repeated so that it has the shape of the result, or a tensor full of the number `value`."""
    if not isinstance(value, FxNode):
        return _stored(capture, node, arrange(torch.full(shape_of(node), float(value))))
    name, shape = capture.name_of(node, value), value.meta["val"].shape
    if tuple(shape) == shape_of(node):
        return name
    return capture.move(node, [name], arrange(positions(shape).expand(shape_of(node))))


def affine(capture: Capture, node: FxNode, tensor: str, factor: Tensor, shift: Tensor) -> str:
    """`tensor`, which has the shape of the result, times `factor` plus `shift`, both known and broadcast.

    What is one value a channel becomes a batch norm, and may disappear into a convolution.
    """
    shape = shape_of(node)
    terms = [arrange(term.expand(shape).contiguous()) for term in (factor, shift)]
    columns = [term.flatten(1) for term in terms]
    if all(bool((column == column[:, :1]).all()) for column in columns):
        scale, offset = (capture.keep(node, column[:, 0]) for column in columns)
        return capture.add(node, BatchNorm(scale, offset), tensor)
    name = tensor
    if not bool((terms[0] == 1).all()):
        name = capture.add(node, Arithmetic("mul"), name, _stored(capture, node, terms[0]))
    if not bool((terms[1] == 0).all()):
        name = capture.add(node, Add(), name, _stored(capture, node, terms[1]))
    return name


def _stored(capture: Capture, node: FxNode, value: Tensor) -> str:
    shape = (int(value.shape[0]), int(value.shape[1]), int(value.shape[2]))
    return capture.store(node, Constant(capture.keep(node, value)), shape)
