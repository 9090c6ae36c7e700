"""Follows the channels of a network through its operations, one after the other."""

import torch
from torch import nn
from torch.fx import Node

from pruning.dependency.channels import Channels, Opaque, Trace
from pruning.dependency.graph import Graph, Inputs, capture
from pruning.dependency.operators import HANDLERS


def trace(model: nn.Module, example_inputs: Inputs) -> Trace:
    """Channels of `model` in evaluation mode; raises CaptureFailed if it cannot be exported."""
    graph = capture(model, example_inputs)
    result = Trace(graph)
    for node in graph.nodes:
        if node.op == "placeholder":
            _enter(result, node, graph)
        elif node.op == "output":
            result.network_outputs += [result.values[value].ids for value in _read(result, node)]
        else:
            _follow(result, node)
    return result


def _enter(trace: Trace, node: Node, graph: Graph) -> None:
    if node.name in graph.inputs and (channels := _unknown(trace, node)) is not None:
        trace.values[node] = channels
        trace.network_inputs.append(channels.ids)


def _follow(trace: Trace, node: Node) -> None:
    handler = HANDLERS.get(node.target)
    channels = handler(trace, node) if handler else None
    if channels is None:
        channels = _unknown(trace, node)
        trace.opaque.append(Opaque(node, tuple(trace.values[value] for value in _read(trace, node)), channels))
        if channels is None:
            return
    trace.values[node] = channels
    changed = node.args[0] if node.args else None
    if _in_place(node) and isinstance(changed, Node):
        trace.values[changed] = channels


def _read(trace: Trace, node: Node) -> list[Node]:
    return [value for value in node.all_input_nodes if value in trace.values]


def _unknown(trace: Trace, node: Node) -> Channels | None:
    """New channels about which nothing is known; None if the node's result has no axis 1."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or value.dim() < 2:
        return None
    count = int(value.shape[1])
    return Channels(trace.fresh(count), torch.full((count,), torch.nan, dtype=torch.float64))


def _in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
