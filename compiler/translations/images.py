"""Arguments of operators that work on images, or on signals as images of one row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node as FxNode

from compiler.arrangement import arrange
from compiler.graph import Pair, Shape
from compiler.translation import Capture, argument, pair, shape_of


def of_each_image(capture: Capture, node: FxNode, compute: Callable[[str], str]) -> str:
    """The result of an operator [B, C, H, W] or [B, C, T], by what it makes of one image (C, H, W) or (C, 1, T).

    There is one image but where another axis was folded into the batch, as is done with frames or crops.
    """
    count, channels, *_ = argument(node, 0).meta["val"].shape
    height, width = image_size(capture, node)
    if count == 1 and len(shape_of(node)) == 4:
        return compute(capture.tensor(node, 0))
    images = [
        capture.take(node, 0, lambda found, number=number: found[number].reshape(channels, height, width))  # type: ignore[misc]
        for number in range(count)
    ]
    made = [compute(name) for name in images]
    found = torch.arange(math.prod(shape_of(node))).reshape(shape_of(node))
    return capture.move(node, made, arrange(found))


def image_size(capture: Capture, node: FxNode) -> tuple[int, int]:
    """Height and width of the images in the first argument."""
    shape = tuple(argument(node, 0).meta["val"].shape)
    if len(shape) not in (3, 4) or (len(shape) == 3 and "2d" in str(node.target)):
        raise capture.refusal(node, f"its input has shape {list(shape)}, not [N, C, H, W] or [N, C, T]")
    return (1, int(shape[2])) if len(shape) == 3 else (int(shape[2]), int(shape[3]))


def both_ways(node: FxNode, value: Any, neutral: int) -> Pair:
    """A parameter as (vertical, horizontal); that of a signal, which has one row, is `neutral` vertically."""
    return (neutral, pair(value)[0]) if len(shape_of(node)) == 3 else pair(value)


def as_image(shape: tuple[int, ...]) -> Shape:
    """(C, H, W) of one of the images of a result [B, C, H, W] or [B, C, T]."""
    return (shape[1], 1, shape[2]) if len(shape) == 3 else (shape[1], shape[2], shape[3])
