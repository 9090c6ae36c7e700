"""Recurrent layers: the units that they read can go, their own stay."""

import torch
from torch import nn

from pruning.dependency.call import Call, CannotFollow, rule
from pruning.dependency.graph import describe
from pruning.dependency.record import Attribute, Result
from pruning.dependency.values import Value

aten = torch.ops.aten


@rule(aten.gru.input, aten.lstm.input, aten.rnn_tanh.input, aten.rnn_relu.input)
def recurrent(call: Call) -> Result:
    record, x = call.record, call.value("input")
    paths = [record.graph.tensors.get(parameter.name) for parameter in call["params"]]
    if None in paths:
        raise CannotFollow("its weights are computed from other tensors")
    names = [path for path in paths if path is not None]
    directions = 2 if call["bidirectional"] else 1
    first = range(0, len(names) // call["num_layers"], len(names) // call["num_layers"] // directions)
    ids, constant = record.line(x, x.rank - 1)
    reads = torch.zeros(len(ids), dtype=torch.bool)
    for position, name in enumerate(names):
        if position in first:
            record.use(name, None, ids[None])
            reads |= (record.graph.tensor(name) != 0).any(0).cpu()
            record.attributes += [
                Attribute(owner, "input_size", ids)
                for owner in record.graph.owners(name)
                if isinstance(record.graph.model.get_submodule(owner), nn.RNNBase)
            ]
        else:
            record.use(name)
    record.need(Value((len(ids),), ids, torch.where(reads, constant, 0.0)))
    for state in [call["hx"]] if not isinstance(call["hx"], (list, tuple)) else call["hx"]:
        record.opaque(call.node, "whose state has a fixed width", call.value_of(state))
    shapes = [tuple(part.shape) for part in call.node.meta["val"]]
    return tuple(record.rigid(shape, f"{describe(call.node)}, whose units stay") for shape in shapes)
