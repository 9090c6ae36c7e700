"""Interpolation: what torch does to unit vectors along each axis is what it does to images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.graph import Resize
from compiler.translation import Capture, Result, handles, shape_of
from compiler.translations.images import as_image, image_size, of_each_image


@handles(
    "aten.upsample_bilinear2d.default",
    "aten.upsample_bilinear2d.vec",
    "aten.upsample_bicubic2d.default",
    "aten.upsample_bicubic2d.vec",
    "aten.upsample_linear1d.default",
    "aten.upsample_linear1d.vec",
    "aten._upsample_bilinear2d_aa.default",
    "aten._upsample_bilinear2d_aa.vec",
    "aten._upsample_bicubic2d_aa.default",
    "aten._upsample_bicubic2d_aa.vec",
)
def _resize(capture: Capture, node: FxNode) -> Result:
    height, width = image_size(capture, node)
    target: Any = node.target
    rest = (node.args[1:], node.kwargs)

    def run(unit: Tensor) -> Tensor:
        result: Tensor = target(unit if len(shape_of(node)) == 4 else unit[:, :, 0], *rest[0], **rest[1])
        return result if result.ndim == 4 else result.unsqueeze(2)

    down = run(torch.eye(height).reshape(1, height, height, 1).expand(-1, -1, -1, width))
    across = run(torch.eye(width).reshape(1, width, 1, width).expand(-1, -1, height, -1))
    rows, cols = capture.keep(node, down[0, :, :, 0].T), capture.keep(node, across[0, :, 0, :].T)
    op, shape = Resize(rows, cols), as_image(shape_of(node))
    return of_each_image(capture, node, lambda name: capture.store(node, op, shape, name))
