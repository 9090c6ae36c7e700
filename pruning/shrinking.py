"""Physical removal of filters and channels that no longer matter."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.dependency.graph import Inputs, as_inputs
from pruning.dependency.liveness import removable
from pruning.dependency.record import Record
from pruning.dependency.removal import removal
from pruning.dependency.tracing import trace
from pruning.dependency.trial import attempt, refuse_pinned


@dataclass(frozen=True)
class ShrunkLayer:
    """One convolution or linear layer that became smaller; widths as (before, after)."""

    name: str
    in_channels: tuple[int, int]
    out_channels: tuple[int, int]


@dataclass(frozen=True)
class ShrinkReport:
    """What `shrink` did."""

    layers: tuple[ShrunkLayer, ...]
    """The layers that became smaller, in execution order."""
    kept: dict[str, str]
    """Layers with filters that are zero and yet had to stay, with the reason."""
    parameters_before: int
    parameters_after: int

    @property
    def removed(self) -> dict[str, int]:
        """Number of output filters that each layer lost, where it lost any."""
        lost = {layer.name: layer.out_channels[0] - layer.out_channels[1] for layer in self.layers}
        return {name: count for name, count in lost.items() if count}


def shrink(model: nn.Module, example_inputs: Inputs) -> ShrinkReport:
    """Takes out, in place, every channel of `model` that has no influence on its outputs in evaluation mode.

    That is: filters whose output is constantly zero after batch norm and activation, and channels that all readers
    multiply by zero. Coupled channels (normalisations, depthwise convolutions, both sides of an addition, gates, the
    features behind a flatten) go together or not at all. Widths of layers, normalisations and bare parameters change;
    parameters stay the same objects with smaller data, so build the optimizer afterwards.

    Args:
        model: its modes, hooks and random state stay as they are.
        example_inputs: one tensor, or the positional arguments of a forward pass.

    Raises:
        ShrinkRefused: channels that could go meet an operation that they cannot be followed through, or the outputs
            on `example_inputs` would change by more than 1e-5; `model` is untouched.
        CaptureFailed: `torch.export` cannot follow the model; it is untouched.
    """
    record = trace(model, example_inputs)
    removed = removable(record)
    refuse_pinned(record, removed)
    attempt(model, record, removed, as_inputs(example_inputs))
    before = _parameters(model)
    removal(record, removed).apply(model)
    return ShrinkReport(_layers(record, removed), _kept(record, removed), before, _parameters(model))


def _layers(record: Record, removed: Tensor) -> tuple[ShrunkLayer, ...]:
    widths = {
        layer.name: tuple(
            (ids.numel(), int((~removed[record.sets(ids)]).sum())) for ids in (layer.inputs, layer.outputs)
        )
        for layer in record.layers
    }
    return tuple(
        ShrunkLayer(name, inputs, outputs)
        for name, (inputs, outputs) in widths.items()
        if inputs[0] != inputs[1] or outputs[0] != outputs[1]
    )


def _kept(record: Record, removed: Tensor) -> dict[str, str]:
    reasons = {}
    for layer in record.layers:
        sets = record.sets(layer.outputs)
        staying = sets[(layer.made == 0) & ~removed[sets]]
        if len(staying):
            pinned = [pin.reason for pin in record.pins if bool(torch.isin(record.sets(pin.ids), staying).any())]
            why = (
                f"they are coupled with {pinned[0]}"
                if pinned
                else ("what becomes of them later is not zero, or the layer or group would be empty")
            )
            reasons[layer.name] = f"{len(staying)} filters are zero and stay: {why}"
    return reasons


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
