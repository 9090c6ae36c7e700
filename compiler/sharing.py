"""Concatenation without copies: what is concatenated is computed where the result lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.concat import is_concat
from compiler.graph import Graph, Node
from compiler.layout import Buffer
from compiler.ordering import Call


@dataclass(frozen=True)
class Sharing:
    """Tensors that lie inside others.

    Attributes:
        calls: those that are left to do.
        buffers: of every tensor, with the halo of the tensor that it lies in.
        parents: (tensor that it lies in, floats from the first of that one to its own).
    """

    calls: tuple[Call, ...]
    buffers: Mapping[str, Buffer]
    parents: Mapping[str, tuple[str, int]]

    def place(self, tensor: str) -> tuple[str, int]:
        """The outermost tensor that holds `tensor`, and the floats to it."""
        offset = 0
        while tensor in self.parents:
            tensor, inside = self.parents[tensor]
            offset += inside
        return tensor, offset


def share_buffers(calls: Sequence[Call], graph: Graph, buffers: Mapping[str, Buffer]) -> Sharing:
    """Let the inputs of concatenations along channels lie in the result, wherever whole channel blocks allow it.

    The calls that would have copied them are dropped.
    """
    concats = {node.name: node for node in graph.nodes if is_concat(node, graph)}
    copies = {(call.output, call.source): call for call in calls if call.spec.op == "concat"}
    parents: dict[str, tuple[str, int]] = {}
    dropped: set[tuple[str, int]] = set()
    for name, node in concats.items():
        shared = _shareable(node, graph, copies, buffers, parents)
        for source, channel in shared.items():
            parents[copies[name, source].inputs[0]] = (name, channel)
            dropped.add((name, source))
    roots: dict[str, str] = {}
    for tensor in parents:
        root = tensor
        while root in parents:
            root = parents[root][0]
        roots[tensor] = root
    halos = {root: buffers[root].halo for root in roots.values()}
    for tensor, root in roots.items():
        halo, own = halos[root], buffers[tensor].halo
        halos[root] = (max(halo[0], own[0]), max(halo[1], own[1]))
    merged = {
        tensor: replace(buffer, halo=halos[roots.get(tensor, tensor)]) if roots.get(tensor, tensor) in halos else buffer
        for tensor, buffer in buffers.items()
    }
    placed = {
        tensor: (parent, channel // merged[parent].lanes * merged[parent].plane)
        for tensor, (parent, channel) in parents.items()
    }
    left = (call for call in calls if call.spec.op != "concat" or (call.output, call.source) not in dropped)
    return Sharing(tuple(left), merged, placed)


def _shareable(
    node: Node,
    graph: Graph,
    copies: Mapping[tuple[str, int], Call],
    buffers: Mapping[str, Buffer],
    parents: Mapping[str, object],
) -> dict[int, int]:
    """Sources of a concatenation that can lie in it, with the channel at which each starts."""
    whole = buffers[node.name]
    found: dict[int, int] = {}
    first = 0
    names: set[str] = set()
    for source, _ in enumerate(node.inputs):
        tensor = copies[node.name, source].inputs[0]
        part = buffers[tensor]
        last = source == len(node.inputs) - 1
        aligned = first % whole.lanes == 0 and (part.channels % whole.lanes == 0 or last)
        if aligned and part.lanes == whole.lanes > 1 and tensor not in parents and tensor not in names:
            found[source] = first
            names.add(tensor)
        first += part.channels
    ends = {0, len(node.inputs) - 1}
    if whole.channels % max(whole.lanes, 1) and not ends <= found.keys():
        return {}
    return found
