"""Slices, paddings and reshapes."""

from __future__ import annotations

from torch.fx import Node as FxNode

from compiler.graph import Flatten, Resample
from compiler.translation import Capture, argument, handles, shape3


@handles("aten.slice.Tensor")
def _slice(capture: Capture, node: FxNode) -> str:
    source = argument(node, 0).meta["val"]
    dim = int(argument(node, 1, 0)) % source.ndim
    start, end, step = argument(node, 2, 0), argument(node, 3, source.shape[dim]), int(argument(node, 4, 1))
    if int(start) != 0 or int(end) < source.shape[dim] or (dim < 2 and step != 1):
        raise capture.refusal(node, f"slice [{start}:{end}:{step}] of dimension {dim}: only every n-th pixel of all")
    stride = (step if dim == 2 else 1, step if dim == 3 else 1)
    return capture.add(node, Resample(stride), capture.tensor(node, 0))


@handles("aten.constant_pad_nd.default", "aten.pad.default")
def _pad(capture: Capture, node: FxNode) -> str:
    widths = [int(width) for width in argument(node, 1)] + [0] * 6
    value = argument(node, 3, 0.0) if "aten.pad" in str(node.target) else argument(node, 2, 0.0)
    if any(widths[:4]) or any(widths[6:]) or min(widths) < 0 or float(value) != 0:
        raise capture.refusal(node, f"padding {argument(node, 1)} with {value}: only zero channels can be added")
    return capture.add(node, Resample(before=widths[4]), capture.tensor(node, 0))


@handles("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints")
def _reshape(capture: Capture, node: FxNode) -> str:
    before, after = argument(node, 0).meta["val"].shape, node.meta["val"].shape
    if before[0] != after[0] or shape3(tuple(after[1:]))[1:] != (1, 1):
        raise capture.refusal(node, f"reshaping {tuple(before)} to {tuple(after)}: only flattening is supported")
    if shape3(tuple(before[1:])) == shape3(tuple(after[1:])):
        return capture.tensor(node, 0)
    return capture.add(node, Flatten(), capture.tensor(node, 0))
