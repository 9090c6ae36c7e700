"""Coupled groups: which channels of a network can go, and what goes with each of them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.dependency.components import distinct
from pruning.dependency.graph import Inputs
from pruning.dependency.partition import partition
from pruning.dependency.record import Record
from pruning.dependency.tracing import trace


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one parameter or buffer that loses slices with a group's units.

    `units` int64 [channels] holds the unit of every slice along the axis, -1 for slices that are of no unit of this
    group. Axis 1 of a convolution with groups counts the input channels of the whole layer, not of one group.
    """

    module: str
    tensor: str
    axis: int
    units: Tensor
    conv_groups: int = 1

    def indices(self, unit: int) -> Tensor:
        """Slices along the axis that go with a unit, ascending."""
        return (self.units == unit).nonzero()[:, 0]

    def slices(self, model: nn.Module) -> Tensor:
        """The model's tensor with the slices along its first axis, in the order of `units`."""
        tensor: Tensor = getattr(model.get_submodule(self.module), self.tensor).detach()
        if self.axis == 0:
            return tensor
        if self.conv_groups == 1:
            return tensor.movedim(self.axis, 0)
        blocks = tensor.reshape(self.conv_groups, -1, *tensor.shape[1:])
        return blocks.movedim(2, 1).flatten(0, 1)

    def energy(self, model: nn.Module, units: int) -> Tensor:
        """Sum of squares of the slices of each of the group's `units`, float64 [units]."""
        slices = self.slices(model).double().cpu().square()
        inside = self.units >= 0
        energies = slices.reshape(len(slices), -1).sum(1)[inside]
        return torch.zeros(units, dtype=torch.float64).index_add_(0, self.units[inside], energies)


@dataclass(frozen=True, eq=False)
class CoupledGroup:
    """Channels that one layer makes, and all that is coupled with them.

    It falls into `size` units. Any number of them can be removed, from every member the indices of the unit, as long
    as no layer becomes empty: all shapes fit then.
    """

    members: tuple[Member, ...]
    size: int

    @property
    def filters(self) -> tuple[str, ...]:
        """Modules whose filters these are, with those that follow, in execution order."""
        return tuple(dict.fromkeys(m.module for m in self.members if m.axis == 0 and m.tensor == "weight"))

    def scores(self, model: nn.Module) -> Tensor:
        """Importance of every unit, float64 [size]: the sum over the members' weights of a unit's energy (sum of
        squares) divided by the mean energy of the member's units, so that large layers do not decide alone.

        A member that is zero throughout adds nothing; biases and running statistics do not count.
        """
        total = torch.zeros(self.size, dtype=torch.float64)
        for member in self.members:
            if member.tensor not in ("bias", "running_mean", "running_var"):
                energy = member.energy(model, self.size)
                total += energy / energy.mean() if bool(energy.any()) else energy
        return total

    def silence(self, model: nn.Module, units: Tensor) -> None:
        """Zeroes `units` (int64 numbers, or bool [size]) in all members, in place; `shrink` can take them out then.

        Variances stay, for batch norms divide by them.
        """
        chosen = torch.zeros(self.size, dtype=torch.bool)
        chosen[units] = True
        for member in self.members:
            if member.tensor != "running_var":
                gone = (member.units >= 0) & chosen[member.units.clamp_min(0)]
                tensor: Tensor = getattr(model.get_submodule(member.module), member.tensor)
                kept = _broadcast(~gone, member, tensor)
                tensor.data.masked_fill_(~kept.to(tensor.device), 0)


def _broadcast(kept: Tensor, member: Member, tensor: Tensor) -> Tensor:
    """A mask of slices as a mask of the member's tensor."""
    if member.axis == 0 or member.conv_groups == 1:
        ones = [1] * tensor.dim()
        ones[member.axis] = len(kept)
        return kept.reshape(ones).expand(tensor.shape)
    blocks = kept.reshape(member.conv_groups, 1, -1).expand(-1, len(tensor) // member.conv_groups, -1).flatten(0, 1)
    return blocks.reshape(*blocks.shape, *[1] * (tensor.dim() - 2)).expand(tensor.shape)


def coupled_groups(model: nn.Module, example_inputs: Inputs) -> tuple[CoupledGroup, ...]:
    """The groups of `model`'s channels that can be removed, in execution order; the model stays as it is.

    Channels that the network is given or returns, or that meet an operation that channels cannot be followed through,
    are in no group. Where blocks have to keep equally many (groups of a convolution, halves of a split), the i-th
    channels of all blocks are one unit. Weights do not matter: a removed unit takes its contribution with it.

    Args:
        example_inputs: one tensor, or the positional arguments of a forward pass.

    Raises:
        CaptureFailed: `torch.export` cannot follow the model.
    """
    return groups_of(trace(model, example_inputs))


def groups_of(record: Record) -> tuple[CoupledGroup, ...]:
    """The groups of a network that has been traced."""
    parts = partition(record, one_by_one=True)
    fixed = torch.zeros(int(parts.unit.max()) + 1 if len(parts.unit) else 0, dtype=torch.bool)
    for pin in record.pins:
        fixed[parts.unit[record.sets(pin.ids)]] = True
    found = []
    made = [record.sets(ids) for ids in record.makers]
    for group in dict.fromkeys(int(parts.group[sets[0]]) for sets in made):
        units = distinct(torch.cat([parts.unit[sets] for sets in made if int(parts.group[sets[0]]) == group]))
        units = units[~fixed[units]]
        if len(units) > 1:
            number = torch.full((len(fixed),), -1)
            number[units] = torch.arange(len(units))
            found.append(CoupledGroup(tuple(_members(record, number[parts.unit])), len(units)))
    return tuple(found)


def _members(record: Record, unit_of_set: Tensor) -> list[Member]:
    members: dict[tuple[str, int], Member] = {}
    for use in record.uses:
        for axis, ids in enumerate(use.axes):
            if ids is not None:
                units = unit_of_set[record.sets(ids.flatten())]
                module, _, tensor = use.tensor.rpartition(".")
                if bool((units >= 0).any()):
                    members.setdefault((use.tensor, axis), Member(module, tensor, axis, units, len(ids)))
    for name, value in record.bare.items():
        units = unit_of_set[record.sets(value.ids)]
        module, _, tensor = name.rpartition(".")
        for axis in range(units.dim() if bool((units >= 0).any()) else 0):
            rows = units.movedim(axis, 0).flatten(1)
            if bool((rows == rows[:, :1]).all()):
                members[name, axis] = Member(module, tensor, axis, rows[:, 0])
                break
    return list(members.values())
