"""Comparisons, logic, and choices by a condition that is computed from the input: truth is 1, falsehood 0."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.arrangement import arrange, positions
from compiler.graph import Activation, Add, Arithmetic
from compiler.translation import Capture, Result, argument, handles, shape_of
from compiler.translations.elementwise import expanded, of_two, spelled
from compiler.translations.movement import moved
from compiler.translations.reduction import as_rows, of_rows

WITH_A_NUMBER = {
    "aten.eq.Scalar": "equals",
    "aten.ge.Scalar": "at_least",
    "aten.gt.Scalar": "above",
    "aten.le.Scalar": "at_most",
    "aten.lt.Scalar": "below",
    "aten.ne.Scalar": "differs",
}
"""Comparisons with a number."""

OF_TWO = {
    "aten.eq.Tensor": ("equal", (0, 1)),
    "aten.ge.Tensor": ("less_equal", (1, 0)),
    "aten.gt.Tensor": ("less", (1, 0)),
    "aten.le.Tensor": ("less_equal", (0, 1)),
    "aten.lt.Tensor": ("less", (0, 1)),
    "aten.ne.Tensor": ("unequal", (0, 1)),
}
"""Comparisons of two tensors, and in which order they are compared."""

LOGIC = {
    "aten.__and__.Tensor": "mul",
    "aten.__or__.Tensor": "max",
    "aten.__xor__.Tensor": "unequal",
    "aten.bitwise_and.Tensor": "mul",
    "aten.bitwise_or.Tensor": "max",
    "aten.bitwise_xor.Tensor": "unequal",
    "aten.logical_and.default": "mul",
    "aten.logical_or.default": "max",
    "aten.logical_xor.default": "unequal",
}
"""Functions of two truths."""

OF_SEVERAL = {
    "aten.all.default": "min",
    "aten.all.dim": "min",
    "aten.all.dims": "min",
    "aten.any.default": "max",
    "aten.any.dim": "max",
    "aten.any.dims": "max",
}
"""Whether all, or any, of several values are true."""


@handles(*WITH_A_NUMBER)
def _with_a_number(capture: Capture, node: FxNode) -> str:
    return _decided(capture, node, WITH_A_NUMBER[str(node.target)], capture.tensor(node, 0), argument(node, 1))


@handles(*OF_TWO)
def _compared(capture: Capture, node: FxNode) -> str:
    kind, order = OF_TWO[str(node.target)]
    return of_two(capture, node, kind, order)


@handles("aten.isnan.default")
def _isnan(capture: Capture, node: FxNode) -> str:
    return of_two(capture, node, "unequal", (0, 0))


@handles("aten.isinf.default")
def _isinf(capture: Capture, node: FxNode) -> str:
    size = capture.add(node, Activation("abs"), capture.tensor(node, 0))
    return _decided(capture, node, "equals", size, math.inf)


@handles(*LOGIC)
def _joined(capture: Capture, node: FxNode) -> str:
    _refuse_bits(capture, node)
    truths = (_truth(capture, node, argument(node, index)) for index in (0, 1))
    return capture.add(node, Arithmetic(LOGIC[str(node.target)]), *truths)


@handles("aten.bitwise_not.default", "aten.logical_not.default")
def _negated(capture: Capture, node: FxNode) -> str:
    _refuse_bits(capture, node)
    return _decided(capture, node, "equals", capture.tensor(node, 0), 0)


@handles(*OF_SEVERAL)
def _of_several(capture: Capture, node: FxNode) -> str:
    whole = str(node.target).endswith(".default")
    rows = as_rows(capture, node, [] if whole else argument(node, 1, []))
    if argument(node, 0).meta["val"].dtype != torch.bool:
        rows = capture.store(node, Activation("differs(0.0)"), capture.shape_of(rows), rows)
    return of_rows(capture, node, OF_SEVERAL[str(node.target)], rows)


@handles("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def _where(capture: Capture, node: FxNode) -> Result:
    condition, chosen, other = (argument(node, index) for index in range(3))
    if not capture.is_known(condition):
        return _chosen(capture, node, condition, chosen, other)
    if isinstance(chosen, FxNode) and isinstance(other, FxNode):
        return moved(capture, node)
    return _filled(capture, node, capture.known[condition], chosen, other)


@handles("aten.masked_fill.Scalar")
def _masked_fill(capture: Capture, node: FxNode) -> Result:
    tensor, mask, value = (argument(node, index) for index in range(3))
    if capture.is_known(mask):
        return _filled(capture, node, capture.known[mask], value, tensor)
    return _chosen(capture, node, mask, value, tensor)


def _filled(capture: Capture, node: FxNode, mask: Tensor, chosen: Any, other: Any) -> str:
    """A choice between a tensor and a number, by a known mask."""
    inverted = not isinstance(chosen, FxNode)
    tensor, fill = (other, chosen) if inverted else (chosen, other)
    found = positions(tensor.meta["val"].shape).expand(shape_of(node))
    found = found.masked_fill(mask if inverted else ~mask, -1)
    return capture.move(node, [capture.name_of(node, tensor)], arrange(found), float(fill))


def _chosen(capture: Capture, node: FxNode, condition: FxNode, chosen: Any, other: Any) -> str:
    """What is kept of one, plus what is kept of the other; each is exactly 0 where it is not chosen."""
    truth = expanded(capture, node, condition)
    if not isinstance(chosen, FxNode) and not isinstance(other, FxNode):
        return capture.add(node, Activation(spelled("either", chosen, other)), truth)
    parts = []
    for value, kind, numbers in ((chosen, "keep_if", (chosen, 0)), (other, "keep_unless", (0, other))):
        if isinstance(value, FxNode):
            parts.append(capture.add(node, Arithmetic(kind), expanded(capture, node, value), truth))
        elif value != 0:
            parts.append(capture.add(node, Activation(spelled("either", *numbers)), truth))
    return parts[0] if len(parts) == 1 else capture.add(node, Add(), *parts)


def _refuse_bits(capture: Capture, node: FxNode) -> None:
    if node.meta["val"].dtype != torch.bool:
        raise capture.refusal(node, "bits of whole numbers are not supported, only of truth values")


def _truth(capture: Capture, node: FxNode, value: FxNode) -> str:
    """1 where a tensor is not 0, and 0 elsewhere."""
    name = expanded(capture, node, value)
    return name if value.meta["val"].dtype == torch.bool else _decided(capture, node, "differs", name, 0)


def _decided(capture: Capture, node: FxNode, kind: str, tensor: str, number: float) -> str:
    return capture.add(node, Activation(spelled(kind, number)), tensor)
