"""Cheaper operators in the place of a convolution of a network that exists already."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from supernet.operators import Operator
from supernet.operators.base import Conv

NOISE = 0.02
"""Of the first weights, relative to their size: none of them is zero, which would look pruned."""


@dataclass(frozen=True)
class LayerPlace:
    """The place of a convolution, as an operator sees it."""

    in_channels: int
    out_channels: int
    stride: int
    shortcut: bool = False


def replacement_convs(conv: nn.Conv2d, operator: Operator) -> tuple[Conv, ...] | str:
    """What the operator would put in the place of `conv`, or the reason in words why it cannot stand there.

    Only what has fewer multiply-accumulates is offered.
    """
    kernel, stride, padding = conv.kernel_size, conv.stride, conv.padding
    square = kernel[0] == kernel[1] and stride[0] == stride[1] and padding == (kernel[0] // 2, kernel[1] // 2)
    if conv.groups > 1 or conv.dilation != (1, 1) or conv.padding_mode != "zeros" or not square or kernel[0] % 2 == 0:
        return "it is no plain convolution with an odd kernel and a padding of half of it"
    convs = operator.convs(LayerPlace(conv.in_channels, conv.out_channels, stride[0]))
    if not convs or operator.refuses(LayerPlace(conv.in_channels, conv.out_channels, stride[0])) is not None:
        return f"{operator} is none of the operators that can replace a layer"
    if _cost(convs) >= math.prod(conv.weight.shape) / stride[0] ** 2:
        return f"{operator} would cost as much as the layer itself"
    return convs


def make_replacement(conv: nn.Conv2d, convs: tuple[Conv, ...]) -> nn.Sequential:
    """Convolutions in a row, the last one with a bias if `conv` has one; what surrounds the layer stays around it.

    They start near the layer: the separable kernel closest to it (by singular values, one channel at a time), or its
    centre. Torch's global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = [_module(shape, bias=conv.bias is not None and i == len(convs) - 1) for i, shape in enumerate(convs)]
        with torch.no_grad():
            _start(conv, modules)
            for module in modules:
                scale = module.weight.square().mean().sqrt()
                module.weight.add_(NOISE * scale * torch.randn_like(module.weight))
    with torch.no_grad():
        if conv.bias is not None and modules[-1].bias is not None:
            modules[-1].bias.copy_(conv.bias)
    return nn.Sequential(*modules).to(conv.weight.device).train(conv.training)


def _module(shape: Conv, *, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        stride=shape.stride,
        padding=shape.kernel // 2,
        groups=shape.in_channels if shape.kind == "depthwise" else 1,
        bias=bias,
    )


def _start(conv: nn.Conv2d, modules: list[nn.Conv2d]) -> None:
    if len(modules) == 1:
        modules[0].weight.copy_(_centre(conv.weight, modules[0].kernel_size[0]))
        return
    *expansion, depthwise, pointwise = modules
    terms = depthwise.in_channels // conv.in_channels
    u, s, v = torch.linalg.svd(_centre(conv.weight, depthwise.kernel_size[0]).transpose(0, 1).flatten(2))
    for term in range(terms):
        channels = torch.arange(conv.in_channels) + term * conv.in_channels
        rank = min(term, s.shape[1] - 1)
        scale = s[:, rank].sqrt() if term == rank else torch.zeros_like(s[:, 0])
        depthwise.weight[channels] = (v[:, rank] * scale[:, None]).reshape(-1, 1, *depthwise.kernel_size)
        pointwise.weight[:, channels] = (u[:, :, rank] * scale[:, None]).T[:, :, None, None]
        for conv1x1 in expansion:
            conv1x1.weight[channels] = torch.eye(conv.in_channels)[:, :, None, None]


def _centre(weight: torch.Tensor, kernel: int) -> torch.Tensor:
    """The middle `kernel` x `kernel` positions."""
    first = (weight.shape[2] - kernel) // 2
    return weight[:, :, first : first + kernel, first : first + kernel]


def _cost(convs: tuple[Conv, ...]) -> float:
    """Multiply-accumulates for each pixel of the layer's input."""
    cost, area = 0.0, 1.0
    for conv in convs:
        area /= conv.stride**2
        cost += math.prod(conv.weight_shape) * area
    return cost
