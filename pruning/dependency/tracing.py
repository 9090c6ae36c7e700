"""Follows the channels of a network through its operations, one after the other."""

import operator
from typing import Any

import torch
from torch import nn
from torch.fx import Node

import pruning.dependency.operators as operators
from pruning.dependency.call import RULES, VIEWS, Call, CannotFollow
from pruning.dependency.graph import Graph, Inputs, capture, describe
from pruning.dependency.record import NETWORK_INPUTS, NETWORK_OUTPUTS, Record, Result
from pruning.dependency.values import Value


def trace(model: nn.Module, example_inputs: Inputs) -> Record:
    """The units of `model` in evaluation mode; raises CaptureFailed if it cannot be exported."""
    return follow(capture(model, example_inputs))


def follow(graph: Graph) -> Record:
    """The units of a network whose graph is known; weights are read from `graph.model` as they are now."""
    operators.load()
    record = Record(graph)
    roots: dict[Node, Node] = {}
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op == "placeholder":
            if node.name in graph.inputs:
                record.values[node] = _made(record, node, NETWORK_INPUTS)
            elif node.name not in graph.tensors:
                record.values[node] = _made(record, node, "a tensor that the code holds")
        elif node.op == "output":
            for value in _read(record, node):
                record.keep(value, NETWORK_OUTPUTS)
        elif node.op == "call_function" and not _only_asserts(node):
            result = _result(record, node)
            if result is None:
                continue
            record.values[node] = result
            first = node.args[0] if node.args else None
            if not isinstance(first, Node):
                continue
            if node.target in VIEWS or node.target is operator.getitem or _in_place(node):
                roots[node] = roots.get(first, first)
            if _in_place(node):
                _overwrite(record, node, first, [n for n in order if roots.get(n, n) is roots[node]], order)
    record.settle()
    return record


def _result(record: Record, node: Node) -> Result | None:
    if node.target is operator.getitem:
        several = record.values.get(node.args[0])  # type: ignore[arg-type]
        return several[node.args[1]] if isinstance(several, tuple) else None  # type: ignore[index]
    handler = RULES.get(node.target)
    why = "which channels cannot be followed through"
    if handler is not None:
        try:
            return handler(Call(record, node))
        except CannotFollow as reason:
            why = f"which channels cannot be followed through: {reason}"
    record.opaque(node, why, *_read(record, node))
    for argument in node.all_input_nodes:
        if argument.name in record.graph.tensors:
            record.use(record.graph.tensors[argument.name])
    return _made(record, node, describe(node))


def _overwrite(record: Record, node: Node, changed: Node, alias: list[Node], order: dict[Node, int]) -> None:
    """After an operation in place: what it has written is what the tensor holds from now on."""
    stale = [
        other
        for other in alias
        if other not in (node, changed) and any(order[user] > order[node] for user in other.users)
    ]
    if not stale:
        record.values[changed] = record.values[node]
        return
    why = f"which writes into a part of {stale[0].name!r}"
    for other in (*stale, changed, node):
        for value in _flat(record.values.get(other)):
            record.opaque(node, why, value)
        record.values[other] = _made(record, other, f"{describe(node)}, {why}")


def _made(record: Record, node: Node, reason: str) -> Result:
    """What an operation gives if nothing is known about it."""
    return _rigid(record, node.meta.get("val"), reason)


def _rigid(record: Record, example: Any, reason: str) -> Result:
    if isinstance(example, torch.Tensor):
        return record.rigid(tuple(int(size) for size in example.shape), reason)
    return tuple(_rigid(record, part, reason) for part in example) if isinstance(example, (list, tuple)) else ()


def _read(record: Record, node: Node) -> list[Value]:
    return [value for argument in node.all_input_nodes for value in _flat(record.values.get(argument))]


def _flat(result: Result | None) -> list[Value]:
    if isinstance(result, Value):
        return [result]
    return [value for part in result or () for value in _flat(part)]


def _only_asserts(node: Node) -> bool:
    """Whether the operation gives nothing and changes nothing."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not schema.returns and not schema.is_mutable


def _in_place(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)
