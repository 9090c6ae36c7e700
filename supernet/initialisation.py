"""Initial weights with which all operators of a site compute nearly the same function.

A random path through freshly drawn weights mixes operators whose outputs have nothing in common, and most of a short
training goes into making them agree. Here each operator starts as one channel mixing that they share, plus noise: the
centre tap of a 3x3 convolution is the 1x1 convolution, a depthwise convolution is the identity, an expansion is made of
copies of the input with alternating signs (NPAS inherits weights by the same rules, read backwards).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

NOISE = 0.5
"""Standard deviation of what is added, relative to what is shared."""


@torch.no_grad()
def start_alike(convs: Sequence[nn.Conv2d], mixing: Tensor) -> None:
    """Fills the weights of an operator.

    Args:
        convs: the operator's convolutions in order; only the last one mixes channels.
        mixing: [out, in] of the site.
    """
    inputs = mixing.shape[1]
    *inner, last = convs
    for conv in inner:
        shared = torch.zeros_like(conv.weight)
        shared[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = (
            torch.ones(conv.out_channels, 1)
            if conv.groups > 1
            else _alternating(torch.eye(inputs), conv.out_channels // inputs, dim=0)
        )
        conv.weight.copy_(_noisy(shared))
    shared = torch.zeros_like(last.weight)
    centre = _alternating(mixing, last.in_channels // inputs, dim=1)
    shared[:, :, last.kernel_size[0] // 2, last.kernel_size[1] // 2] = centre
    last.weight.copy_(_noisy(shared))


def mixing_matrix(out_channels: int, in_channels: int) -> Tensor:
    """A random [out, in] matrix that keeps the variance behind a rectifier (He et al., 1502.01852)."""
    return nn.init.kaiming_normal_(torch.empty(out_channels, in_channels), mode="fan_in", nonlinearity="relu")


def _alternating(matrix: Tensor, copies: int, *, dim: int) -> Tensor:
    return torch.cat([matrix if i % 2 == 0 else -matrix for i in range(copies)], dim)


def _noisy(weight: Tensor) -> Tensor:
    """The weight plus noise that has `NOISE` squared times its energy."""
    return weight + NOISE * weight.square().mean().sqrt() * torch.randn_like(weight)
