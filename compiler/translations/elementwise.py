"""Activations, sums and products."""

from __future__ import annotations

from torch.fx import Node as FxNode

from compiler.graph import Activation, Add, Scale
from compiler.translation import Capture, argument, handles


@handles("aten.relu.default")
def _relu(capture: Capture, node: FxNode) -> str:
    return capture.add(node, Activation("relu"), capture.tensor(node, 0))


@handles("aten.hardswish.default")
def _hard_swish(capture: Capture, node: FxNode) -> str:
    return capture.add(node, Activation("hard_swish"), capture.tensor(node, 0))


@handles("aten.hardsigmoid.default")
def _hard_sigmoid(capture: Capture, node: FxNode) -> str:
    return capture.add(node, Activation("hard_sigmoid"), capture.tensor(node, 0))


@handles("aten.hardtanh.default")
def _hard_tanh(capture: Capture, node: FxNode) -> str:
    low, high = float(argument(node, 1)), float(argument(node, 2))
    if (low, high) != (0.0, 6.0):
        raise capture.refusal(node, f"clipping to [{low}, {high}] is not supported, only ReLU6")
    return capture.add(node, Activation("relu6"), capture.tensor(node, 0))


@handles("aten.add.Tensor")
def _add(capture: Capture, node: FxNode) -> str:
    names = capture.tensor(node, 0), capture.tensor(node, 1)
    shapes = [tuple(argument(node, i).meta["val"].shape) for i in (0, 1)]
    if shapes[0] != shapes[1] or argument(node, 2, 1) != 1:
        raise capture.refusal(node, f"only sums of two tensors of one shape are supported, not {shapes}")
    return capture.add(node, Add(), *names)


@handles("aten.mul.Tensor")
def _mul(capture: Capture, node: FxNode) -> str:
    names = [capture.tensor(node, 0), capture.tensor(node, 1)]
    shapes = [tuple(argument(node, i).meta["val"].shape) for i in (0, 1)]
    if shapes[0][2:] == (1, 1):
        names.reverse()
        shapes.reverse()
    if len(shapes[1]) != 4 or shapes[0][:2] != shapes[1][:2] or shapes[1][2:] != (1, 1):
        raise capture.refusal(node, f"only a product with one value a channel is supported, not {shapes}")
    return capture.add(node, Scale(), *names)


@handles("aten.clone.default", "aten.alias.default", "aten.contiguous.default", "aten.dropout.default")
def _identity(capture: Capture, node: FxNode) -> str:
    return capture.tensor(node, 0)


@handles("<built-in function getitem>")
def _getitem(capture: Capture, node: FxNode) -> str:
    if node.args[1] != 0:
        raise capture.refusal(node, "only the first result of an operator is supported")
    return capture.tensor(node, 0)
