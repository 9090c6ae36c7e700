"""Sums, means and extremes over axes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.graph import Activation, GlobalPool, Reduce
from compiler.translation import Capture, Result, argument, handles

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
    kind, axes = KINDS[str(node.target)], [] if everything else argument(node, 1, [])
    before, after = argument(node, 0).meta["val"].dtype, node.meta["val"].dtype
    if kind == "sum" and after == torch.bool:
        raise capture.refusal(node, "a sum that is a truth value is not supported; use any()")
    if before.is_floating_point and not after.is_floating_point:
        rows = as_rows(capture, node, axes)
        whole = capture.store(node, Activation("trunc"), capture.shape_of(rows), rows)
        return of_rows(capture, node, kind, whole)
    return _reduce(capture, node, kind, axes)


@handles("aten.max.dim", "aten.min.dim")
def _extreme(capture: Capture, node: FxNode) -> Result:
    return (_reduce(capture, node, str(node.target).split(".")[1], argument(node, 1)),)


def _reduce(capture: Capture, node: FxNode, kind: str, axes: Any) -> str:
    shape = argument(node, 0).meta["val"].shape
    if kind == "mean" and len(shape) == 4 and shape[0] == 1 and reduced_axes(node, axes) == [2, 3]:
        pooled = capture.store(node, GlobalPool(), (shape[1], 1, 1), capture.tensor(node, 0))
        return capture.give(node, pooled)
    return of_rows(capture, node, kind, as_rows(capture, node, axes))


def reduced_axes(node: FxNode, axes: Any) -> list[int]:
    """The axes of a node's argument that a reduction goes over, as torch lists them: one, several, or none for all."""
    dimensions = len(argument(node, 0).meta["val"].shape)
    listed = [] if axes is None else axes if isinstance(axes, (list, tuple)) else [axes]
    return sorted({int(axis) % dimensions for axis in listed} or range(dimensions))


def as_rows(capture: Capture, node: FxNode, axes: Any) -> str:
    """The argument of a reduction with a row [1, results, elements] for each of its results."""
    shape, reduced = tuple(argument(node, 0).meta["val"].shape), reduced_axes(node, axes)
    if 0 in reduced:
        capture.mixing.append(node)
    count = math.prod(shape[axis] for axis in reduced)

    def select(found: Tensor) -> Tensor:
        return found.movedim(reduced, list(range(-len(reduced), 0))).reshape(1, -1, count)

    return capture.take(node, 0, select)


def of_rows(capture: Capture, node: FxNode, kind: str, rows: str) -> str:
    """The result of a node: one number of each row."""
    return capture.give(node, reduced_rows(capture, node, kind, rows))


def reduced_rows(capture: Capture, node: FxNode, kind: str, rows: str) -> str:
    """One number of each row, [1, rows, 1]."""
    return capture.store(node, Reduce(kind), (1, capture.shape_of(rows)[1], 1), rows)
