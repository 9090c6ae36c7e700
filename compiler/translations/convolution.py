"""Convolutions, transposed ones among them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.arrangement import positions
from compiler.graph import Conv, Pair
from compiler.translation import Capture, argument, handles, shape_of
from compiler.translations.images import as_image, both_ways, image_size, of_each_image


@handles("aten.conv2d.default", "aten.conv1d.default")
def _conv(capture: Capture, node: FxNode) -> str:
    stride, padding, dilation = _parameters(node)
    return _convolve(capture, node, stride, padding, dilation, int(argument(node, 6)))


@handles("aten.conv2d.padding", "aten.conv1d.padding")
def _conv_padding(capture: Capture, node: FxNode) -> str:
    stride, dilation = (both_ways(node, argument(node, index), 1) for index in (3, 5))
    kernel = _weight(capture, node).shape[2:]
    total = [d * (k - 1) if argument(node, 4) == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    groups = int(argument(node, 6))
    if not (total[0] % 2 or total[1] % 2):
        return _convolve(capture, node, stride, (total[0] // 2, total[1] // 2), dilation, groups)
    widths = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)

    def padded(name: str) -> str:
        found = positions((1, *capture.shape_of(name)))[0]
        return capture.move(node, [name], torch.constant_pad_nd(found, widths, -1))

    return _convolve(capture, node, stride, (0, 0), dilation, groups, padded)


@handles("aten.convolution.default")
def _convolution(capture: Capture, node: FxNode) -> str:
    stride, padding, dilation = _parameters(node)
    if argument(node, 6):
        return _transposed(capture, node, stride, padding, dilation, int(argument(node, 8)))
    return _convolve(capture, node, stride, padding, dilation, int(argument(node, 8)))


@handles("aten.conv_transpose2d.input", "aten.conv_transpose1d.default")
def _conv_transposed(capture: Capture, node: FxNode) -> str:
    stride, padding, dilation = _parameters(node, dilation=7)
    return _transposed(capture, node, stride, padding, dilation, int(argument(node, 6)))


def _parameters(node: FxNode, stride: int = 3, padding: int = 4, dilation: int = 5) -> tuple[Pair, Pair, Pair]:
    """Stride, padding and dilation, which are the arguments of these numbers."""
    numbers = ((stride, 1), (padding, 0), (dilation, 1))
    found = [both_ways(node, argument(node, index), neutral) for index, neutral in numbers]
    return found[0], found[1], found[2]


def _weight(capture: Capture, node: FxNode) -> Tensor:
    """The weight with two axes of positions."""
    weight = torch.from_numpy(capture.constants[capture.required(node, 1)])
    return weight.unsqueeze(2) if weight.ndim == 3 else weight


def _convolve(
    capture: Capture,
    node: FxNode,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    prepared: Callable[[str], str] = str,
) -> str:
    """A convolution of each image, once it is `prepared`."""
    weight, bias = capture.required(node, 1), capture.constant(node, 2)
    if capture.constants[weight].ndim == 3:
        weight = capture.keep(node, _weight(capture, node))
    if capture.constants[weight].ndim != 4:
        raise capture.refusal(node, "convolutions of volumes are not supported")
    op, shape = Conv(weight, bias, stride, padding, dilation, groups), as_image(shape_of(node))
    return of_each_image(capture, node, lambda name: capture.store(node, op, shape, prepared(name)))


def _transposed(capture: Capture, node: FxNode, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> str:
    """A convolution that computes each phase of the result as filters of its own, which are then interleaved.

    Row m * stride + r of the result sums weight[k] * x[m + q] over all k with r + padding - dilation * k = stride * q.
    """
    weight = _weight(capture, node)
    sizes, out = image_size(capture, node), as_image(shape_of(node))
    inputs, outputs = weight.shape[0], weight.shape[1] * groups
    whole = torch.zeros(inputs, outputs, *weight.shape[2:])
    for group in range(groups):
        rows = slice(group * inputs // groups, (group + 1) * inputs // groups)
        cols = slice(group * outputs // groups, (group + 1) * outputs // groups)
        whole[rows, cols] = weight[rows]
    taps = [_taps(stride[a], padding[a], dilation[a], whole.shape[2 + a]) for a in (0, 1)]
    counts = [-(-out[1 + a] // stride[a]) for a in (0, 1)]
    after = [max((q for _, _, q in taps[a]), default=0) for a in (0, 1)]
    before = [min((q for _, _, q in taps[a]), default=0) for a in (0, 1)]
    border = [max(0, -before[a], counts[a] - sizes[a] + after[a]) for a in (0, 1)]
    phases = stride[0] * stride[1]
    kernel = torch.zeros(phases, outputs, inputs, *(max(after[a] + border[a], 0) + 1 for a in (0, 1)))
    for r, k, q in taps[0]:
        for s, j, p in taps[1]:
            kernel[r * stride[1] + s, :, :, q + border[0], p + border[1]] += whole[:, :, k, j].T
    bias = capture.constant(node, 2)
    repeated = None
    if bias is not None:
        repeated = capture.keep(node, torch.from_numpy(capture.constants[bias]).repeat(phases))
    made = [sizes[a] + 2 * border[a] - kernel.shape[3 + a] + 1 for a in (0, 1)]
    op = Conv(capture.keep(node, kernel.flatten(0, 1)), repeated, padding=(border[0], border[1]))
    shape = (phases * outputs, made[0], made[1])
    found = torch.arange(phases * outputs * made[0] * made[1]).reshape(*stride, outputs, *made)
    woven = found.permute(2, 3, 0, 4, 1).reshape(outputs, made[0] * stride[0], made[1] * stride[1])
    woven = woven[:, : out[1], : out[2]]
    return of_each_image(capture, node, lambda name: capture.move(node, [capture.store(node, op, shape, name)], woven))


def _taps(stride: int, padding: int, dilation: int, kernel: int) -> list[tuple[int, int, int]]:
    """(phase r, kernel position k, input offset q) of everything that is summed along one axis."""
    found = []
    for r in range(stride):
        for k in range(kernel):
            q, rest = divmod(r + padding - dilation * k, stride)
            if rest == 0:
                found.append((r, k, q))
    return found
