"""The kernel that a node of the graph needs."""

from __future__ import annotations

from compiler.concat import is_concat
from compiler.errors import UnsupportedOperator
from compiler.graph import (
    Activation,
    Add,
    Arithmetic,
    Constant,
    Conv,
    Embedding,
    Gather,
    GlobalPool,
    Graph,
    MatMul,
    Node,
    Normalise,
    Pool,
    Recurrent,
    Reduce,
    Relayout,
    Resize,
    Scale,
    Softmax,
    TablePool,
)
from compiler.spec import KernelSpec
from compiler.structure import structure_of
from pruning import Sparsity


def spec_of(node: Node, graph: Graph, source: int = 0) -> KernelSpec:
    """The kernel that computes `node` in channel blocks, or that moves its input number `source`.

    Raises:
        UnsupportedOperator: if there is none.
    """
    op = node.op
    shape = graph.shape_of(node.inputs[source]) if node.inputs else node.shape
    channels, height, width = shape
    filters, *size = node.shape
    plain = KernelSpec("", channels, filters, height, width, out=(size[0], size[1]))
    match op:
        case Conv():
            return _convolution(node, op, graph)
        case Pool():
            name = "max_pool" if op.kind == "max" else "avg_pool" if op.count_padding else "avg_pool_valid"
            return KernelSpec(name, channels, channels, height, width, op.kernel, op.stride, op.padding)
        case GlobalPool():
            return KernelSpec("global_pool", channels, channels, height, width)
        case Add():
            return KernelSpec("add", channels, channels, height, width, epilogue=("add", *op.epilogue))
        case Arithmetic():
            return KernelSpec("arithmetic", channels, channels, height, width, epilogue=(op.kind, *op.epilogue))
        case Scale():
            return KernelSpec("scale", channels, channels, height, width, epilogue=op.epilogue)
        case Relayout():
            return KernelSpec("convert", channels, channels, height, width)
        case Activation():
            return KernelSpec("activation", channels, channels, height, width, epilogue=(op.kind,))
        case Constant():
            return KernelSpec("constant", channels, channels, height, width)
        case Gather():
            return plain.named("concat" if is_concat(node, graph) else "gather")
        case TablePool():
            return plain.named(f"table_{op.kind}")
        case Resize():
            return plain.named("resize")
        case Reduce():
            return plain.named(f"reduce_{op.kind}")
        case Softmax():
            name = "log_softmax" if op.log else "masked_softmax" if op.masked else "softmax"
            return KernelSpec(name, channels, channels, height, width)
        case Normalise():
            return KernelSpec("group_norm" if op.groups else "layer_norm", channels, channels, height, width)
        case MatMul():
            return plain.named("matmul")
        case Embedding():
            return plain.named("embedding")
        case Recurrent():
            return plain.named(op.kind)
        case _:
            raise UnsupportedOperator(f"{node.name} in module {node.path}: there is no kernel for {op}")


def _convolution(node: Node, op: Conv, graph: Graph) -> KernelSpec:
    channels, height, width = graph.shape_of(node.inputs[0])
    weight = graph.constants[op.weight]
    kind = _convolution_kind(node, op, channels, height, width, weight.shape)
    return KernelSpec(
        kind,
        channels,
        len(weight),
        height,
        width,
        kernel=(weight.shape[2], weight.shape[3]),
        stride=op.stride,
        padding=op.padding,
        dilation=op.dilation,
        groups=op.groups,
        epilogue=op.epilogue,
        sparsity=Sparsity() if kind == "depthwise" else structure_of(weight),
    )


def _convolution_kind(node: Node, op: Conv, channels: int, height: int, width: int, shape: tuple[int, ...]) -> str:
    if op.groups == 1:
        return "linear" if (height, width, *shape[2:]) == (1, 1, 1, 1) else "conv"
    if op.groups == channels == shape[0]:
        return "depthwise"
    raise UnsupportedOperator(
        f"{node.name} in module {node.path or '(top level)'} has {op.groups} groups of {shape[1]} channels; "
        "run `passes.ungroup` first"
    )
