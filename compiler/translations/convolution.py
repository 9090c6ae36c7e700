"""Convolutions, linear layers and batch norm."""

from __future__ import annotations

import numpy as np
from torch.fx import Node as FxNode

from compiler.graph import BatchNorm, Conv, Linear
from compiler.translation import Capture, argument, handles, pair


@handles("aten.conv2d.default")
def _conv(capture: Capture, node: FxNode) -> str:
    op = Conv(
        weight=capture.required(node, 1),
        bias=capture.constant(node, 2),
        stride=pair(argument(node, 3)),
        padding=pair(argument(node, 4)),
        dilation=pair(argument(node, 5)),
        groups=int(argument(node, 6)),
    )
    return capture.add(node, op, capture.tensor(node, 0))


@handles("aten.conv2d.padding")
def _conv_padding(capture: Capture, node: FxNode) -> str:
    weight = capture.required(node, 1)
    kernel = capture.constants[weight].shape[2:]
    stride, dilation = pair(argument(node, 3)), pair(argument(node, 5))
    total = [d * (k - 1) if argument(node, 4) == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    if any(t % 2 for t in total):
        raise capture.refusal(node, "padding='same' with an even kernel pads unevenly")
    padding = (total[0] // 2, total[1] // 2)
    op = Conv(weight, capture.constant(node, 2), stride, padding, dilation, int(argument(node, 6)))
    return capture.add(node, op, capture.tensor(node, 0))


@handles("aten.batch_norm.default")
def _batch_norm(capture: Capture, node: FxNode) -> str:
    if argument(node, 5):
        raise capture.refusal(node, "it normalises with the statistics of the batch; put it in evaluation mode")
    return _normalise(capture, node, float(argument(node, 7)))


@handles("aten._native_batch_norm_legit_no_training.default")
def _batch_norm_function(capture: Capture, node: FxNode) -> str:
    return _normalise(capture, node, float(argument(node, 6)))


def _normalise(capture: Capture, node: FxNode, eps: float) -> str:
    mean = capture.constants[capture.required(node, 3)].astype(np.float64)
    variance = capture.constants[capture.required(node, 4)].astype(np.float64)
    weight, bias = capture.constant(node, 1), capture.constant(node, 2)
    scale = (1.0 if weight is None else capture.constants[weight]) / np.sqrt(variance + eps)
    shift = (0.0 if bias is None else capture.constants[bias]) - mean * scale
    for name, value in ((f"{node.name}.scale", scale), (f"{node.name}.shift", shift)):
        capture.constants[name] = np.asarray(value, np.float32)
    return capture.add(node, BatchNorm(f"{node.name}.scale", f"{node.name}.shift"), capture.tensor(node, 0))


@handles("aten.linear.default")
def _linear(capture: Capture, node: FxNode) -> str:
    if len(node.meta["val"].shape) != 2:
        raise capture.refusal(node, "a linear layer is compiled on [N, F] only")
    return capture.add(node, Linear(capture.required(node, 1), capture.constant(node, 2)), capture.tensor(node, 0))
