"""Filters, or channels, of several layers that are coupled and therefore decided once for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.dependency.components import distinct
from pruning.dependency.coupling import Coupling
from pruning.sparsity import Sparsity, project
from pruning.target import Target


@dataclass(frozen=True, eq=False)
class Decision:
    """One choice of what stays for all of `targets`, whose slices are coupled.

    `units` holds for every target the unit of each of its slices, -1 for slices that this decision is not about;
    `strata` the units of which equally many stay in each; `sets` the coupled sets of every unit.
    """

    targets: tuple[Target, ...]
    units: tuple[Tensor, ...]
    strata: tuple[Tensor, ...]
    sets: tuple[Tensor, ...]

    @property
    def sparsity(self) -> Sparsity:
        """What is asked of the coupled layers."""
        return self.targets[0].sparsity

    @property
    def removes_filters(self) -> bool:
        """Whether it is about filters; otherwise about channels."""
        return self.sparsity.scheme.removes_filters

    def why_not(self) -> str | None:
        """None, or the reason why nothing can be decided."""
        names = " and ".join(target.name for target in self.targets)
        if len({target.sparsity for target in self.targets}) > 1:
            return f"{names} are coupled and are given different sparsities; a coupled set has one"
        if self.removes_filters and len(self.sets) == 1 < len(self.units[0]):
            return "all its filters are coupled with each other, so none can go alone"
        return None

    def why_needed(self, coupling: Coupling) -> str:
        """Why the network still depends on what the targets alone would give up."""
        sets = torch.cat(self.sets)
        makers, readers = " and ".join(coupling.makers(sets)), " and ".join(coupling.readers(sets))
        if len(coupling.makers(sets)) > 1:
            reason = f"the outputs of {makers} are added, so no one of them can lose channels alone"
        else:
            reason = f"what becomes of the channels that {makers} makes is not zero where it is read"
        if self.removes_filters:
            return f"{reason}; give all of them one filter sparsity"
        return f"{reason}, and {readers} read them; give all of these one channel sparsity"

    def why_idle(self) -> str:
        """Why nothing goes, where nothing does."""
        what = "filters" if self.removes_filters else "channels"
        return (
            f"its {what} go in {len(self.sets)} coupled sets, and all of these would stay: the scheme keeps as large "
            "multiples, or the rate is too close to 1"
        )

    def kept(self, weights: Sequence[Tensor]) -> Tensor:
        """Units that stay, bool [units], given the targets' weights: the best by the sum of the layers' scores.

        One layer's scores are divided by their mean first, so that a large one does not decide alone.
        """
        parts = [
            _by_unit(target.slices(weight), units, len(self.sets))
            for target, weight, units in zip(self.targets, weights, self.units, strict=True)
        ]
        if len(parts) > 1:
            parts = [part / part.double().square().sum(1).mean().sqrt().clamp_min(1e-30).to(part) for part in parts]
        matrix = torch.cat([part.to(parts[0]) for part in parts], 1)
        kept = torch.ones(len(matrix), dtype=torch.bool)
        for stratum in self.strata:
            kept[stratum] = _best(matrix[stratum.to(matrix.device)], self.sparsity).cpu()
        return kept

    def masks(self, kept: Tensor) -> dict[str, Tensor]:
        """Bool mask of every target's weight, by name, given the units that stay."""
        return {
            target.name: target.mask(torch.where(units >= 0, kept[units.clamp_min(0)], True))
            for target, units in zip(self.targets, self.units, strict=True)
        }

    def gone(self, kept: Tensor, size: int) -> Tensor:
        """Bool [size]: the coupled sets that go, given the units that stay."""
        marks = torch.zeros(size, dtype=torch.bool)
        for unit in (~kept).nonzero()[:, 0].tolist():
            marks[self.sets[unit]] = True
        return marks


def decisions(targets: Sequence[Target], coupling: Coupling) -> list[Decision]:
    """The decisions that the structural ones of `targets` need, in execution order."""
    found: dict[tuple[bool, int], list[Target]] = {}
    for target in targets:
        if target.structural:
            for group in distinct(coupling.partition.group[_coupled(target, coupling)]).tolist():
                found.setdefault((target.sparsity.scheme.removes_filters, group), []).append(target)
    return [_decision(members, group, coupling) for (_, group), members in found.items()]


def _coupled(target: Target, coupling: Coupling) -> Tensor:
    """The coupled set of every filter, or channel, of a structural target."""
    side = coupling.outputs if target.sparsity.scheme.removes_filters else coupling.inputs
    return side[target.name]


def _decision(targets: list[Target], group: int, coupling: Coupling) -> Decision:
    partition = coupling.partition
    axes = [_coupled(target, coupling) for target in targets]
    sets = distinct(torch.cat(axes))
    sets = sets[partition.group[sets] == group]
    labels = distinct(partition.unit[sets])
    number = torch.full((len(partition.unit),), -1)
    number[sets] = torch.searchsorted(labels, partition.unit[sets])
    members = tuple((partition.unit == label).nonzero()[:, 0] for label in labels)
    strata = partition.stratum[torch.stack([member[0] for member in members])]
    return Decision(
        targets=tuple(targets),
        units=tuple(number[axis] for axis in axes),
        strata=tuple((strata == stratum).nonzero()[:, 0] for stratum in distinct(strata)),
        sets=members,
    )


def _by_unit(slices: Tensor, units: Tensor, count: int) -> Tensor:
    """Slices [n, features] as rows [count, most slices of a unit * features], zeros where a unit has fewer."""
    units = units.to(slices.device)
    order = units.argsort(stable=True)
    order = order[units[order] >= 0]
    sorted_units = units[order]
    sizes = torch.bincount(sorted_units, minlength=count)
    rank = torch.arange(len(order), device=slices.device) - (sizes.cumsum(0) - sizes)[sorted_units]
    rows = slices.new_zeros(count, int(sizes.max()), slices.shape[1])
    rows[sorted_units, rank] = slices[order]
    return rows.flatten(1)


def _best(rows: Tensor, sparsity: Sparsity) -> Tensor:
    """Rows that stay."""
    if len(rows) == 1:
        return torch.ones(1, dtype=torch.bool, device=rows.device)
    if sparsity.scheme.removes_filters:
        return project(rows, sparsity).any(1)
    return project(rows.T, sparsity).any(0)
