"""Which coupled sets are decided together, and how many of them have to go at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.dependency.components import components
from pruning.dependency.record import Record


@dataclass(frozen=True)
class Partition:
    """Coupled sets form units that go as a whole, units form strata, strata form groups; each int64 [number of sets].

    All sets that one layer makes are in one group. Strata of one group lose equally many units each; which ones is
    free.
    """

    group: Tensor
    stratum: Tensor
    unit: Tensor


def partition(record: Record, one_by_one: bool = False) -> Partition:
    """The partition of a network's coupled sets.

    Args:
        one_by_one: every group is to be one stratum, so that a unit can go alone: of blocks that keep equally many
            (groups of a convolution, halves of a split) the i-th sets are one unit. Otherwise blocks are strata,
            where they do not overlap.
    """
    count = int(record.sets(torch.arange(record.size)).max()) + 1 if record.size else 0
    balances = [record.sets(blocks) for blocks in record.balances]
    makers = [record.sets(ids) for ids in record.makers]
    group = components(count, (_chain(sets.flatten()) for sets in (*makers, *balances)))
    pinned = torch.zeros(count, dtype=torch.bool)
    for pin in record.pins:
        pinned[record.sets(pin.ids)] = True
    tied = {int(group[sets[0, 0]]) for sets in balances if one_by_one or bool(pinned[sets].any()) or _repeats(sets)}
    stratum = group.clone()
    taken = torch.zeros(count, dtype=torch.bool)
    labels = int(group.max()) + 1 if count else 0
    for row in (row for sets in balances for row in sets):
        number = int(group[row[0]])
        fresh = not bool(taken[row].any())
        same = bool((stratum[row] == stratum[row[0]]).all()) and int((stratum == stratum[row[0]]).sum()) == len(row)
        if fresh:
            stratum[row], taken[row], labels = labels, True, labels + 1
        elif not same:
            tied.add(number)
    loose = torch.tensor([int(number) not in tied for number in group.tolist()], dtype=torch.bool)
    pairs = [
        (sets[:1].expand_as(sets).flatten(), sets.flatten()) for sets in balances if int(group[sets[0, 0]]) in tied
    ]
    return Partition(group, torch.where(loose, stratum, group), components(count, pairs))


def _chain(sets: Tensor) -> tuple[Tensor, Tensor]:
    return sets[:-1], sets[1:]


def _repeats(sets: Tensor) -> bool:
    """Whether a set is in a row more than once."""
    return any(len(row.unique()) < len(row) for row in sets)
