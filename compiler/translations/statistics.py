"""Norms, variances and sums of exponentials over axes, made of reductions and functions of single elements."""

from __future__ import annotations

import math

import torch
from torch.fx import Node as FxNode

from compiler.graph import Activation, Add, Arithmetic, BatchNorm
from compiler.translation import Capture, Result, argument, handles
from compiler.translations.elementwise import spelled
from compiler.translations.reduction import as_rows, of_rows, reduced_rows

LARGEST = torch.finfo(torch.float32).max


@handles("aten.linalg_vector_norm.default")
def _vector_norm(capture: Capture, node: FxNode) -> Result:
    order = float(argument(node, 1, 2))
    if order == 0:
        raise capture.refusal(node, "a norm of order 0 counts elements")
    rows = as_rows(capture, node, argument(node, 2))
    if order == 2:
        squares = _each(capture, node, "square", rows)
        return capture.give(node, _each(capture, node, "sqrt", reduced_rows(capture, node, "sum", squares)))
    sizes = _each(capture, node, "abs", rows)
    if math.isinf(order):
        return of_rows(capture, node, "max" if order > 0 else "min", sizes)
    if order == 1:
        return of_rows(capture, node, "sum", sizes)
    powers = reduced_rows(capture, node, "sum", _each(capture, node, spelled("pow", order), sizes))
    return capture.give(node, _each(capture, node, spelled("pow", 1 / order), powers))


@handles("aten.var.default", "aten.std.default")
def _of_everything(capture: Capture, node: FxNode) -> Result:
    return _spread(capture, node, as_rows(capture, node, None), float(bool(argument(node, 1, True))))


@handles("aten.var.dim", "aten.std.dim")
def _along_axes(capture: Capture, node: FxNode) -> Result:
    return _spread(capture, node, as_rows(capture, node, argument(node, 1)), float(bool(argument(node, 2, True))))


@handles("aten.var.correction", "aten.std.correction")
def _corrected(capture: Capture, node: FxNode) -> Result:
    return _spread(capture, node, as_rows(capture, node, argument(node, 1)), float(argument(node, 2, 1)))


@handles("aten.var_mean.correction")
def _with_mean(capture: Capture, node: FxNode) -> Result:
    rows = as_rows(capture, node, argument(node, 1))
    return _spread(capture, node, rows, float(argument(node, 2, 1))), of_rows(capture, node, "mean", rows)


def _spread(capture: Capture, node: FxNode, rows: str, correction: float) -> str:
    """Variance of every row, or its root: the mean square of what is left of the mean, times n / (n - correction)."""
    count = capture.shape_of(rows)[2]
    if count <= correction:
        raise capture.refusal(
            node, f"a variance of {count} elements, {correction:g} of which are taken off, is no number"
        )
    centred = _without(capture, node, rows, reduced_rows(capture, node, "mean", rows))
    mean = reduced_rows(capture, node, "mean", _each(capture, node, "square", centred))
    factor, zero = (capture.keep(node, torch.tensor([value])) for value in (count / (count - correction), 0.0))
    variance = capture.store(node, BatchNorm(factor, zero), capture.shape_of(mean), mean)
    root = str(node.target).startswith("aten.std")
    return capture.give(node, _each(capture, node, "sqrt", variance) if root else variance)


@handles("aten.logsumexp.default")
def _log_sum_exp(capture: Capture, node: FxNode) -> Result:
    """max + log(sum(exp(x - max))); where the largest is infinite, the largest finite number stands for it."""
    rows = as_rows(capture, node, argument(node, 1))
    top = _each(capture, node, spelled("clip", -LARGEST, LARGEST), reduced_rows(capture, node, "max", rows))
    powers = _each(capture, node, "exp", _without(capture, node, rows, top))
    logarithm = _each(capture, node, "log", reduced_rows(capture, node, "sum", powers))
    return capture.give(node, capture.store(node, Add(), capture.shape_of(top), logarithm, top))


def _each(capture: Capture, node: FxNode, function: str, tensor: str) -> str:
    return capture.store(node, Activation(function), capture.shape_of(tensor), tensor)


def _without(capture: Capture, node: FxNode, rows: str, numbers: str) -> str:
    """Every row less its number."""
    shape = capture.shape_of(rows)
    repeated = capture.move(node, [numbers], torch.arange(shape[1]).reshape(1, -1, 1).expand(shape))
    return capture.store(node, Arithmetic("sub"), shape, rows, repeated)
