"""Concatenation along channels, among all movements of data."""

from __future__ import annotations

import numpy as np

from compiler.graph import Gather, Graph, Node


def is_concat(node: Node, graph: Graph) -> bool:
    """Whether a node puts whole tensors behind one another along their channels."""
    if not isinstance(node.op, Gather) or len(node.inputs) < 2:
        return False
    index = graph.indices[node.op.index]
    whole = all(graph.shape_of(name)[1:] == node.shape[1:] for name in node.inputs)
    return whole and bool((index.reshape(-1) == np.arange(index.size)).all())
