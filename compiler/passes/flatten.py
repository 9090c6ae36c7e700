"""Linear layers become convolutions, so that flattening needs no copy."""

from __future__ import annotations

from dataclasses import replace

from compiler.errors import UnsupportedOperator
from compiler.graph import Conv, Flatten, Graph, Linear


def flatten_to_conv(graph: Graph) -> Graph:
    """A linear layer behind a flattened (C, H, W) tensor is a convolution with an H x W kernel.

    Raises:
        UnsupportedOperator: if something other than linear layers reads a flattened tensor with pixels.
    """
    constants = dict(graph.constants)
    flattened = {node.name: node.inputs[0] for node in graph.nodes if isinstance(node.op, Flatten)}
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Flatten):
            continue
        stray = next((name for name in node.inputs if name in flattened), None)
        if isinstance(node.op, Linear):
            channels, height, width = graph.shape_of(flattened.get(node.inputs[0], node.inputs[0]))
            weight = constants[node.op.weight]
            shaped = f"{node.name}.weight"
            constants[shaped] = weight.reshape(len(weight), channels, height, width)
            nodes.append(replace(node, op=Conv(shaped, node.op.bias)))
        elif stray is not None:
            raise UnsupportedOperator(
                f"{node.name} in module {node.path or '(top level)'} reads a flattened tensor; "
                "only a linear layer may follow flatten"
            )
        else:
            nodes.append(node)
    return graph.rewrite(nodes, flattened, constants)
