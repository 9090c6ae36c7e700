"""Linear layers become convolutions, so that flattening needs no copy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.graph import Conv, Gather, Graph, Linear


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
            index = graph.indices[source.op.index].reshape(-1)
            size = int(np.prod(graph.shape_of(source.inputs[0])))
            if index.size == size and bool((index == np.arange(size)).all()):
                tensor = source.inputs[0]
        channels, height, width = graph.shape_of(tensor)
        weight = constants[node.op.weight]
        shaped = f"{node.name}.weight"
        constants[shaped] = weight.reshape(len(weight), channels, height, width)
        nodes[node.name] = replace(node, op=Conv(shaped, node.op.bias), inputs=(tensor,))
    return graph.rewrite(nodes.values(), constants=constants)
