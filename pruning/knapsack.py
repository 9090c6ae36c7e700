"""The multiple-choice knapsack: one option of every layer, so that little is lost and the time stays in a budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pruning.errors import BudgetTooSmall, InvalidOption

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-9
"""Relative size of differences that come from the order of a sum."""
STATES = 50_000
"""Unfinished selections that are followed exactly. Where there are more, those that can gain less than `GAP` go."""
GAP = 1e-3


@dataclass(frozen=True)
class Option:
    """What one choice costs: importance that is lost, and milliseconds. Either may be relative to any zero point."""

    lost: float
    ms: float


Slot = Sequence[Option]
"""Of its options one is taken."""
Alternative = Sequence[Slot]
"""Slots that are chosen independently of each other."""
Site = Sequence[Alternative]
"""Of its alternatives one is taken: coupled layers all alike, or each for itself, for example."""


class Pick(NamedTuple):
    """Choice at one site: the alternative, and the option in each of its slots."""

    alternative: int
    options: tuple[int, ...]


@dataclass(frozen=True)
class Selection:
    """A choice at every site. No other within the budget loses less than `lost` - `gap`."""

    picks: tuple[Pick, ...]
    lost: float
    ms: float
    gap: float


def select(sites: Sequence[Site], budget_ms: float) -> Selection:
    """The selection with the least sum of losses whose milliseconds sum up to the budget at most.

    Branch and bound, site by site and breadth first (Nemhauser and Ullmann 1969): of unfinished selections those stay
    that no other one beats in loss and in time, and whose loss with the linear relaxation of the rest (Sinha and
    Zoltners 1979: the convex hull of every site's options) is no higher than that of a selection already known. That is
    exact, so `gap` is 0, unless more than 50,000 selections stay: then those that could be better by less than 0.1 %
    go too, and `gap` says how much may have been given up.

    Args:
        sites: at least one option in each slot.
        budget_ms: sums may exceed it by rounding errors (a relative 1e-9).

    Raises:
        BudgetTooSmall: no selection is within the budget.
        InvalidOption: a loss or a time is not finite, or a slot has no options.
    """
    _check(sites)
    hulls = [_site_hull(site) for site in sites]
    rests = [_sum(hulls[index:]) for index in range(len(hulls) + 1)]
    slack = ROUNDING * sum(float(np.abs(hull.ms).max()) for hull in hulls)
    if rests[0].ms[0] > budget_ms + slack:
        raise BudgetTooSmall(budget_ms, float(rests[0].ms[0]))
    search = _Search(budget_ms + slack, ROUNDING * sum(float(np.abs(hull.lost).max()) for hull in hulls))
    width = sum(len(alternative) for site in sites for alternative in site)
    states = _States(np.zeros(1), np.zeros(1), np.full((1, width), -1, dtype=np.int32))
    column = 0
    for site, rest in zip(sites, rests[1:], strict=True):
        branches = []
        for alternative in site:
            branch = states
            for index, slot in enumerate(alternative):
                behind = _sum([*map(_slot_hull, alternative[index + 1 :]), rest])
                branch = search.extend(branch, slot, column, behind)
                column += 1
            branches.append(branch)
        states = search.reduce(_joined(branches), rest)
    best = int(states.lost.argmin())
    return Selection(
        _picks(sites, states.chosen[best].tolist()), float(states.lost[best]), float(states.ms[best]), search.gap
    )


class _Hull(NamedTuple):
    """Corners of the lower convex hull: milliseconds ascending, losses descending, each a real choice."""

    ms: Floats
    lost: Floats

    def least(self, ms: Floats) -> Floats:
        """A lower bound of what is lost within `ms`; infinite where nothing fits."""
        return np.where(ms < self.ms[0], np.inf, np.interp(ms, self.ms, self.lost))

    def reached(self, ms: Floats) -> Floats:
        """What a real choice within `ms` loses; infinite where nothing fits."""
        index = np.searchsorted(self.ms, ms, side="right") - 1
        return np.where(index < 0, np.inf, self.lost[np.maximum(index, 0)])


class _States(NamedTuple):
    """Unfinished selections: sums so far [n], and the option taken in every slot [n, slots], -1 for none."""

    ms: Floats
    lost: Floats
    chosen: npt.NDArray[np.int32]

    def at(self, index: npt.NDArray[np.intp]) -> "_States":
        return _States(self.ms[index], self.lost[index], self.chosen[index])


@dataclass
class _Search:
    """The best loss known to be reachable, and how far below it the best may be."""

    budget: float
    rounding: float
    known: float = field(default=np.inf)
    gap: float = 0.0

    def extend(self, states: _States, slot: Slot, column: int, rest: _Hull) -> _States:
        """Every state with every option of a slot, reduced."""
        ms = np.add.outer(states.ms, [option.ms for option in slot])
        lost = np.add.outer(states.lost, [option.lost for option in slot])
        state, option = (index.reshape(-1) for index in np.indices(ms.shape))
        kept = self._kept(ms.reshape(-1), lost.reshape(-1), rest)
        chosen = states.chosen[state[kept]]
        chosen[:, column] = option[kept]
        return _States(ms.reshape(-1)[kept], lost.reshape(-1)[kept], chosen)

    def reduce(self, states: _States, rest: _Hull) -> _States:
        """The states that may still become the best selection."""
        return states.at(self._kept(states.ms, states.lost, rest))

    def _kept(self, ms: Floats, lost: Floats, rest: _Hull) -> npt.NDArray[np.intp]:
        if not len(ms):
            return np.arange(0)
        left = self.budget - ms
        self.known = min(self.known, float((lost + rest.reached(left)).min()))
        bound = lost + rest.least(left)
        kept = np.flatnonzero(bound <= self.known + self.rounding)
        kept = kept[np.lexsort((lost[kept], ms[kept]))]
        best_before = np.minimum.accumulate(np.concatenate([[np.inf], lost[kept][:-1]]))
        kept = kept[lost[kept] < best_before]
        if len(kept) > STATES:
            gap = GAP * abs(self.known)
            reached = lost + rest.reached(left) <= self.known + self.rounding
            promising = kept[(bound[kept] <= self.known - gap) | reached[kept]]
            self.gap, kept = max(self.gap, gap), promising
        return kept


def _check(sites: Sequence[Site]) -> None:
    for index, site in enumerate(sites):
        slots = [slot for alternative in site for slot in alternative]
        if not site or not all(slots):
            raise InvalidOption(f"site {index} has nothing to choose from; give at least one option a slot")
        for option in (option for slot in slots for option in slot):
            if not (np.isfinite(option.lost) and np.isfinite(option.ms)):
                raise InvalidOption(f"{option} at site {index}: losses and milliseconds are finite numbers")


def _slot_hull(slot: Slot) -> _Hull:
    return _lower(np.array([option.ms for option in slot]), np.array([option.lost for option in slot]))


def _site_hull(site: Site) -> _Hull:
    parts = [_sum([_slot_hull(slot) for slot in alternative]) for alternative in site]
    return _lower(np.concatenate([part.ms for part in parts]), np.concatenate([part.lost for part in parts]))


def _lower(ms: Floats, lost: Floats) -> _Hull:
    """Lower left convex hull of points."""
    corners: list[tuple[float, float]] = []
    for index in np.lexsort((lost, ms)):
        x, y = float(ms[index]), float(lost[index])
        if corners and y >= corners[-1][1]:
            continue
        while len(corners) > 1:
            (a, b), (c, d) = corners[-2:]
            if (d - b) * (x - c) < (y - d) * (c - a):
                break
            corners.pop()
        corners.append((x, y))
    return _Hull(*np.array(corners, dtype=np.float64).T)


def _sum(hulls: Sequence[_Hull]) -> _Hull:
    """Hull of the sums of one point of each: their edges, the steepest first."""
    steps = [np.stack([np.diff(hull.ms), np.diff(hull.lost)], axis=1) for hull in hulls]
    edges = np.concatenate([np.zeros((0, 2)), *steps])
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # edges may be as short as rounding errors
        slopes = edges[:, 1] / edges[:, 0]
    edges = edges[np.argsort(slopes, kind="stable")]
    start = [sum(float(hull.ms[0]) for hull in hulls), sum(float(hull.lost[0]) for hull in hulls)]
    return _Hull(*np.cumsum(np.concatenate([[start], edges]), axis=0).T)


def _joined(branches: Sequence[_States]) -> _States:
    return _States(*(np.concatenate(parts) for parts in zip(*branches, strict=True)))


def _picks(sites: Sequence[Site], chosen: list[int]) -> tuple[Pick, ...]:
    picks = []
    for site in sites:
        for number, alternative in enumerate(site):
            options, chosen = tuple(chosen[: len(alternative)]), chosen[len(alternative) :]
            if -1 not in options:
                picks.append(Pick(number, options))
    return tuple(picks)
