"""Channels taken out of a network, or silenced, which is the same to its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning import CoupledGroup

_SILENCED = ("weight", "bias", "running_mean")
_TENSORS = (*_SILENCED, "running_var")


@dataclass
class Alive:
    """Filters and channels of one module that stay, bool; None where all do."""

    rows: Tensor | None = None
    columns: Tensor | None = None


def survivors(
    decided: Iterable[tuple[CoupledGroup, Tensor]], chains: Mapping[str, Sequence[str]], network: nn.Module
) -> dict[str, Alive]:
    """What is left of each module, by its path in `network`.

    Args:
        decided: groups, and their units that stay, bool [size].
        chains: paths of the convolutions that stand in the place of a layer, where one was replaced.
    """
    found: dict[str, Alive] = {}
    for group, kept in decided:
        for member in group.members:
            slices = kept[member.units]
            first, *behind = chain = chains.get(member.module, (member.module,))
            if member.axis == 0:
                found.setdefault(chain[-1], Alive()).rows = slices
            elif behind and is_depthwise(network.get_submodule(first)):
                found.setdefault(first, Alive()).rows = slices
                found.setdefault(behind[0], Alive()).columns = slices
            else:
                found.setdefault(first, Alive()).columns = slices
    return found


def is_depthwise(module: nn.Module) -> bool:
    """Whether every filter has one channel of its own."""
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels


def silence(network: nn.Module, alive: Mapping[str, Alive]) -> None:
    """Zeroes, in place, the filters that go, and what normalises them."""
    with torch.no_grad():
        for path, left in alive.items():
            if left.rows is not None:
                module = network.get_submodule(path)
                for name in _SILENCED:
                    if isinstance(tensor := getattr(module, name, None), Tensor):
                        tensor[~left.rows] = 0


def cut(network: nn.Module, alive: Mapping[str, Alive]) -> None:
    """Takes them out, in place; parameters become new objects."""
    for path, left in alive.items():
        module = network.get_submodule(path)
        for name in _TENSORS:
            tensor = getattr(module, name, None)
            if not isinstance(tensor, Tensor):
                continue
            value = tensor.detach() if left.rows is None else tensor.detach()[left.rows]
            if name == "weight" and left.columns is not None:
                value = value[:, left.columns]
            value = value.clone()
            if isinstance(tensor, nn.Parameter):
                setattr(module, name, nn.Parameter(value, requires_grad=tensor.requires_grad))
            else:
                setattr(module, name, value)
        _count(module)


def _count(module: nn.Module) -> None:
    """Corrects the numbers that a module holds."""
    if isinstance(module, nn.Conv2d):
        depthwise = is_depthwise(module)
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.out_channels if depthwise else module.weight.shape[1]
        module.groups = module.out_channels if depthwise else 1
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        counted = module.weight if module.weight is not None else module.running_mean
        assert counted is not None
        module.num_features = len(counted)
