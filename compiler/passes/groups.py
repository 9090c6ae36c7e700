"""Grouped convolutions become ordinary ones whose weights are zero between groups: kernels skip zeros anyhow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.graph import Conv, Graph


def ungroup(graph: Graph) -> Graph:
    """Write out the weights of every grouped convolution but depthwise ones with one filter a channel."""
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv) and op.groups > 1:
            channels = graph.shape_of(node.inputs[0])[0]
            weight = constants[op.weight]
            filters, own = weight.shape[:2]
            if not op.groups == channels == filters:
                whole = np.zeros((filters, channels, *weight.shape[2:]), np.float32)
                for group in range(op.groups):
                    rows = slice(group * filters // op.groups, (group + 1) * filters // op.groups)
                    whole[rows, group * own : (group + 1) * own] = weight[rows]
                constants[f"{node.name}.ungrouped"] = whole
                node = replace(node, op=replace(op, weight=f"{node.name}.ungrouped", groups=1))
        nodes.append(node)
    return graph.rewrite(nodes, constants=constants)
