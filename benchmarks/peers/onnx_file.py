"""A network as an ONNX file of batch 1, for the runtimes that read ONNX."""

from __future__ import annotations

from pathlib import Path

import onnx
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from compiler import CompilerError, export_onnx


def write_onnx(model: nn.Module, image: Tensor, folder: Path) -> Path:
    """Export `model`, checked against torch, and fix its batch to 1: runtimes plan better with known shapes.

    Raises:
        PeerUnavailable: if there is no ONNX file of the network.
    """
    path = folder / "model.onnx"
    try:
        export_onnx(model, image, path)
    except CompilerError as error:
        raise PeerUnavailable(f"the network cannot be written as ONNX: {error}") from error
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.value_info[:]
    onnx.save(proto, path)
    return path
