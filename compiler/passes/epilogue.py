"""Activations and residual sums are fused into the kernel that produces their input."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph import Activation, Add, Arithmetic, Conv, Graph, Node, Scale
from compiler.kernels.functions import PARTIAL

ELEMENTWISE = (Add, Arithmetic, Scale)
FUSABLE = (Conv, *ELEMENTWISE)


def fuse_epilogues(graph: Graph) -> Graph:
    """Append each activation, and each sum, to the epilogue of the convolution before it.

    A sum goes to the later of its two producers, when that one is a convolution that feeds nothing else and has no
    residual yet; the other summand becomes its second input. Convolutions do not take partial functions.
    """
    readers = graph.consumers()
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}

    def current(tensor: str) -> str:
        return renamed.get(tensor, tensor)

    def host(tensor: str) -> Node | None:
        """The node that may take over the only reader of `tensor`."""
        producer = nodes.get(current(tensor))
        only = len(readers[tensor]) == 1 and tensor not in graph.outputs
        return producer if only and producer is not None and isinstance(producer.op, FUSABLE) else None

    for node in graph.nodes:
        grown: Node | None = None
        if isinstance(node.op, Activation):
            before = host(node.inputs[0])
            partial = node.op.kind.partition("(")[0] in PARTIAL
            if before is not None and isinstance(before.op, ELEMENTWISE if partial else FUSABLE):
                op = replace(before.op, epilogue=(*before.op.epilogue, node.op.kind))
                grown = replace(before, op=op)
        elif isinstance(node.op, Add) and node.inputs[0] != node.inputs[1]:
            order = sorted(node.inputs, key=lambda name: position.get(name, -1))
            before = host(order[1])
            if before is not None and isinstance(before.op, Conv) and "add" not in before.op.epilogue:
                other = current(order[0])
                ready = other in graph.inputs or list(nodes).index(other) < list(nodes).index(before.name)
                if ready:
                    op = replace(before.op, epilogue=(*before.op.epilogue, "add"))
                    grown = replace(before, op=op, inputs=(*before.inputs, other))
        if grown is None:
            nodes[node.name] = replace(node, inputs=tuple(current(name) for name in node.inputs))
        else:
            nodes[grown.name] = grown
            renamed[node.name] = grown.name
    return graph.rewrite(nodes.values(), renamed)
