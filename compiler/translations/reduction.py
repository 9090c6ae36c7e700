"""Sums, means and extremes over axes."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.fx import Node as FxNode

from compiler.graph import GlobalPool, Reduce
from compiler.translation import Capture, Result, argument, handles, shape_of

KINDS = {
    "aten.mean.default": "mean",
    "aten.mean.dim": "mean",
    "aten.sum.default": "sum",
    "aten.sum.dim_IntList": "sum",
    "aten.amax.default": "max",
    "aten.amin.default": "min",
}
"""Reductions with one result."""


@handles(*KINDS)
def _reduction(capture: Capture, node: FxNode) -> Result:
    everything = str(node.target) in ("aten.mean.default", "aten.sum.default")
    return _reduce(capture, node, KINDS[str(node.target)], [] if everything else argument(node, 1, []))


@handles("aten.max.dim", "aten.min.dim")
def _extreme(capture: Capture, node: FxNode) -> Result:
    return (_reduce(capture, node, str(node.target).split(".")[1], argument(node, 1)),)


def _reduce(capture: Capture, node: FxNode, kind: str, axes: Any) -> str:
    shape = tuple(argument(node, 0).meta["val"].shape)
    listed = axes if isinstance(axes, (list, tuple)) else [axes]
    reduced = sorted({int(axis) % len(shape) for axis in listed} or range(len(shape)))
    if 0 in reduced:
        capture.mixing.append(node)
    if kind == "mean" and len(shape) == 4 and shape[0] == 1 and reduced == [2, 3]:
        pooled = capture.store(node, GlobalPool(), (shape[1], 1, 1), capture.tensor(node, 0))
        return capture.give(node, pooled)
    count = math.prod(shape[axis] for axis in reduced)
    outer = math.prod(shape) // count

    def select(found: Tensor) -> Tensor:
        return found.movedim(reduced, list(range(-len(reduced), 0))).reshape(1, outer, count)

    made = capture.store(node, Reduce(kind), (1, outer, 1), capture.take(node, 0, select))
    return capture.give(node, made, lambda found: found.reshape(shape_of(node)))
