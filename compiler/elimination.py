"""The exact minimum of a sum of functions of a few discrete variables each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Factor:
    """A function of `variables`, as a table with one axis a variable."""

    variables: tuple[str, ...]
    table: Table


def minimise(factors: Sequence[Factor], sizes: Mapping[str, int]) -> dict[str, int]:
    """The assignment of values 0 .. size - 1 to all variables for which the sum of the factors is least.

    Variables are eliminated one after another, the one with the fewest neighbours first, so that the effort is
    exponential only in how entangled they are: linear along chains, and little more around residual connections.
    """
    undo: list[tuple[str, tuple[str, ...], npt.NDArray[np.intp]]] = []
    place = {name: index for index, name in enumerate(sizes)}
    near: dict[str, set[str]] = {name: set() for name in sizes}
    terms = list(factors)
    about: dict[str, list[int]] = {name: [] for name in sizes}
    for number, factor in enumerate(factors):
        for name in factor.variables:
            about[name].append(number)
            near[name].update(factor.variables)
            near[name].discard(name)
    added: set[int] = set()
    queue = [(len(near[name]), place[name], name) for name in sizes]
    heapify(queue)
    while queue:
        neighbours, _, chosen = heappop(queue)
        if chosen not in near or neighbours != len(near[chosen]):
            continue  # it is in the queue a second time, or was eliminated
        others = tuple(sorted(near.pop(chosen), key=place.__getitem__))
        for name in others:
            near[name].update(others)
            near[name] -= {name, chosen}
            heappush(queue, (len(near[name]), place[name], name))
        scope = (chosen, *others)
        total = np.zeros([sizes[name] for name in scope])
        for number in about[chosen]:
            if number not in added:
                added.add(number)
                total += _spread(terms[number], scope)
        undo.append((chosen, others, total.argmin(0)))
        if others:
            for name in others:
                about[name].append(len(terms))
            terms.append(Factor(others, total.min(0)))
    values: dict[str, int] = {}
    for name, others, best in reversed(undo):
        values[name] = int(best[tuple(values[other] for other in others)])
    return values


def _spread(factor: Factor, scope: tuple[str, ...]) -> Table:
    """The factor's table with one axis for each variable of `scope`, of length 1 where it does not depend on it."""
    order = sorted(range(len(factor.variables)), key=lambda axis: scope.index(factor.variables[axis]))
    table = factor.table.transpose(order)
    absent = [axis for axis, name in enumerate(scope) if name not in factor.variables]
    return np.expand_dims(table, tuple(absent))
