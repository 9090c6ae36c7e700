"""Arguments of operators that work on images, or on signals as images of one row."""

from __future__ import annotations

from typing import Any

from torch.fx import Node as FxNode

from compiler.graph import Pair, Shape
from compiler.translation import Capture, argument, pair, shape_of


def image(capture: Capture, node: FxNode, index: int = 0) -> str:
    """Argument `index`, [1, C, H, W] or [1, C, T], as an image (C, H, W) or (C, 1, T)."""
    shape = tuple(argument(node, index).meta["val"].shape)
    height, width = image_size(capture, node, index)
    if len(shape) == 4:
        return capture.tensor(node, index)
    return capture.take(node, index, lambda found: found.reshape(shape[1], height, width))


def image_size(capture: Capture, node: FxNode, index: int = 0) -> tuple[int, int]:
    """Height and width of `image`."""
    shape = tuple(argument(node, index).meta["val"].shape)
    if len(shape) not in (3, 4) or shape[0] != 1:
        raise capture.refusal(node, f"its input has shape {list(shape)}, not [N, C, H, W] or [N, C, T]")
    return (1, int(shape[2])) if len(shape) == 3 else (int(shape[2]), int(shape[3]))


def both_ways(node: FxNode, value: Any, neutral: int) -> Pair:
    """A parameter as (vertical, horizontal); that of a signal, which has one row, is `neutral` vertically."""
    return (neutral, pair(value)[0]) if len(shape_of(node)) == 3 else pair(value)


def as_image(shape: tuple[int, ...]) -> Shape:
    """(C, H, W) of a result [1, C, H, W] or [1, C, T]."""
    return (shape[1], 1, shape[2]) if len(shape) == 3 else (shape[1], shape[2], shape[3])


def from_image(capture: Capture, node: FxNode, tensor: str) -> str:
    """The result [1, C, H, W] or [1, C, T] of `node`, which was computed as an image."""
    return tensor if len(shape_of(node)) == 4 else capture.give(node, tensor)
