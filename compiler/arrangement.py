"""How the axes of a torch tensor become channels, rows and columns.

The first axis, the batch, has length 1: networks are compiled for one sample. What remains of

- an image [C, H, W] stays as it is;
- a sequence [T, D] becomes (D, 1, T): tokens are pixels, so that a linear layer is a 1x1 convolution;
- a vector [F] becomes (F, 1, 1);
- more axes [..., H, W] go together but for the last two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compiler.graph import Shape


def axes_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of a tensor's shape without a batch axis of length 1."""
    axes = tuple(int(size) for size in shape)
    return (axes[1:] if len(axes) > 1 and axes[0] == 1 else axes) or (1,)


def arranged_shape(shape: Sequence[int]) -> Shape:
    """(C, H, W) of a tensor of that torch shape."""
    axes = axes_of(shape)
    match len(axes):
        case 1:
            return axes[0], 1, 1
        case 2:
            return axes[1], 1, axes[0]
        case _:
            return math.prod(axes[:-2]), axes[-2], axes[-1]


def arrange(tensor: Tensor) -> Tensor:
    """The elements of a torch tensor as (C, H, W)."""
    axes = axes_of(tensor.shape)
    flat = tensor.reshape(axes)
    return (flat.T if len(axes) == 2 else flat).reshape(arranged_shape(tensor.shape))


def positions(shape: Sequence[int], start: int = 0) -> Tensor:
    """A tensor of that torch shape: at each element its position in the flattened arrangement, counted from `start`."""
    channels, height, width = arranged_shape(shape)
    flat = torch.arange(start, start + math.prod(shape)).reshape(channels, height, width)
    axes = axes_of(shape)
    return (flat.reshape(channels, width).T if len(axes) == 2 else flat).reshape(tuple(shape))
