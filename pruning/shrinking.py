"""Physical removal of filters and channels that no longer matter."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruning.dependency.channels import Trace
from pruning.dependency.graph import Inputs, as_inputs, describe, private_copy, random_state
from pruning.dependency.liveness import removable
from pruning.dependency.removal import Cut, cuts
from pruning.dependency.tracing import trace
from pruning.errors import ShrinkRefused

TOLERANCE = 1e-5


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
    multiply by zero. Coupled channels (batch norm, depthwise convolutions, both sides of an addition, the features
    behind a flatten) go together or not at all. Widths of convolutions, linear layers and batch norms change;
    parameters stay the same objects with smaller data, so build the optimizer afterwards.

    Args:
        model: its modes, hooks and random state stay as they are.
        example_inputs: one tensor, or the positional arguments of a forward pass.

    Raises:
        ShrinkRefused: channels that could go meet an operation that they cannot be followed through, or the outputs
            on `example_inputs` would change by more than 1e-5; `model` is untouched.
        CaptureFailed: `torch.export` cannot follow the model; it is untouched.
    """
    followed = trace(model, example_inputs)
    removed = removable(followed)
    _refuse_opaque(followed, removed)
    plan = cuts(followed, removed)
    before = _parameters(model)
    _verify(model, plan, as_inputs(example_inputs))
    for cut in plan:
        cut.apply(model)
    return ShrinkReport(_layers(followed, plan), _kept(followed, removed), before, _parameters(model))


def _refuse_opaque(followed: Trace, removed: Tensor) -> None:
    for opaque in followed.opaque:
        count = int(removed[followed.sets(opaque.ids)].sum())
        if count:
            raise ShrinkRefused(
                f"{count} channels have no influence and could go, but they meet {describe(opaque.node)}, which "
                "channels cannot be followed through. Leave the layers around it dense, or replace the operation. "
                "The model is unchanged."
            )


def _verify(model: nn.Module, plan: tuple[Cut, ...], inputs: tuple[Any, ...]) -> None:
    """Tries the cuts on a copy; raises ShrinkRefused if its outputs differ."""
    original, smaller = private_copy(model), private_copy(model)
    for cut in plan:
        cut.apply(smaller)
    with random_state(model), torch.no_grad():
        expected = original(*copy.deepcopy(inputs))
        try:
            found = smaller(*copy.deepcopy(inputs))
        except (RuntimeError, ValueError) as error:
            raise ShrinkRefused(
                f"the forward pass fails with fewer channels: {error}. Does it hold a channel count as a number? "
                "The model is unchanged."
            ) from error
    for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(found), strict=True):
        if isinstance(a, Tensor):
            limit = TOLERANCE * max(1.0, float(a.abs().max()))
            if a.shape != b.shape or not bool(((a - b).abs() <= limit).all()):
                raise ShrinkRefused(
                    f"without the channels that seem to have no influence the outputs change: shape {tuple(a.shape)} "
                    f"to {tuple(b.shape)}, or values by more than {limit:.1e}. The model is unchanged."
                )


def _layers(followed: Trace, plan: tuple[Cut, ...]) -> tuple[ShrunkLayer, ...]:
    names = {layer.name for layer in followed.layers}
    return tuple(
        ShrunkLayer(
            cut.name,
            (len(cut.inputs), int(cut.inputs.sum())),
            (len(cut.outputs), int(cut.outputs.sum())),
        )
        for cut in plan
        if cut.name in names
    )


def _kept(followed: Trace, removed: Tensor) -> dict[str, str]:
    reasons = {}
    for layer in followed.layers:
        zero = (layer.outputs.constant == 0) & ~removed[followed.sets(layer.outputs.ids)]
        if bool(zero.any()):
            reasons[layer.name] = (
                f"{int(zero.sum())} filters are zero and stay: what becomes of them later is not zero, or is returned, "
                "or the layer or group would be empty"
            )
    return reasons


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
