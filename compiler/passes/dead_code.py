"""Removal of nodes whose result nobody reads."""

from __future__ import annotations

from compiler.graph import Graph


def drop_dead_code(graph: Graph) -> Graph:
    """The graph without nodes from which no output is reached."""
    live = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if node.name in live:
            live.update(node.inputs)
            kept.append(node)
    return graph.rewrite(reversed(kept))
