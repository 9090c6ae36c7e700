"""The exact minimum of a sum of functions of a few discrete variables each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    left = list(factors)
    undo: list[tuple[str, tuple[str, ...], npt.NDArray[np.intp]]] = []
    waiting = list(sizes)
    place = {name: index for index, name in enumerate(sizes)}
    near: dict[str, set[str]] = {name: set() for name in sizes}
    for factor in factors:
        for name in factor.variables:
            near[name].update(factor.variables)
            near[name].discard(name)
    while waiting:
        chosen = min(waiting, key=lambda name: len(near[name]))
        waiting.remove(chosen)
        others = tuple(sorted(near.pop(chosen), key=place.__getitem__))
        for name in others:
            near[name].update(others)
            near[name] -= {name, chosen}
        scope = (chosen, *others)
        total = np.zeros([sizes[name] for name in scope])
        for factor in (f for f in left if chosen in f.variables):
            total += _spread(factor, scope)
        left = [f for f in left if chosen not in f.variables]
        undo.append((chosen, others, total.argmin(0)))
        if others:
            left.append(Factor(others, total.min(0)))
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
