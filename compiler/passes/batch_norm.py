"""Batch norm disappears into the convolution before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.graph import BatchNorm, Conv, Graph


def fold_batch_norm(graph: Graph) -> Graph:
    """Scale weights and shift biases so that y = scale * (W x + b) + shift is one convolution.

    A batch norm without a convolution of its own before it becomes a depthwise 1x1 convolution.
    """
    readers = graph.consumers()
    constants = dict(graph.constants)
    nodes = {node.name: node for node in graph.nodes}
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        if not isinstance(node.op, BatchNorm):
            continue
        scale, shift = constants[node.op.scale], constants[node.op.shift]
        source = nodes.get(node.inputs[0])
        alone = source is not None and len(readers[source.name]) == 1 and source.name not in graph.outputs
        if source is not None and alone and isinstance(source.op, Conv) and source.name not in renamed:
            weight = constants[source.op.weight]
            bias = 0.0 if source.op.bias is None else constants[source.op.bias]
            op = replace(source.op, weight=f"{node.name}.weight", bias=f"{node.name}.bias")
            constants[f"{node.name}.weight"] = weight * scale.reshape(-1, 1, 1, 1)
            constants[f"{node.name}.bias"] = np.asarray(bias * scale + shift, np.float32)
            nodes[source.name] = replace(source, op=op)
            renamed[node.name] = source.name
            del nodes[node.name]
        else:
            constants[f"{node.name}.weight"] = scale.reshape(-1, 1, 1, 1)
            op = Conv(f"{node.name}.weight", node.op.shift, groups=len(scale))
            nodes[node.name] = replace(node, op=op)
    return graph.rewrite(nodes.values(), renamed, constants)
