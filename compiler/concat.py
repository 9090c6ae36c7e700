"""Concatenation along channels, among all movements of data."""

from __future__ import annotations

from compiler.graph import Gather, Graph, Node, counts_up


def is_concat(node: Node, graph: Graph) -> bool:
    """Whether a node puts whole tensors behind one another along their channels."""
    if not isinstance(node.op, Gather) or len(node.inputs) < 2:
        return False
    whole = all(graph.shape_of(name)[1:] == node.shape[1:] for name in node.inputs)
    return whole and counts_up(graph.indices[node.op.index])
