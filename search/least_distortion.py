"""Candidates that are good by rule, before any was evaluated: the least distortion of the outputs within the budget."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
from numpy.typing import NDArray

from search.encoding import Code
from search.feasible import FeasibleSet
from supernet import Distortions

POWERS = (4.0, 8.0, 2.0, 1.0)
"""What is tried without noise, in this order."""
NEGLIGIBLE = 1e-3
"""Of the variance of the outputs."""
SPREAD = 0.2
"""Mean deviation of the logarithms of what distortions are multiplied by in a draw."""
PRICES = (-80.0, 40.0)
"""Of ln(lambda), distortions and milliseconds being relative to their largest."""
BISECTIONS = 40
CORRECTIONS = 6
FILLS = 8
"""One-site changes that are looked at, to use up what is left of a budget."""
DOUBT = 0.1
"""By how much a change may be expected to exceed what is left, and is looked at all the same."""
TRIES = 10


class LeastDistortion:
    """Trades distortions against latency at one price lambda for all sites.

    A site takes the choice of the least distortion^power + lambda * milliseconds, lambda being as low as the budget
    allows. What is left of the budget then goes to single sites. The power would be 1 if distortions added up (Everett
    1963; a knapsack, as HALP solves, arXiv 2110.10811). But at rates that halve a latency no site may be cut off: what
    it does not let through is lost to all behind it. Higher powers spread the damage evenly.

    Args:
        distortions: see `supernet.distortions`.
    """

    def __init__(self, feasible: FeasibleSet, distortions: Distortions) -> None:
        self._feasible = feasible
        self._distortions = _side_by_side(distortions, np.inf)
        self._distortions /= max(values.max() for values in distortions) or 1.0
        self._extra_ms = _side_by_side([np.asarray(extra) for extra in feasible.extra_ms], 0.0)
        self._dearest_ms = self._extra_ms.max() or 1.0

    def start(self, rng: np.random.Generator, seen: Container[Code]) -> Code | None:
        """A new candidate without noise, while there is one, then a drawn one; None where draws give nothing new."""
        for power in POWERS:
            if (code := self.code(power)) not in seen:
                return code
        draws = (self.draw(rng) for _ in range(TRIES))
        return next((code for code in draws if code not in seen), None)

    def draw(self, rng: np.random.Generator) -> Code:
        """A candidate for a power between 2 and 8, each distortion being off by a random factor."""
        power, spread = 2 ** rng.uniform(1, 3), rng.exponential(SPREAD)
        shape = self._distortions.shape
        return self.code(power, np.exp(spread * (rng.normal(size=(shape[0], 1)) + rng.normal(size=shape))))

    def code(self, power: float, factors: NDArray[np.float64] | None = None) -> Code:
        """The admitted candidate for a power. `factors` [sites, most choices of a site] multiply the distortions.

        Choices cost more in the whole than they add to the fastest candidate, or less. So what is allowed for the sum
        is corrected by what the whole took, a few times.
        """
        losses = (self._distortions if factors is None else self._distortions * factors) ** power
        slack_ms, fastest_ms = self._feasible.slack_ms, self._feasible.latency_ms(self._feasible.fastest)
        best, least, allowed_ms = self._feasible.fastest, np.inf, slack_ms
        rows = np.arange(len(losses))
        for _ in range(CORRECTIONS):
            indices = self._within(losses, allowed_ms)
            code = tuple(indices.tolist())
            loss, sum_ms = losses[rows, indices].sum(), self._extra_ms[rows, indices].sum()
            if self._feasible.admits(code) and loss < least:
                best, least = code, loss
            taken_ms = self._feasible.latency_ms(code) - fastest_ms
            if taken_ms <= 0 or (corrected_ms := sum_ms * slack_ms / taken_ms) == allowed_ms:
                break
            allowed_ms = corrected_ms
        return self._filled(best, losses)

    def _filled(self, code: Code, losses: NDArray[np.float64]) -> Code:
        """The code after one-site changes that lose less and still meet the budget, the best of them first."""
        rows, tries = np.arange(len(code)), FILLS
        fastest_ms = self._feasible.latency_ms(self._feasible.fastest)
        while tries:
            taken_ms, sum_ms = self._feasible.latency_ms(code) - fastest_ms, self._extra_ms[rows, code].sum()
            more_ms = (self._extra_ms - self._extra_ms[rows, code][:, None]) * (taken_ms / sum_ms if sum_ms else 1.0)
            gains = losses[rows, code][:, None] - losses
            gains[more_ms > (1 + DOUBT) * (self._feasible.slack_ms - taken_ms)] = -np.inf
            for place in np.argsort(-gains, axis=None, kind="stable")[:tries]:
                site, index = divmod(int(place), gains.shape[1])
                if gains[site, index] <= 0:
                    return code
                tries -= 1
                if self._feasible.admits(changed := (*code[:site], index, *code[site + 1 :])):
                    code = changed
                    break
        return code

    def _within(self, losses: NDArray[np.float64], allowed_ms: float) -> NDArray[np.intp]:
        """The choice of every site at the lowest price at which what they add sums up to so much at most."""
        low, high = PRICES
        rows = np.arange(len(losses))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            indices = np.argmin(losses + np.exp(middle) / self._dearest_ms * self._extra_ms, axis=1)
            if self._extra_ms[rows, indices].sum() <= allowed_ms:
                high = middle
            else:
                low = middle
        cheapest: NDArray[np.intp] = np.argmin(losses + np.exp(high) / self._dearest_ms * self._extra_ms, axis=1)
        return cheapest


def log_norms(distortions: Distortions, codes: Sequence[Code]) -> NDArray[np.float64]:
    """ln of the p-norms of what the sites of each code distort, p being the `POWERS`: [codes, powers]."""
    indices = np.array(codes)
    values = np.stack([site[indices[:, i]] for i, site in enumerate(distortions)], axis=1)
    norms = np.stack([np.sum(values**power, axis=1) ** (1 / power) for power in POWERS], axis=1)
    return np.asarray(np.log(norms + NEGLIGIBLE))


def _side_by_side(values: Sequence[NDArray[np.float64]], rest: float) -> NDArray[np.float64]:
    """Arrays of any length as rows: [arrays, longest]."""
    rows = np.full((len(values), max(map(len, values))), rest)
    for row, found in zip(rows, values, strict=True):
        row[: len(found)] = found
    return rows
