"""Which units a network's outputs depend on; the others can go."""

from torch import Tensor

from pruning.dependency.record import Layer, Record


def removable(record: Record) -> Tensor:
    """Bool [record.size]: coupled sets that can be taken out without a change of the function.

    Those are `idle` sets, less those that have to stay so that every layer keeps at least one input and one output,
    and blocks that share one number of channels (groups of a convolution, halves of a split) keep equally many each.
    """
    alive = ~idle(record)
    _balance(record, alive)
    return ~alive


def idle(record: Record) -> Tensor:
    """Bool [record.size]: coupled sets of channels that the outputs do not depend on.

    A set matters if it is pinned, or if one of its units is not constantly zero and is read: with a non-zero weight
    by a layer whose own output matters, or by what is not followed further.
    """
    pinned = [pin.ids if not pin.refuses else pin.ids[pin.constant != 0] for pin in record.pins]
    alive = record.marked([*pinned, *(ids[constant != 0] for ids, constant in record.needed)])
    _spread(record, alive)
    return record.marked(ids.flatten() for layer in record.layers for ids in (layer.inputs, layer.outputs)) & ~alive


def _spread(record: Record, alive: Tensor) -> None:
    """Marks everything that the marked sets depend on."""
    readers = [
        (layer, record.sets(layer.inputs), record.sets(layer.outputs))
        for layer in reversed(record.layers)
        if not layer.depthwise
    ]
    before = -1
    while (now := int(alive.sum())) != before:
        before = now
        for layer, inputs, outputs in readers:
            alive[inputs[_read(layer, alive[outputs])]] = True


def _read(layer: Layer, alive_outputs: Tensor) -> Tensor:
    """Bool [groups, I / groups]: inputs that add something to an output that matters."""
    return (layer.reads & alive_outputs[:, :, None]).any(1) & (layer.constant != 0)


def _balance(record: Record, alive: Tensor) -> None:
    """Marks more, lowest index first, until no layer is empty and all blocks keep equally many."""
    axes = [record.sets(blocks) for blocks in record.balances]
    for layer in record.layers:
        axes += [record.sets(ids.reshape(1, -1)) for ids in (layer.inputs, layer.outputs)]
    before = -1
    while (now := int(alive.sum())) != before:
        before = now
        for axis in axes:
            wanted = max(1, int(alive[axis].sum(1).max()))
            for block in axis:
                for unit in block[~alive[block]].tolist():
                    if int(alive[block].sum()) >= wanted:
                        break
                    alive[unit] = True
