"""Which channels a network's outputs depend on; the others can go."""

from torch import Tensor

from pruning.dependency.channels import Layer, Trace


def removable(trace: Trace) -> Tensor:
    """Bool [trace.size]: coupled sets that can be taken out without a change of the function.

    A set has to stay if the network is given it or returns it, or if one of its channels is not constantly zero and
    is read: with a non-zero weight by a layer whose own output has to stay, or by an opaque operation. Every layer
    keeps at least one input and one output, and grouped convolutions keep equally many in each group.
    """
    read = [channels.ids[channels.constant != 0] for opaque in trace.opaque for channels in opaque.read]
    alive = trace.marked([*trace.network_inputs, *trace.network_outputs, *read])
    _spread(trace, alive)
    _balance(trace, alive)
    of_layers = trace.marked(channels.ids for layer in trace.layers for channels in (layer.inputs, layer.outputs))
    return of_layers & ~alive


def _spread(trace: Trace, alive: Tensor) -> None:
    """Marks everything that the marked sets depend on."""
    readers = [
        (layer, trace.sets(layer.inputs.ids), trace.sets(layer.outputs.ids))
        for layer in reversed(trace.layers)
        if not layer.depthwise
    ]
    before = -1
    while (now := int(alive.sum())) != before:
        before = now
        for layer, inputs, outputs in readers:
            alive[inputs[_read(layer, alive[outputs])]] = True


def _read(layer: Layer, alive_outputs: Tensor) -> Tensor:
    """Bool [I]: inputs that add something to an output that matters."""
    per_group = layer.reads.reshape(layer.groups, -1, layer.reads.shape[1])
    weighted = (per_group & alive_outputs.reshape(layer.groups, -1, 1)).any(1).flatten()
    return weighted & (layer.inputs.constant != 0)


def _balance(trace: Trace, alive: Tensor) -> None:
    """Marks more, lowest index first, until no layer is empty and all groups of a convolution keep equally many."""
    axes = []
    for layer in trace.layers:
        groups = 1 if layer.depthwise else layer.groups
        axes += [trace.sets(ids).reshape(groups, -1) for ids in (layer.inputs.ids, layer.outputs.ids)]
    before = -1
    while (now := int(alive.sum())) != before:
        before = now
        for axis in axes:
            wanted = max(1, int(alive[axis].sum(1).max()))
            for group in axis:
                for channel in group[~alive[group]].tolist():
                    if int(alive[group].sum()) >= wanted:
                        break
                    alive[channel] = True
