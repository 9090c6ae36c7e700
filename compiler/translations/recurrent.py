"""Recurrent layers: the input's share of all gates is one product, the state's a kernel along the sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node as FxNode

from compiler.arrangement import arrange
from compiler.graph import GATES, Conv, Embedding, Recurrent, Shape
from compiler.translation import Capture, Result, argument, handles

MULTIPLE = 16
"""Gates have rows in multiples of this, so that each starts a vector on every target."""


@handles("aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
def _without_cell(capture: Capture, node: FxNode) -> Result:
    kind = str(node.target).split(".")[1]
    output, hidden, _ = _layers(capture, node, kind, [argument(node, 1)])
    return output, hidden


@handles("aten.lstm.input")
def _lstm(capture: Capture, node: FxNode) -> Result:
    return _layers(capture, node, "lstm", list(argument(node, 1)))


@handles("aten.embedding.default")
def _embedding(capture: Capture, node: FxNode) -> Result:
    weight = capture.required(node, 0)
    rows = capture.take(node, 1, lambda found: found.reshape(-1, 1, 1))
    count, width = capture.shape_of(rows)[0], capture.constants[weight].shape[1]
    made = capture.store(node, Embedding(weight), (width, 1, count), rows)
    return capture.give(node, made, lambda found: found.reshape(width, count).T)


def _layers(capture: Capture, node: FxNode, kind: str, states: list[Any]) -> tuple[str, str, str]:
    """Names of the output [1, T, D], the last states and the last cells [layers, 1, H]."""
    _, _, weights, biased, layers, dropout, training, both, batch_first = (argument(node, index) for index in range(9))
    if training and dropout:
        raise capture.refusal(node, "it drops elements at random; put it in evaluation mode")
    if not all(capture.is_known(state) for state in (*states, *weights)):
        raise capture.refusal(node, "a first state that is computed from the input is not supported")
    known = [capture.known[state][:, 0].detach() for state in states]
    a_layer = 4 if biased else 2
    directions = 2 if both else 1
    if len(weights) != a_layer * directions * layers:
        raise capture.refusal(node, "recurrent layers with projections are not supported")
    capture.mixing.append(node)  # the last states have the batch as their second axis

    def tokens(found: Tensor) -> Tensor:
        sequence = found[0] if batch_first else found[:, 0]
        return sequence.T.unsqueeze(1)

    tensor = capture.take(node, 0, tokens)
    lasts: list[str] = []
    cells: list[str] = []
    for layer in range(int(layers)):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            own = [capture.known[weight].detach() for weight in weights[at * a_layer : (at + 1) * a_layer]]
            first = [state[at] for state in known]
            output, last, cell = _direction(capture, node, kind, tensor, own, first, backwards=direction == 1)
            outputs.append(output)
            lasts.append(last)
            cells.append(cell)
        tensor = _stack(capture, node, outputs)
    time = capture.shape_of(tensor)[2]

    def natural(found: Tensor) -> Tensor:
        sequence = found.reshape(-1, time).T
        return sequence[None] if batch_first else sequence[:, None]

    channels = capture.shape_of(tensor)[0]
    whole = capture.move(node, [tensor], arrange(natural(torch.arange(channels * time))))
    return whole, _states(capture, node, lasts), _states(capture, node, cells)


def _direction(
    capture: Capture,
    node: FxNode,
    kind: str,
    tensor: str,
    weights: list[Tensor],
    first: list[Tensor],
    *,
    backwards: bool,
) -> tuple[str, str, str]:
    """Names of the sequence of states (H, 1, T), of the last state and of the last cell (H, 1, 1)."""
    gates, (features, _, time) = GATES[kind], capture.shape_of(tensor)
    hidden = weights[0].shape[0] // gates
    padded = -(-hidden // MULTIPLE) * MULTIPLE
    zeros = torch.zeros(gates * hidden)
    of_input, of_state = weights[2:] or (zeros, zeros)
    rows = torch.zeros(gates, padded, features)
    rows[:, :hidden] = weights[0].reshape(gates, hidden, features)
    offsets = torch.zeros(gates, padded)
    offsets[:, :hidden] = of_input.reshape(gates, hidden)
    kernel = capture.keep(node, rows.reshape(gates * padded, features, 1, 1))
    received: Shape = (gates * padded, 1, time)
    if backwards:
        tensor = _reversed(capture, node, tensor)
    share = capture.store(node, Conv(kernel, capture.keep(node, offsets.reshape(-1))), received, tensor)
    op = Recurrent(
        kind,
        capture.keep(node, weights[1].reshape(gates, hidden, hidden)),
        capture.keep(node, of_state.reshape(gates, hidden)),
        capture.keep(node, first[0]),
        capture.keep(node, first[-1]),
        hidden,
        padded,
    )
    length = time + (kind == "lstm")
    made = capture.store(node, op, (hidden, 1, length), share)
    columns = torch.arange(hidden * length).reshape(hidden, 1, length)
    last = capture.move(node, [made], columns[:, :, time - 1 : time])
    cell = capture.move(node, [made], columns[:, :, length - 1 :])
    states = capture.move(node, [made], columns[:, :, :time])
    return (_reversed(capture, node, states) if backwards else states), last, cell


def _reversed(capture: Capture, node: FxNode, tensor: str) -> str:
    channels, _, time = capture.shape_of(tensor)
    return capture.move(node, [tensor], torch.arange(channels * time).reshape(channels, 1, time).flip(2))


def _stack(capture: Capture, node: FxNode, tensors: list[str]) -> str:
    """Tensors (H, 1, T) behind one another along their channels."""
    shapes = [capture.shape_of(tensor) for tensor in tensors]
    channels, time = sum(shape[0] for shape in shapes), shapes[0][2]
    return capture.move(node, tensors, torch.arange(channels * time).reshape(channels, 1, time))


def _states(capture: Capture, node: FxNode, tensors: list[str]) -> str:
    """Last states (H, 1, 1) as torch's [layers, 1, H]."""
    stacked = _stack(capture, node, tensors)
    found = torch.arange(capture.shape_of(stacked)[0]).reshape(len(tensors), 1, -1)
    return capture.move(node, [stacked], arrange(found))
