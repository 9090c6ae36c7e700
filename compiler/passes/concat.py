"""Concatenations of a growing list, as in dense blocks, each extend the one before."""

from __future__ import annotations

from dataclasses import replace

from compiler.concat import is_concat
from compiler.graph import Graph, Node


def chain_concats(graph: Graph) -> Graph:
    """A concatenation whose first inputs are all those of an earlier one reads that one instead of them."""
    nodes: list[Node] = []
    earlier: dict[tuple[str, ...], str] = {}
    for node in graph.nodes:
        if is_concat(node, graph):
            inputs = node.inputs
            known = next((inputs[:count] for count in range(len(inputs), 1, -1) if inputs[:count] in earlier), None)
            earlier.setdefault(inputs, node.name)
            if known is not None:
                node = replace(node, inputs=(earlier[known], *inputs[len(known) :]))
        nodes.append(node)
    return graph.rewrite(nodes)
