"""Normalisations, and the softmax."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.graph import BatchNorm, Normalise, Softmax
from compiler.translation import Capture, Result, argument, handles, shape_of
from compiler.translations.elementwise import affine


@handles("aten.batch_norm.default")
def _batch_norm(capture: Capture, node: FxNode) -> Result:
    if argument(node, 5):
        raise capture.refusal(node, "it normalises with the statistics of the batch; put it in evaluation mode")
    return _by_statistics(capture, node, float(argument(node, 7)))


@handles("aten._native_batch_norm_legit_no_training.default")
def _batch_norm_function(capture: Capture, node: FxNode) -> Result:
    return (_by_statistics(capture, node, float(argument(node, 6))),)


def _by_statistics(capture: Capture, node: FxNode, eps: float) -> str:
    mean = capture.constants[capture.required(node, 3)].astype(np.float64)
    variance = capture.constants[capture.required(node, 4)].astype(np.float64)
    weight, bias = capture.constant(node, 1), capture.constant(node, 2)
    scale = (1.0 if weight is None else capture.constants[weight]) / np.sqrt(variance + eps)
    shift = (0.0 if bias is None else capture.constants[bias]) - mean * scale
    for name, value in ((f"{node.name}.scale", scale), (f"{node.name}.shift", shift)):
        capture.constants[name] = np.asarray(value, np.float32)
    op = BatchNorm(f"{node.name}.scale", f"{node.name}.shift")
    count, channels, *rest = shape_of(node)
    if count == 1 and len(rest) == 2:
        return capture.add(node, op, capture.tensor(node, 0))
    pixels = math.prod(rest)

    def select(found: Tensor) -> Tensor:
        return found.reshape(count, channels, pixels).movedim(0, 1).reshape(channels, 1, count * pixels)

    made = capture.store(node, op, (channels, 1, count * pixels), capture.take(node, 0, select))
    return capture.give(node, made, lambda found: found.reshape(channels, count, pixels).movedim(0, 1))


@handles("aten.group_norm.default")
def _group_norm(capture: Capture, node: FxNode) -> Result:
    return _grouped(capture, node, int(argument(node, 1)), 2, float(argument(node, 4, 1e-5)))


@handles("aten.instance_norm.default")
def _instance_norm(capture: Capture, node: FxNode) -> Result:
    if not argument(node, 5):
        raise capture.refusal(node, "running statistics of an instance norm are not supported")
    return _grouped(capture, node, shape_of(node)[1], 1, float(argument(node, 7)))


def _grouped(capture: Capture, node: FxNode, groups: int, weight_at: int, eps: float) -> str:
    count, channels, *rest = shape_of(node)
    names = capture.constant(node, weight_at), capture.constant(node, weight_at + 1)
    terms = [
        torch.full((channels,), neutral) if name is None else torch.from_numpy(capture.constants[name])
        for name, neutral in zip(names, (1.0, 0.0), strict=True)
    ]
    scale, shift = (capture.keep(node, term.repeat(count)) for term in terms)
    op = Normalise(scale, shift, eps, count * groups)
    if len(rest) == 2:
        return capture.add(node, op, capture.tensor(node, 0))
    tensor = capture.take(node, 0, lambda found: found.reshape(count * channels, 1, math.prod(rest)))
    return capture.give(node, capture.store(node, op, capture.shape_of(tensor), tensor))


@handles("aten.layer_norm.default")
def _layer_norm(capture: Capture, node: FxNode) -> Result:
    return _over_last(capture, node, 2, float(argument(node, 4, 1e-5)), centred=True)


@handles("aten.rms_norm.default")
def _rms_norm(capture: Capture, node: FxNode) -> Result:
    eps = argument(node, 3)
    return _over_last(capture, node, 2, float(torch.finfo(torch.float32).eps if eps is None else eps), centred=False)


def _over_last(capture: Capture, node: FxNode, weight_at: int, eps: float, *, centred: bool) -> str:
    """Normalise over the last axes: over the channels of tokens if it is one, of a single image a row if more."""
    shape = shape_of(node)
    size = [int(length) for length in argument(node, 1)]
    features, count = math.prod(size), math.prod(shape) // math.prod(size)
    ones, zeros = torch.ones(features), torch.zeros(features)
    weight = capture.constant(node, weight_at)
    bias = capture.constant(node, weight_at + 1) if centred else None
    if len(size) == 1:
        op = Normalise(weight or capture.keep(node, ones), bias or capture.keep(node, zeros), eps, 0, centred)
        tokens = capture.take(node, 0, lambda found: found.reshape(count, features).T.reshape(features, 1, count))
        done = capture.store(node, op, (features, 1, count), tokens)
        return capture.give(node, done, lambda found: found.reshape(features, count).T)
    if not centred:
        raise capture.refusal(node, "a root mean square over several axes is not supported")
    scale, shift = (capture.keep(node, torch.full((count,), neutral)) for neutral in (1.0, 0.0))
    op = Normalise(scale, shift, eps, count, centred)
    rows = capture.take(node, 0, lambda found: found.reshape(count, 1, features))
    done = capture.give(node, capture.store(node, op, (count, 1, features), rows))
    terms = [
        default if name is None else torch.from_numpy(capture.constants[name])
        for name, default in ((weight, torch.ones(())), (bias, torch.zeros(())))
    ]
    return affine(capture, node, done, terms[0], terms[1])


@handles("aten.softmax.int", "aten._softmax.default")
def _softmax(capture: Capture, node: FxNode) -> Result:
    return _along(capture, node, Softmax())


@handles("aten.log_softmax.int", "aten._log_softmax.default")
def _log_softmax(capture: Capture, node: FxNode) -> Result:
    return _along(capture, node, Softmax(log=True))


def _along(capture: Capture, node: FxNode, op: Softmax) -> str:
    """Softmax along one axis: rows are made of it."""
    shape = shape_of(node)
    axis = int(argument(node, 1)) % len(shape)
    if axis == 0:
        capture.mixing.append(node)
    rows = [length for index, length in enumerate(shape) if index != axis]
    outer, inner = math.prod(rows[:-1]), rows[-1] if rows else 1

    def select(found: Tensor) -> Tensor:
        return found.movedim(axis, -1).reshape(outer, inner, shape[axis])

    made = capture.store(node, op, (outer, inner, shape[axis]), capture.take(node, 0, select))
    return capture.give(node, made, lambda found: found.reshape(*rows, shape[axis]).movedim(-1, axis))
