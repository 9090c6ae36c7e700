"""The place that each tensor needs: halos that its readers expect, and rows of planes that go together."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph import Pair
from compiler.layout import PLANAR, Buffer
from compiler.ordering import Call
from compiler.spec import CONVOLUTIONS
from compiler.target import Target


def make_buffers(calls: Sequence[Call], target: Target) -> dict[str, Buffer]:
    """A buffer for every tensor that a call writes, but for the user's arrays.

    A kernel that reads and writes planes runs along all rows at once, so that its tensors have rows at the same
    distance: that of the widest among all that are connected in this way.
    """
    halos = _halos(calls)
    groups: dict[str, str] = {}

    def group(tensor: str) -> str:
        while tensor in groups:
            tensor = groups[tensor]
        return tensor

    planar = {call.output for call in calls if call.spec.writes == PLANAR and call.spec.op != "unpack"}
    for call in calls:
        if call.spec.op in CONVOLUTIONS and call.output in planar and call.inputs[0] in planar:
            for tensor in call.inputs:
                if group(tensor) != group(call.output):
                    groups[group(tensor)] = group(call.output)
    pitches: dict[str, int] = {}
    sizes = {call.output: (call.spec.out_channels, *call.spec.out_size) for call in calls if call.spec.op != "unpack"}
    for tensor in planar:
        wanted = sizes[tensor][2] + halos.get(tensor, (0, 0))[1]
        pitches[group(tensor)] = max(pitches.get(group(tensor), 0), wanted)
    return {
        tensor: Buffer(*size, 1, halos.get(tensor, (0, 0)), pitches[group(tensor)])
        if tensor in planar
        else Buffer(*size, target.vector, halos.get(tensor, (0, 0)))
        for tensor, size in sizes.items()
    }


def _halos(calls: Sequence[Call]) -> dict[str, Pair]:
    """The largest padding of the convolutions that read each tensor."""
    halos: dict[str, Pair] = {}
    for call in calls:
        if call.spec.op in CONVOLUTIONS:
            before, padding = halos.get(call.inputs[0], (0, 0)), call.spec.padding
            halos[call.inputs[0]] = (max(before[0], padding[0]), max(before[1], padding[1]))
    return halos
