"""Subsampling pixels and padding channels, the parameter-free shortcut of He et al., become one copy."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph import Graph, Node, Resample


def merge_resamples(graph: Graph) -> Graph:
    """A resampling whose only reader is another one is merged into it."""
    readers = graph.consumers()
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        source = nodes.get(node.inputs[0])
        alone = source is not None and len(readers[source.name]) == 1 and source.name not in graph.outputs
        if source is not None and alone and isinstance(node.op, Resample) and isinstance(source.op, Resample):
            first, second = source.op, node.op
            stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
            op = Resample(stride, first.before + second.before)
            del nodes[source.name]
            node = replace(node, op=op, inputs=source.inputs)
        nodes[node.name] = node
    return graph.rewrite(nodes.values())
