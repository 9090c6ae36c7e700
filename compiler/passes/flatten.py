"""Linear layers become convolutions, so that flattening needs no copy."""

from __future__ import annotations

import math
from dataclasses import replace

from compiler.graph import Conv, Gather, Graph, Linear, counts_up


def flatten_to_conv(graph: Graph) -> Graph:
    """A linear layer behind a flattened (C, H, W) tensor is a convolution with an H x W kernel."""
    constants = dict(graph.constants)
    nodes = {node.name: node for node in graph.nodes}
    for node in graph.nodes:
        if not isinstance(node.op, Linear):
            continue
        source = nodes.get(node.inputs[0])
        tensor = node.inputs[0]
        if source is not None and isinstance(source.op, Gather) and len(source.inputs) == 1:
            index = graph.indices[source.op.index]
            if index.size == math.prod(graph.shape_of(source.inputs[0])) and counts_up(index):
                tensor = source.inputs[0]
        channels, height, width = graph.shape_of(tensor)
        weight = constants[node.op.weight]
        shaped = f"{node.name}.weight"
        constants[shaped] = weight.reshape(len(weight), channels, height, width)
        nodes[node.name] = replace(node, op=Conv(shaped, node.op.bias), inputs=(tensor,))
    return graph.rewrite(nodes.values(), constants=constants)
