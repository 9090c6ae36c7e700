"""Linear layers, matrix products and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.arrangement import arrange, positions
from compiler.graph import Activation, Add, Constant, Conv, Linear, MatMul, Shape, Softmax
from compiler.translation import Capture, Result, argument, handles, shape_of
from compiler.translations.elementwise import spelled


@handles("aten.linear.default")
def _linear(capture: Capture, node: FxNode) -> Result:
    weight, bias = capture.required(node, 1), capture.constant(node, 2)
    return _apply(capture, node, weight, bias)


@handles("aten.matmul.default", "aten.mm.default", "aten.bmm.default")
def _matmul(capture: Capture, node: FxNode) -> Result:
    second = argument(node, 1)
    if capture.is_known(second) and len(second.meta["val"].shape) == 2:
        return _apply(capture, node, capture.keep(node, capture.known[second].T), None)
    shapes = [tuple(argument(node, index).meta["val"].shape) for index in (0, 1)]
    if min(map(len, shapes)) < 2:
        raise capture.refusal(node, f"products of {shapes} are not supported, only of matrices")
    if max(map(len, shapes)) == 2:
        capture.mixing.append(node)
    batch = np.broadcast_shapes(shapes[0][:-2], shapes[1][:-2])
    count = math.prod(batch)

    def select(found: Tensor) -> Tensor:
        return found.expand(*batch, *found.shape[-2:]).reshape(count, *found.shape[-2:])

    names = [capture.take(node, index, select) for index in (0, 1)]
    shape = (count, shapes[0][-2], shapes[1][-1])
    return capture.give(node, capture.store(node, MatMul(), shape, *names))


@handles("aten.addmm.default")
def _addmm(capture: Capture, node: FxNode) -> Result:
    if argument(node, 3, 1) != 1 or argument(node, 4, 1) != 1 or not capture.is_known(argument(node, 2)):
        raise capture.refusal(node, "only addmm(bias, x, weight) without factors is supported")
    weight = capture.keep(node, capture.known[argument(node, 2)].T)
    bias = capture.known[argument(node, 0)].expand(shape_of(node)[-1])
    return _apply(capture, node, weight, capture.keep(node, bias), at=1)


@handles("aten.scaled_dot_product_attention.default")
def _attention(capture: Capture, node: FxNode) -> Result:
    """softmax(q k^T * scale + mask) v, the softmax of what is masked everywhere being zero."""
    if argument(node, 4, 0.0):
        raise capture.refusal(node, "it drops elements at random; pass dropout_p=0 in evaluation mode")
    query, key, value = (tuple(argument(node, index).meta["val"].shape) for index in range(3))
    scale = argument(node, 6)
    factor = 1 / math.sqrt(query[-1]) if scale is None else float(scale)
    grouped = bool(argument(node, 7, False))
    batch = query[:-2] if grouped else np.broadcast_shapes(query[:-2], key[:-2], value[:-2])
    count = math.prod(batch)

    def select(found: Tensor) -> Tensor:
        if grouped:
            found = found.repeat_interleave(batch[-1] // found.shape[-3], -3)
        return found.expand(*batch, *found.shape[-2:]).reshape(count, *found.shape[-2:])

    names = [capture.take(node, index, select) for index in range(3)]
    scores: Shape = (count, query[-2], key[-2])
    products = capture.store(node, MatMul(factor, transposed=True), scores, names[0], names[1])
    mask = _mask(capture, node, (*batch, query[-2], key[-2]))
    if mask is not None:
        products = capture.store(node, Add(), scores, products, mask)
    weights = capture.store(node, Softmax(masked=_masks_rows(capture, argument(node, 3))), scores, products)
    mixed = capture.store(node, MatMul(), (count, query[-2], value[-1]), weights, names[2])
    return capture.give(node, mixed)


def _mask(capture: Capture, node: FxNode, shape: Sequence[int]) -> str | None:
    """What is added to the scores [*batch, L, S], as (batch, L, S); None if nothing is."""
    mask = argument(node, 3)
    matrices = (math.prod(shape[:-2]), shape[-2], shape[-1])
    if mask is not None and not capture.is_known(mask):
        found = positions(mask.meta["val"].shape).expand(*shape).reshape(matrices)
        name = capture.tensor(node, 3)
        if mask.meta["val"].dtype == torch.bool:
            name = capture.store(node, Activation(spelled("either", 0, -math.inf)), capture.shape_of(name), name)
        return capture.move(node, [name], found)
    known = torch.zeros(()) if mask is None else capture.known[mask]
    if mask is None and not argument(node, 5, False):
        return None
    if argument(node, 5, False):
        known = torch.ones(*shape[-2:], dtype=torch.bool).tril()
    if known.dtype == torch.bool:
        known = torch.zeros(known.shape).masked_fill(~known, -math.inf)
    value = capture.keep(node, known.expand(*shape).reshape(matrices))
    return capture.store(node, Constant(value), matrices)


def _masks_rows(capture: Capture, mask: FxNode | None) -> bool:
    """Whether a row of scores may be masked everywhere."""
    if mask is None or not capture.is_known(mask):
        return mask is not None
    known = capture.known[mask]
    return bool((~known if known.dtype == torch.bool else known == -math.inf).all(-1).any())


def _apply(capture: Capture, node: FxNode, weight: str, bias: str | None, at: int = 0) -> str:
    """The argument [..., F] times a weight [O, F], plus bias: a 1x1 convolution of tokens, or a linear layer of one."""
    shape = tuple(argument(node, at).meta["val"].shape)
    features, count = shape[-1], math.prod(shape[:-1])
    if len(shape) == 2 and count == 1:
        return capture.store(node, Linear(weight, bias), (shape_of(node)[-1], 1, 1), capture.tensor(node, at))
    outputs = shape_of(node)[-1]
    tokens = capture.take(node, at, lambda found: found.reshape(count, features).T.reshape(features, 1, count))
    kernel = capture.keep(node, torch.from_numpy(capture.constants[weight])[:, :, None, None])
    made = capture.store(node, Conv(kernel, bias), (outputs, 1, count), tokens)
    found = torch.arange(outputs * count).reshape(outputs, count).T.reshape(shape_of(node))
    return capture.move(node, [made], arrange(found))
