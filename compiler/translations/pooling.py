"""Poolings."""

from __future__ import annotations

from torch.fx import Node as FxNode

from compiler.graph import GlobalPool, Pair, Pool
from compiler.translation import Capture, argument, handles, pair


def _pool_window(capture: Capture, node: FxNode) -> tuple[Pair, Pair, Pair]:
    kernel = pair(argument(node, 1))
    stride = pair(argument(node, 2) or kernel)
    return kernel, stride, pair(argument(node, 3, 0))


@handles("aten.max_pool2d.default")
def _max_pool(capture: Capture, node: FxNode) -> str:
    kernel, stride, padding = _pool_window(capture, node)
    if pair(argument(node, 4, 1)) != (1, 1) or argument(node, 5, False):
        raise capture.refusal(node, "dilation and ceil_mode of a pooling are not supported")
    return capture.add(node, Pool("max", kernel, stride, padding), capture.tensor(node, 0))


@handles("aten.avg_pool2d.default")
def _avg_pool(capture: Capture, node: FxNode) -> str:
    kernel, stride, padding = _pool_window(capture, node)
    if argument(node, 4, False) or argument(node, 6) is not None:
        raise capture.refusal(node, "ceil_mode and divisor_override of a pooling are not supported")
    op = Pool("avg", kernel, stride, padding, bool(argument(node, 5, True)))
    return capture.add(node, op, capture.tensor(node, 0))


@handles("aten.adaptive_avg_pool2d.default")
def _adaptive_pool(capture: Capture, node: FxNode) -> str:
    if pair(argument(node, 1)) != (1, 1):
        raise capture.refusal(node, "adaptive pooling is supported to 1x1 only")
    return capture.add(node, GlobalPool(), capture.tensor(node, 0))


@handles("aten.mean.dim")
def _mean(capture: Capture, node: FxNode) -> str:
    source = argument(node, 0).meta["val"]
    dims = sorted(int(d) % source.ndim for d in argument(node, 1))
    if source.ndim != 4 or dims != [2, 3]:
        raise capture.refusal(node, f"a mean over dimensions {dims} is not supported, only over all pixels")
    return capture.add(node, GlobalPool(), capture.tensor(node, 0))
