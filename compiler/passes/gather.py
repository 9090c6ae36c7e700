"""Movements of data that follow one another become one, and those that move nothing disappear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from compiler.graph import Activation, Gather, Graph, Indices, Node, Shape, counts_up


def merge_gathers(graph: Graph) -> Graph:
    """Read through a movement of a single tensor, and through the single reader's of several.

    An activation between two movements is computed before the first one, where it may join the kernel that produces
    its input.
    """
    graph = _activate_first(graph)
    indices = dict(graph.indices)
    shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}

    def current(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in graph.nodes:
        node = replace(node, inputs=tuple(current(name) for name in node.inputs))
        if isinstance(node.op, Gather):
            node = _merged(node, nodes, indices, shapes)
            assert isinstance(node.op, Gather)
            index = indices[node.op.index]
            if len(node.inputs) == 1 and node.shape == shapes[node.inputs[0]] and counts_up(index):
                renamed[node.name] = node.inputs[0]
                continue
        nodes[node.name] = node
    return graph.rewrite(nodes.values(), renamed, indices=indices)


def _activate_first(graph: Graph) -> Graph:
    """Exchange an activation with the movement that it alone reads, if that adds no elements of its own."""
    readers = graph.consumers()
    shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
    nodes: dict[str, Node] = {}
    for node in graph.nodes:
        source = nodes.get(node.inputs[0]) if node.inputs else None
        alone = source is not None and len(readers[source.name]) == 1 and source.name not in graph.outputs
        if isinstance(node.op, Activation) and source is not None and alone and isinstance(source.op, Gather):
            index = graph.indices[source.op.index]
            if len(source.inputs) == 1 and index.min() >= 0:
                shape = shapes[source.inputs[0]]
                if index.size >= int(np.prod(shape)):
                    del nodes[source.name]
                    nodes[source.name] = replace(node, name=source.name, inputs=source.inputs, shape=shape)
                    shapes[source.name] = shape
                    nodes[node.name] = replace(node, op=source.op, inputs=(source.name,))
                    continue
        nodes[node.name] = node
    return graph.rewrite(nodes.values())


def _merged(node: Node, nodes: dict[str, Node], indices: dict[str, Indices], shapes: Mapping[str, Shape]) -> Node:
    """`node`, a movement, with its inputs replaced by what they were moved from."""
    op = node.op
    assert isinstance(op, Gather)
    sizes = [int(np.prod(shapes[name])) for name in node.inputs]
    starts = np.cumsum([0, *sizes])
    index = indices[op.index]
    inputs: list[str] = []
    tables: list[Indices] = []
    position = 0
    fill, filled = op.fill, bool((index < 0).any())
    changed = False
    for name, size in zip(node.inputs, sizes, strict=True):
        source = nodes.get(name)
        table: Indices = np.arange(size, dtype=np.int32)
        names: tuple[str, ...] = (name,)
        if source is not None and isinstance(source.op, Gather) and (len(node.inputs) == 1 or len(source.inputs) == 1):
            inner = indices[source.op.index].reshape(-1)
            empty = bool((inner < 0).any())
            if not (empty and filled and source.op.fill != fill):
                table, names, changed = inner, source.inputs, True
                fill, filled = (source.op.fill if empty else fill), filled or empty
        inputs += names
        tables.append(np.where(table < 0, -1, table + position))
        position += sum(int(np.prod(shapes[one])) for one in names)
    if not changed:
        return node
    whole = np.concatenate(tables)
    assert starts[-1] == whole.size
    found = np.where(index < 0, -1, whole[np.maximum(index, 0)]).astype(np.int32)
    kept, found = _without_repeats(inputs, found, shapes)
    label = f"{op.index}+"
    indices[label] = found
    return replace(node, op=Gather(label, fill), inputs=kept)


def _without_repeats(inputs: list[str], index: Indices, shapes: Mapping[str, Shape]) -> tuple[tuple[str, ...], Indices]:
    """Each input once, and none of which nothing is taken."""
    starts = np.cumsum([0, *(int(np.prod(shapes[name])) for name in inputs)])
    used = [bool(((index >= starts[i]) & (index < starts[i + 1])).any()) for i in range(len(inputs))]
    names = list(dict.fromkeys(name for name, live in zip(inputs, used, strict=True) if live)) or inputs[:1]
    places = dict(zip(names, np.cumsum([0, *(int(np.prod(shapes[name])) for name in names)]), strict=False))
    result = index.copy()
    for i, name in enumerate(inputs):
        if used[i]:
            mine = (index >= starts[i]) & (index < starts[i + 1])
            result[mine] = index[mine] - starts[i] + places[name]
    return tuple(names), result
